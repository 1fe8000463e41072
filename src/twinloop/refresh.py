"""Refresh: the champion's own recipe fitted again on newer rows, in place of a new search.

A search cross-validates every candidate, and perhaps tunes; a refresh fits what won the last one.
It takes over the kind of model, its settings, the members of an ensemble and how many trees a
booster grows, and is judged as whatever comes out of a search is.
"""

from collections.abc import Iterator, Mapping
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


def champion_recipe(
    winner: CandidateResult, predictor: Predictor, history: History
) -> CandidateResult:
    """Return what made the champion, as a candidate to be fitted again.

    Parameters
    ----------
    winner
        Of the search that made the champion, or of the refresh.
    predictor
        The champion's: it knows how many trees there are.
    history
        Its half-life takes the place of the recipe's, its span that of how far back one reached.
    """
    aged = {} if history.half_life is None else {"half_life": history.half_life}
    if isinstance(predictor.model, Blend):
        parts: Mapping[str, Predictor] = dict(
            zip(predictor.model.names, predictor.model.members, strict=True)
        )
        members = tuple(
            m.model_copy(update={"recipe": _again(m.name, m.recipe, parts[m.name], aged)})
            for m in winner.members
        )
        pool = tuple(Member(name=m.name, weight=0.0, recipe=m.recipe) for m in members)
        return winner.model_copy(update={"members": members, "pool": pool})
    return winner.model_copy(update={"recipe": _again(winner.name, winner.recipe, predictor, aged)})


def _again(
    name: str, recipe: Recipe | None, predictor: Predictor, aged: Mapping[str, timedelta]
) -> Recipe:
    made = recipe or Recipe(candidate=name)
    return made.model_copy(update={"rounds": boosted_rounds(predictor), **aged})


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
