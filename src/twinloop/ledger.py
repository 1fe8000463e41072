"""The ledger: every run with its bill, as MLflow keeps it and as sums want it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

# A word of the run: its column, and what MLflow keeps it under.
TAGS = {
    "twinloop.workload": "workload",
    "twinloop.kind": "kind",
    "twinloop.as_of": "as_of",
    "twinloop.window": "window",
    "twinloop.version": "version",
    "twinloop.from": "replaced",
    "twinloop.to": "became",
    "twinloop.verdict": "verdict",
    "twinloop.accuracy": "accuracy_of",
    "twinloop.data_digest": "data_digest",
    "twinloop.currency": "currency",
    "twinloop.shape": "shape",
    "twinloop.over_budget": "over_budget",
    "twinloop.replay": "replay",
    "twinloop.reused": "reused",
    "twinloop.prices": "prices",
    "twinloop.energy": "energy",
    "twinloop.lake": "lake",
    "mlflow.parentRunId": "parent",
}
# Of these, sums want none: some are long.
_UNSUMMED = ("prices", "energy", "over_budget", "replay", "lake")
SUMMED = tuple(tag for tag, word in TAGS.items() if word not in _UNSUMMED)
PARAMS = {"winner": "winner", "candidate": "candidate"}

Loop = Literal["training", "inference", "watching", "other"]
LOOPS: tuple[Loop, ...] = ("training", "inference", "watching", "other")
_LOOP_OF: dict[str, Loop] = {
    "preparation": "training",
    "training": "training",
    "candidate": "training",
    "tuning": "training",
    "trial": "training",
    "retraining": "training",
    "promotion": "training",
    "reproduction": "training",
    "inference": "inference",
    "monitoring": "watching",
}


def loop_of(kind: str) -> Loop:
    """Return which of the loops a kind of run belongs to; a replay to none."""
    return _LOOP_OF.get(kind, "other")


@dataclass(frozen=True, slots=True)
class Record:
    """A run as MLflow keeps it: names, times in milliseconds since 1970, words and numbers."""

    run_id: str
    name: str
    experiment: str
    status: str
    started: int
    ended: int | None
    words: Mapping[str, str]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Entry:
    """A run of the ledger, for sums.

    Attributes
    ----------
    started, as_of
        When it began, and the moment it was meant for, UTC.
    window
        ``start/end``, or ``all``.
    version
        The model's: that it made, that it scored with.
    became
        Of a promotion: the version that serves from then on.
    chosen
        Of a training the winner, of a candidate its name.
    shape
        What a training was to try: only alike ones tell what it takes.
    metrics
        By name; a missing one is not there.
    reused
        Whether all it was to make was there already.
    """

    run_id: str
    parent: str
    workload: str
    kind: str
    status: str
    started: datetime
    as_of: datetime
    window: str
    version: str
    became: str
    chosen: str
    verdict: str
    digest: str
    currency: str
    shape: str
    name: str
    meaning: str
    metrics: Mapping[str, float]
    reused: bool = False

    @property
    def loop(self) -> Loop:
        """Which of the loops it belongs to."""
        return loop_of(self.kind)

    @property
    def billed(self) -> bool:
        """Whether it has all of a bill: accuracy, time and cost.

        A run whose accuracy nobody could measure has the metric ``accuracy/known``, which is 0.
        """
        metrics = self.metrics
        known = "accuracy/known" in metrics or any(m.startswith("accuracy/") for m in metrics)
        whole = known and "time/wall_s" in metrics and "cost/money" in metrics
        return whole and bool(self.meaning)

    @property
    def money(self) -> float:
        """What it cost, without the runs it contains."""
        return self.metric("cost/money")

    def metric(self, name: str, default: float = 0.0) -> float:
        """Return a metric, or what stands for one that is missing or no number."""
        value = self.metrics.get(name, default)
        return default if math.isnan(value) else value


def to_entry(record: Record) -> Entry:
    """Return a run for sums."""
    word = record.words.get
    started = datetime.fromtimestamp(record.started / 1000, UTC)
    return Entry(
        run_id=record.run_id,
        parent=word("mlflow.parentRunId", ""),
        workload=word("twinloop.workload", ""),
        kind=word("twinloop.kind", ""),
        status=record.status,
        started=started,
        as_of=instant(word("twinloop.as_of", "")) or started,
        window=word("twinloop.window", ""),
        version=word("twinloop.version", ""),
        became=word("twinloop.to", ""),
        chosen=word("winner") or word("candidate") or "",
        verdict=word("twinloop.verdict", ""),
        digest=word("twinloop.data_digest", ""),
        currency=word("twinloop.currency", ""),
        shape=word("twinloop.shape", ""),
        name=record.name,
        meaning=word("twinloop.accuracy", ""),
        metrics=record.metrics,
        reused=bool(word("twinloop.reused", "")),
    )


@lru_cache(maxsize=20_000)
def instant(text: str) -> datetime | None:
    """Read the moment a run was meant for, UTC; None where nothing is said."""
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def metric_names(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide names of metrics into exact ones and beginnings, which end in ``*``."""
    given = tuple(names)
    return (
        tuple(n for n in given if not n.endswith("*")),
        tuple(n.removesuffix("*") for n in given if n.endswith("*")),
    )


@dataclass(frozen=True)
class Asked:
    """What is asked of the ledger: see `tasks.ledger.read_ledger`; `since` is milliseconds.

    Attributes
    ----------
    words
        Which tags.
    """

    experiments: tuple[str, ...] | None = None
    exact: tuple[str, ...] = ()
    beginnings: tuple[str, ...] = ("",)
    kind: str | None = None
    but: str | None = None
    since: int | None = None
    limit: int | None = None
    words: tuple[str, ...] = tuple(TAGS)

    def wants(self, metric: str) -> bool:
        """Tell whether a metric is asked for."""
        return metric in self.exact or metric.startswith(self.beginnings)
