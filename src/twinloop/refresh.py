"""Refresh: the champion's own recipe fitted again on newer rows, in place of a new search.

A search cross-validates every candidate, and perhaps tunes; a refresh fits what won the last one.
It takes over the kind of model, its settings and the members of an ensemble, finds anew how many
trees do good, and is judged as whatever comes out of a search is.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal

from twinloop.blend import Blend
from twinloop.candidates import Predictor
from twinloop.logplan import LogItem, Param, Tag
from twinloop.paired import FEWEST_BLOCKS
from twinloop.recipe import Recipe
from twinloop.results import CandidateResult, Member
from twinloop.vocabulary import Frozen
from twinloop.window import Window, format_duration
from twinloop.workload import Workload

# What a training did: fit a recipe that was there, or look for one.
HowMade = Literal["refresh", "search"]
HOW = "twinloop.recipe"

_DAY = timedelta(days=1)
# Its folds teach calibration and the reference profile, and choose nothing: three reach back over
# three quarters of the rows, five over five sixths, for twice the price.
_FOLDS = 3


class History(Frozen):
    """Which rows a refresh is fitted on, and how much older ones count.

    Attributes
    ----------
    span
        Back from the end of the labelled rows; None: all there are.
    half_life
        Age at which a row counts half; None: as the workload says.
    """

    span: timedelta | None
    half_life: timedelta | None = None

    @property
    def words(self) -> str:
        """Spell it: ``180d``, ``360d by half-life 60d``."""
        span = "all rows" if self.span is None else format_duration(self.span)
        aged = "" if self.half_life is None else f" by half-life {format_duration(self.half_life)}"
        return f"{span}{aged}"


def refresh_holdout(workload: Workload, span: timedelta, new: timedelta) -> timedelta | None:
    """Return how long the holdout of a refresh is; None where too little is new to have one.

    A refresh is to know rows that the champion does not, and to be judged on others that neither
    knows. With a holdout as long as all that is new it would know no more than the champion, and be
    judged for it. So it is half of what is new, in whole days, and no longer than the workload's.

    Parameters
    ----------
    workload
        Its own holdout is the longest.
    span
        Of all rows to be fitted and judged on.
    new
        From the champion's last row to the newest labelled one.
    """
    own = workload.training.holdout
    longest = own if isinstance(own, timedelta) else own * span
    least = min(longest, FEWEST_BLOCKS * _DAY)
    half = new / 2
    half = half if half < _DAY else half // _DAY * _DAY
    return min(longest, half) if half >= least else None


def refresh_workload(workload: Workload, window: Window, holdout: timedelta) -> Workload:
    """Return the workload as a refresh trains it: so long a window and holdout, and no search."""
    training = workload.training
    changes: dict[str, Any] = {
        "window": window.end - window.start,
        "holdout": holdout,
        "folds": min(_FOLDS, training.folds),
        "tuning": training.tuning.model_copy(update={"trials": 0}),
        "learning_curve": False,
    }
    return workload.model_copy(update={"training": training.model_copy(update=changes)})


def main_recipe(winner: CandidateResult, predictor: Predictor | None = None) -> Recipe:
    """Return the recipe that stands for a candidate: of an ensemble that of its heaviest member.

    Parameters
    ----------
    winner
        What was fitted.
    predictor
        What came of it, if the recipe is to grow as many trees: finding out how many do good takes
        more than half of a fit, and says little of which rows are the better ones.
    """
    first = winner.members[0] if winner.members else winner
    made = first.recipe or Recipe(candidate=first.name)
    if predictor is None:
        return made
    if isinstance(predictor.model, Blend):
        predictor = predictor.model.members[predictor.model.names.index(first.name)]
    return made.model_copy(update={"rounds": boosted_rounds(predictor)})


def aged(recipe: Recipe, history: History, before: History | None = None) -> Recipe:
    """Return a recipe that is fitted on a history: as far back, its rows ageing so.

    Parameters
    ----------
    recipe
        Where the history says nothing its own half-life stays, as tuning has found it, and so does
        how far back it reaches where that is less.
    history
        Which rows are fitted.
    before
        The history the recipe was fitted on last: what came from there goes with it.
    """
    own = recipe.half_life
    if before is not None and before.half_life is not None and own == before.half_life:
        own = None
    spans = [recipe.recent, history.span]
    if before is not None and before.span == recipe.recent:
        spans = [history.span]
    changes = {
        "half_life": history.half_life or own,
        "recent": min((span for span in spans if span is not None), default=None),
    }
    return recipe.model_copy(update=changes)


def aged_result(
    winner: CandidateResult, history: History, before: History | None = None
) -> CandidateResult:
    """Return a candidate, all members of an ensemble included, with rows that age so."""
    return _with_recipes(winner, lambda made: aged(made, history, before))


def _with_recipes(winner: CandidateResult, change: Callable[[Recipe], Recipe]) -> CandidateResult:
    """Return a candidate with its recipe changed, of an ensemble those of its members."""
    if not winner.members:
        made = winner.recipe or Recipe(candidate=winner.name)
        return winner.model_copy(update={"recipe": change(made)})
    members = tuple(
        m.model_copy(update={"recipe": change(m.recipe or Recipe(candidate=m.name))})
        for m in winner.members
    )
    # Nothing but members is fitted again: what was not picked then is not tried now.
    pool = tuple(Member(name=m.name, weight=0.0, recipe=m.recipe) for m in members)
    return winner.model_copy(update={"members": members, "pool": pool})


def boosted_rounds(predictor: Predictor) -> int | None:
    """Return how many rounds of trees a booster has; None of any other model."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if predictor.library == "xgboost":
        return int(predictor.model.num_boosted_rounds())
    if isinstance(predictor.model, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        return int(predictor.model.n_iter_)
    return None


def refresh_words(version: str, history: History) -> str:
    """Say what a refresh is of: ``refresh of version 3 on 90d``."""
    return f"refresh of version {version} on {history.words}"


def plan_refresh(words: str, version: str) -> Iterator[LogItem]:
    """Yield what tells a refresh from a search."""
    yield Tag(HOW, "refresh")
    yield Tag("twinloop.refreshes", version)
    yield Param("made_by", words)
