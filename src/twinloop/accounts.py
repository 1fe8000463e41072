"""Accounts: what a model costs over its life, and what it gives for that, from the ledger."""

import math
from datetime import datetime
from typing import Literal

from twinloop.ledger import Loop
from twinloop.vocabulary import Frozen

Unit = Literal["hour", "day", "week", "month"]
# As `twinloop.evaluation.METRICS` has it, whose import takes a second; a test compares the two.
GREATER_IS_BETTER = frozenset({"r2", "accuracy", "roc_auc", "macro_f1"})


def needed(metric: str) -> tuple[str, ...]:
    """Return the metrics that accounts are made of, for whoever reads the ledger.

    Parameters
    ----------
    metric
        What the workload is judged by.
    """
    return (
        f"accuracy/{metric}",
        f"accuracy/cv_{metric}",
        "accuracy/known",
        "cost/money",
        "cost/energy_kwh",
        "cost/co2_g",
        "cost/estimate_error",
        "time/estimate_error",
        "time/wall_s",
        "time/cpu_s",
        "time/predict_1000_rows_s",
        "rows/scored",
        "verdict/champion",
        "verdict/challenger",
    )


class Shares(Frozen):
    """Money by what it was spent on."""

    training: float = 0.0
    inference: float = 0.0
    watching: float = 0.0
    other: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.inference + self.watching + self.other

    def of(self, loop: Loop) -> float:
        """Return one part."""
        return float(getattr(self, loop))


class Period(Frozen):
    """What was spent in an hour, a day, a week or a month (UTC), by when runs began."""

    start: datetime
    money: Shares


class Payback(Frozen):
    """After how many predictions a version that is cheaper to score with has paid for its training.

    Attributes
    ----------
    against
        The version that served before.
    saving
        Money saved with each prediction; 0 or below where it is no cheaper.
    predictions
        After so many it is paid for; None: never.
    done
        Predictions it has made.
    measured
        Whether the saving is that of scoring runs of both, or of their timings in training.
    """

    against: str
    saving: float
    predictions: float | None
    done: int
    measured: bool

    @property
    def share(self) -> float:
        """How much of it is paid for, 1 or above for all; 0 where it never will be."""
        if self.predictions is None:
            return 0.0
        # A training that cost nothing is paid for from the start.
        return self.done / self.predictions if self.predictions else 1.0


class VersionAccount(Frozen):
    """What one version cost, and what it gave.

    Attributes
    ----------
    score
        The metric on the holdout of its training; NaN where it is unknown.
    latency_ms
        Milliseconds to predict 1,000 rows, as its training timed it.
    served_from, served_until
        The moments its service is meant for, UTC; None where it never served, or still does.
    trained_here
        Whether its training is billed in the currency of the account; what it took is unknown if
        not.
    predictions
        Rows it scored; a window that was scored again counts once.
    billed
        Those of them whose scoring is billed in the currency of the account.
    gain_on_baseline, gain_on_champion
        Points of the metric (see `points`) over the baseline on the same folds, and over the
        champion of its day on the same fresh rows.
    """

    version: str
    winner: str
    verdict: str
    trained_at: datetime
    served_from: datetime | None
    served_until: datetime | None
    is_champion: bool
    score: float
    latency_ms: float
    money: Shares
    trained_here: bool
    predictions: int
    billed: int
    gain_on_baseline: float
    gain_on_champion: float
    payback: Payback | None
    on_front: bool

    @property
    def per_1000(self) -> float:
        """Money for scoring 1,000 rows; NaN where none was billed."""
        return 1000 * self.money.inference / self.billed if self.billed else math.nan

    @property
    def per_1000_in_all(self) -> float:
        """Money for 1,000 predictions with training and watching; NaN where none was billed."""
        known = self.billed and self.trained_here
        return 1000 * self.money.total / self.billed if known else math.nan

    def per_point(self, gain: float) -> float:
        """Return what a point gained took to train; NaN where none was gained, or unknown."""
        return self.money.training / gain if gain > 0 and self.trained_here else math.nan


class Spender(Frozen):
    """What runs of a kind used."""

    kind: str
    runs: int
    money: float
    kwh: float
    co2_g: float
    cpu_s: float


class Accuracy(Frozen):
    """How far off the estimates before runs were: medians, as shares of what was said."""

    kind: str
    runs: int
    money: float
    time: float


class Account(Frozen):
    """The costs of a workload.

    Attributes
    ----------
    unit, periods
        Spending over time, the oldest first, without gaps.
    unversioned
        Money on no version's bill: failed trainings, preparations by hand, and whatever belongs to
        versions whose training is not in the ledger.
    unversioned_rows
        Predictions of such versions.
    left_out
        Runs whose bill is in another currency.
    billed
        Predictions whose scoring is billed in this one.
    without_bill
        Runs that have ended and lack accuracy, time or cost.
    """

    workload: str
    metric: str
    currency: str
    runs: int
    until: datetime
    unit: Unit
    periods: tuple[Period, ...]
    money: Shares
    spenders: tuple[Spender, ...]
    versions: tuple[VersionAccount, ...]
    unversioned: float
    estimates: tuple[Accuracy, ...]
    left_out: int = 0
    unversioned_rows: int = 0
    billed: int = 0
    without_bill: int = 0

    @property
    def predictions(self) -> int:
        """Rows that all versions have scored."""
        return sum(v.predictions for v in self.versions) + self.unversioned_rows

    @property
    def kwh(self) -> float:
        """Energy of all runs."""
        return sum(s.kwh for s in self.spenders)

    @property
    def co2_g(self) -> float:
        """Grams of CO2 of all runs."""
        return sum(s.co2_g for s in self.spenders)

    @property
    def per_1000(self) -> float:
        """Money for 1,000 predictions, all spending counted; NaN where none was billed."""
        return 1000 * self.money.total / self.billed if self.billed else math.nan


def points(metric: str, old: float, new: float) -> float:
    """Return how many points a score is better than another, positive is better.

    A point is 0.01 of a metric of which more is better, and 1 % of the old error of one of which
    less is better: a point less than an error of 40 is an error of 39.6.
    """
    if metric in GREATER_IS_BETTER:
        return 100 * (new - old)
    return 100 * (old - new) / old if old > 0 else math.nan
