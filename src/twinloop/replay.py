"""Replay: past time, tick by tick, and what became of a policy."""

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from twinloop.errors import WorkloadError, nearest
from twinloop.vocabulary import Frozen
from twinloop.window import Duration, format_duration

PolicyKind = Literal["never", "every", "drift"]


class Policy(Frozen):
    """When to retrain: ``never``, ``every:28d`` or ``drift``."""

    kind: PolicyKind
    every: Duration | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a policy as the command line spells it.

        Raises
        ------
        WorkloadError
            If it is none of the three.
        """
        kind, _, span = text.partition(":")
        if text in ("never", "drift"):
            return cls(kind=text)
        if kind == "every":
            return cls(kind="every", every=_every(text, span))
        known = ("never", "drift", "every:28d")
        raise WorkloadError(f"unknown policy {text!r}. {nearest(text, known)}")

    @property
    def slug(self) -> str:
        """Name for a folder or a model: letters, digits and hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", str(self))

    def is_due(self, since: timedelta) -> bool:
        """Tell whether to train by the clock, so long after the last training."""
        return self.every is not None and since >= self.every

    def __str__(self) -> str:
        return f"every:{format_duration(self.every)}" if self.every else self.kind


def _every(text: str, span: str) -> timedelta:
    try:
        every: timedelta = TypeAdapter(Duration).validate_python(span)
    except (ValueError, ValidationError) as err:
        raise WorkloadError(f"policy {text!r}: {span!r} is no duration, like every:28d.") from err
    if not every:
        raise WorkloadError(f"policy {text!r}: no time lies between two trainings; try every:28d.")
    return every


class Tick(Frozen):
    """What happened at one stop of the moving clock.

    Attributes
    ----------
    error
        The workload's metric on the rows scored, by labels that came later; None where none came.
    labelled
        Rows with a label.
    trained
        Whether a training ran; `verdict` is its outcome.
    money
        All runs of this tick.
    """

    as_of: datetime
    scored: int
    quarantined: int
    error: float | None
    labelled: int
    drifted: tuple[str, ...] = ()
    decision: str = ""
    reason: str = ""
    trained: bool = False
    verdict: str = ""
    champion: str = ""
    money: float = 0.0

    def line(self) -> str:
        """Say it in one line."""
        error = "      " if self.error is None else f"{self.error:.4f}"
        drifted = f"  drifted: {', '.join(self.drifted)}" if self.drifted else ""
        trained = f"  trained: {self.verdict}" if self.trained else ""
        bad = f", {self.quarantined} quarantined" if self.quarantined else ""
        return (
            f"{self.as_of:%Y-%m-%d}  v{self.champion} scored {self.scored}{bad}, error {error}"
            f"  {self.decision}{trained}{drifted}"
        )


class PolicyResult(Frozen):
    """A policy over the whole of the past.

    Attributes
    ----------
    error
        The metric over all labelled rows of all ticks.
    training_money, money
        Cost of all trainings, and of everything.
    training_energy_kwh, energy_kwh
        Energy of the same, estimated.
    seconds
        Wall time of its ticks, beside whatever else ran.
    """

    policy: str
    metric: str
    currency: str
    error: float
    trainings: int
    promotions: int
    scored: int
    quarantined: int
    training_money: float
    money: float
    training_energy_kwh: float = 0.0
    energy_kwh: float = 0.0
    seconds: float
    ticks: tuple[Tick, ...]


class ReplayResult(Frozen):
    """Several policies side by side."""

    workload: str
    replay_id: str
    start: datetime
    end: datetime
    policies: tuple[PolicyResult, ...]


def clock(start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    """List the stops of the clock: every `step` after `start`, up to `end`.

    Raises
    ------
    WorkloadError
        If the step leads nowhere.
    """
    if step <= timedelta(0):
        raise WorkloadError(f"a replay in steps of {step} never ends.", "Give a step like 7d.")
    stops = []
    at = start + step
    while at <= end:
        stops.append(at)
        at += step
    return stops


def overall(metric: str, ticks: Sequence[Tick]) -> float:
    """Return the metric over all ticks, each by its number of labelled rows.

    Exact where the metric is a function of a mean loss (RMSE, RMSLE, MAE, log loss, ...); for
    others, like ROC AUC, the mean of the ticks' values. Ticks without a value (labels of one class
    have no ROC AUC) do not count.
    """
    known = [(t.error, t.labelled) for t in ticks if t.error is not None]
    known = [(error, n) for error, n in known if not math.isnan(error)]
    rows = sum(n for _, n in known)
    if not rows:
        return float("nan")
    # RMSE and RMSLE average as squares.
    power = 2 if metric in ("rmse", "rmsle") else 1
    mean = sum(n * error**power for error, n in known) / rows
    return float(mean ** (1 / power))


def by_month(ticks: Sequence[Tick]) -> list[tuple[str, tuple[Tick, ...]]]:
    """Group ticks by the month they end in, in order."""
    months: dict[str, list[Tick]] = {}
    for tick in ticks:
        months.setdefault(f"{tick.as_of:%Y-%m}", []).append(tick)
    return [(month, tuple(found)) for month, found in months.items()]
