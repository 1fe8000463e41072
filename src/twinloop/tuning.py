"""Tuning: which trials go on, which is the best, and when the search has had its budget."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from twinloop.costs import Quantities
from twinloop.evaluation import METRICS
from twinloop.intervals import corrected_error
from twinloop.recipe import Recipe
from twinloop.training_keys import Tuning
from twinloop.vocabulary import Frozen, Score, TunableName

State = Literal["complete", "pruned", "failed", "stopped"]
Ending = Literal["trials", "minutes", "money", "budget"]
# A median of fewer says nothing yet.
_ENOUGH = 5
# One in ten trials as good as the best is given up for bad luck in its folds.
_CONFIDENCE = 0.9


class Trial(Frozen):
    """One set of values, and what the folds made of it.

    Attributes
    ----------
    number
        Trials are counted as they end, from 0.
    source
        Where the values come from. Two are as shipped but for one thing: recent, on the latest
        rows; categories, by another way to divide these.
    values
        Of the search space, by name.
    recipe
        What was fitted.
    scores
        The metric of each fold that was run, in their order.
    state
        pruned: given up after some folds, as no good; failed: a fit raised an error; stopped: the
        budget ended in the middle of it.
    seconds
        Its share of the time: those of trials that ran side by side add up to the time they took.
    cpu_seconds, peak_bytes, money
        What its fits used (memory: the process as a whole), and cost.
    used, energy
        All they used, and how energy was measured; what was kept by earlier releases has neither.
    started, ended
        Seconds since 1970.
    spent
        Seconds of searching when it ended, of this process and of those before.
    parent
        MLflow's id of the run it is a part of.
    """

    number: int
    source: Literal["default", "champion", "recent", "categories", "search"]
    values: dict[str, int | float]
    recipe: Recipe
    scores: tuple[Score, ...]
    state: State
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    money: float
    started: float
    ended: float
    spent: float
    used: Quantities | None = None
    energy: str = ""
    parent: str = ""
    error: str = ""

    @property
    def counts(self) -> bool:
        """Whether it was tried to its end; one that a budget stopped was not."""
        return self.state != "stopped"

    @property
    def score(self) -> float:
        """Mean metric over the folds that were run and have one."""
        known = [s for s in self.scores if not math.isnan(s)]
        return statistics.fmean(known) if known else math.nan


class Search(Frozen):
    """The search for the settings of one candidate.

    Attributes
    ----------
    folds
        How many each trial has, unless it is pruned.
    ending
        The budget that ended it: one of its own, or that of the training as a whole.
    resumed
        How many of the trials were there already, from a run before that was killed.
    """

    candidate: TunableName
    metric: str
    folds: int
    trials: tuple[Trial, ...] = ()
    ending: Ending
    resumed: int = 0

    @property
    def best(self) -> Trial | None:
        """The trial with the best mean over all folds, the first of several; None if there is none.

        The candidate as it is shipped is always the first that is tried, so nothing that is as
        good as it takes its place.
        """
        return next(iter(self.ranked), None)

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """The trials that saw all folds, the best first."""
        whole = [t for t in self.trials if t.state == "complete" and not math.isnan(t.score)]
        loss = METRICS[self.metric].gain
        return tuple(sorted(whole, key=lambda t: (loss(0.0, t.score), t.number)))

    @property
    def default(self) -> Trial | None:
        """The trial of the candidate as it is shipped."""
        return next((t for t in self.trials if t.source == "default" and t.counts), None)

    @property
    def seconds(self) -> float:
        """Time of searching."""
        return max((t.spent for t in self.trials), default=0.0)

    @property
    def money(self) -> float:
        """What the fits of all trials cost."""
        return sum(t.money for t in self.trials)

    def count(self, state: State) -> int:
        """Return how many trials ended so."""
        return sum(t.state == state for t in self.trials)


@dataclass(frozen=True)
class Limits:
    """What a search may use.

    Attributes
    ----------
    trials
        How many.
    seconds, money
        Infinite where there is no such budget.
    """

    trials: int
    seconds: float = math.inf
    money: float = math.inf

    def ending(self, trials: int, seconds: float, money: float) -> Ending | None:
        """Return which budget is spent, or None while there is some of each."""
        if trials >= self.trials:
            return "trials"
        if seconds >= self.seconds:
            return "minutes"
        return "money" if money >= self.money else None

    def share(self, trials: int, seconds: float, money: float) -> float:
        """Return how much of the budget that ends first is used, from 0 to 1."""
        shares = (trials / max(self.trials, 1), seconds / self.seconds, money / self.money)
        return min(max(shares), 1.0)

    @classmethod
    def of(cls, tuning: Tuning, searches: int) -> "Limits":
        """Return the limits of one of some searches, which share minutes and money evenly."""
        seconds = math.inf if tuning.minutes is None else 60 * tuning.minutes / searches
        money = math.inf if tuning.money is None else tuning.money / searches
        return cls(tuning.most_trials, seconds, money)


def stages(n_folds: int) -> tuple[int, ...]:
    """Return after how many folds a trial is looked at: 1, 2, 4, and so on, and all of them."""
    doubled = [2**i for i in range(max(n_folds - 1, 0).bit_length())]
    return (*(n for n in doubled if n < n_folds), n_folds)


def hopeless(
    own: Sequence[float], others: Sequence[Sequence[float]], best: Sequence[float], overlap: float
) -> bool:
    """Tell whether a trial is given up after some of its folds.

    It is, where its mean over the folds it has seen is worse than the median of what others had
    over the same folds (Golovin et al. 2017, "Google Vizier", section 3.2.1), or where its
    differences to the best trial, fold by fold, are more than luck explains (racing: Maron and
    Moore 1994). A fold is compared with the same fold only: by time, a later one may be much
    harder or easier than an earlier one.

    Parameters
    ----------
    own
        Losses of its folds so far, smaller is better; NaN where a fold has no score.
    others
        Losses of other trials, of those with as many folds or more.
    best
        Losses of the best trial that has seen all folds; empty if there is none.
    overlap
        Validation rows to one fitted row: see `twinloop.intervals.corrected_error`.
    """
    seen = len(own)
    means = [mean for o in others if len(o) >= seen and not math.isnan(mean := _mean(o[:seen]))]
    mine = _mean(own)
    if math.isnan(mine):
        return False
    if len(means) >= _ENOUGH and mine > statistics.median(means):
        return True
    behind = [o - b for o, b in zip(own, best, strict=False) if not math.isnan(o - b)]
    if len(behind) < 2:
        return False
    from scipy.special import stdtrit

    factor = float(stdtrit(len(behind) - 1, _CONFIDENCE))
    return statistics.fmean(behind) > factor * corrected_error(behind, overlap)


def mean_losses(losses: Sequence[float]) -> list[float]:
    """Return the mean loss after one fold, after two, and so on; NaN before any has one."""
    return [_mean(losses[:n]) for n in range(1, len(losses) + 1)]


def _mean(losses: Sequence[float]) -> float:
    known = [v for v in losses if not math.isnan(v)]
    return statistics.fmean(known) if known else math.nan
