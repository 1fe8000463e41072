"""The ledger as one table: a row a run, a column a number of it."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa

_TIME = pa.timestamp("ms", tz="UTC")
_NAMES = {
    "run_id": pa.string(),
    "name": pa.string(),
    "experiment": pa.string(),
    "workload": pa.string(),
    "kind": pa.string(),
    "status": pa.string(),
    "started": _TIME,
    "ended": _TIME,
    "as_of": _TIME,
}
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
    "mlflow.parentRunId": "parent",
}
PARAMS = {"winner": "winner", "candidate": "candidate"}
_WORDS = [c for c in (*TAGS.values(), *PARAMS.values()) if c not in _NAMES]
SCHEMA = pa.schema([*_NAMES.items(), *((name, pa.string()) for name in _WORDS)])
_UNITS = {
    "_s": "s",
    "_mb": "MB",
    "_kwh": "kWh",
    "_g": "g",
    "_usd": "USD",
    "_bytes": "bytes",
    "rows_per_s": "rows/s",
    "money": "currency of the row",
    "money_total": "currency of the row",
}

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


def to_table(records: Sequence[Record]) -> pa.Table:
    """Return runs as one table, the newest first.

    Parameters
    ----------
    records
        In any order.

    Returns
    -------
    pa.Table
        Columns of `SCHEMA`, then one for each metric any of the runs has, by its name in MLflow;
        null where a run has none.
    """
    ordered = sorted(records, key=lambda r: (-r.started, r.run_id))
    columns: dict[str, pa.Array] = {}
    words = {column: name for name, column in (TAGS | PARAMS).items()}
    for field in SCHEMA:
        values: list[object]
        if field.name in ("run_id", "name", "experiment", "status", "started", "ended"):
            values = [getattr(r, field.name) for r in ordered]
        else:
            values = [r.words.get(words[field.name]) for r in ordered]
            if field.name == "as_of":
                values = [_milliseconds(v) for v in values]
        columns[field.name] = pa.array(values, field.type)
    for name in sorted({name for r in ordered for name in r.metrics}):
        columns[name] = pa.array([r.metrics.get(name) for r in ordered], pa.float64())
    return pa.table(columns)


def _milliseconds(moment: object) -> int | None:
    if not moment:
        return None
    found = datetime.fromisoformat(str(moment))
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


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
    became, replaced
        Of a promotion: the version that serves from then on, and the one before.
    chosen
        Of a training the winner, of a candidate its name.
    shape
        What a training was to try: only alike ones tell what it takes.
    metrics
        By name; a missing one is not there.
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
    replaced: str
    chosen: str
    verdict: str
    digest: str
    currency: str
    shape: str
    name: str
    meaning: str
    metrics: Mapping[str, float]

    @property
    def loop(self) -> Loop:
        """Which of the loops it belongs to."""
        return loop_of(self.kind)

    @property
    def money(self) -> float:
        """What it cost, without the runs it contains."""
        return self.metric("cost/money")

    def metric(self, name: str, default: float = 0.0) -> float:
        """Return a metric, or what stands for one that is missing or no number."""
        value = self.metrics.get(name, default)
        return default if math.isnan(value) else value


def to_entries(table: pa.Table) -> tuple[Entry, ...]:
    """Return the rows of a ledger as entries, in their order."""
    words = {name: table.column(name).to_pylist() for name in SCHEMA.names}
    names = table.column_names[len(SCHEMA) :]
    numbers = [table.column(name).to_pylist() for name in names]
    found = []
    for i, values in enumerate(zip(*numbers, strict=True) if numbers else [()] * table.num_rows):
        at = {name: column[i] for name, column in words.items()}
        found.append(
            Entry(
                run_id=at["run_id"],
                parent=at["parent"] or "",
                workload=at["workload"] or "",
                kind=at["kind"] or "",
                status=at["status"],
                started=at["started"],
                as_of=at["as_of"] or at["started"],
                window=at["window"] or "",
                version=at["version"] or "",
                became=at["became"] or "",
                replaced=at["replaced"] or "",
                chosen=at["winner"] or at["candidate"] or "",
                verdict=at["verdict"] or "",
                digest=at["data_digest"] or "",
                currency=at["currency"] or "",
                shape=at["shape"] or "",
                name=at["name"] or "",
                meaning=at["accuracy_of"] or "",
                metrics={n: v for n, v in zip(names, values, strict=True) if v is not None},
            )
        )
    return tuple(found)


def to_export(table: pa.Table) -> pa.Table:
    """Return a ledger for other tools: plain column names, and units in the schema.

    A metric's column is called as in MLflow, with ``_`` for every other sign; the field's metadata
    says its name there and its unit, where it has one.
    """
    taken: set[str] = set(SCHEMA.names)
    fields, columns = [], []
    for field in table.schema:
        name = field.name
        if name not in SCHEMA.names:
            plain = re.sub(r"\W+", "_", name)
            while plain in taken:
                plain += "_"
            taken.add(plain)
            described = {"mlflow_name": name} | ({"unit": u} if (u := unit_of(name)) else {})
            field = pa.field(plain, field.type, metadata=described)  # noqa: PLW2901
        fields.append(field)
        columns.append(table.column(name))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def unit_of(metric: str) -> str:
    """Return the unit of a metric by its name; empty where it has none."""
    last = metric.rpartition("/")[2]
    if "money" in last and "error" not in last:
        return "currency of the row"
    if last.endswith("error"):
        return "share"
    return next((u for end, u in reversed(_UNITS.items()) if last.endswith(end)), "")


def metric_names(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide names of metrics into exact ones and beginnings, which end in ``*``."""
    given = tuple(names)
    return (
        tuple(n for n in given if not n.endswith("*")),
        tuple(n.removesuffix("*") for n in given if n.endswith("*")),
    )
