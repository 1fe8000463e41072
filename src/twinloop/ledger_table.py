"""The ledger as one table: a row a run, a column a number of it."""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from twinloop.ledger import PARAMS, TAGS, Record, instant

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
_WORDS = [c for c in (*TAGS.values(), *PARAMS.values()) if c not in _NAMES]
SCHEMA = pa.schema([*_NAMES.items(), *((name, pa.string()) for name in _WORDS)])
# By how a name ends, the longest ends first. Other metrics may end so by chance.
_UNITS = {
    "rows_per_s": "rows/s",
    "_gb_s": "GB s",
    "_bytes": "bytes",
    "_kwh": "kWh",
    "_mb": "MB",
    "_g": "g",
    "_s": "s",
}
_NAME = b"mlflow_name"
_MEASURED = ("time/", "cost/")


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
        null where a run has none. One that is called as a column of `SCHEMA` has ``_`` after its
        name.
    """
    ordered = sorted(records, key=lambda r: (-r.started, r.run_id))
    columns: dict[str, pa.Array] = {}
    words = {column: name for name, column in (TAGS | PARAMS).items()}
    for field in SCHEMA:
        values: list[Any]
        if field.name in ("run_id", "name", "experiment", "status", "started", "ended"):
            values = [getattr(r, field.name) for r in ordered]
        else:
            values = [r.words.get(words[field.name]) for r in ordered]
            if field.name == "as_of":
                values = [_milliseconds(v) for v in values]
        columns[field.name] = pa.array(values, field.type)
    fields = list(SCHEMA)
    metrics: dict[str, list[float | None]] = {}
    for place, record in enumerate(ordered):
        for name, value in record.metrics.items():
            if name not in metrics:
                metrics[name] = [None] * len(ordered)
            metrics[name][place] = value
    for name in sorted(metrics):
        column = name
        while column in SCHEMA.names or (column != name and column in metrics):
            column += "_"
        columns[column] = pa.array(metrics[name], pa.float64())
        fields.append(pa.field(column, pa.float64(), metadata={_NAME: name}))
    return pa.table(columns, schema=pa.schema(fields))


def _milliseconds(text: str | None) -> int | None:
    moment = instant(text or "")
    return None if moment is None else round(moment.timestamp() * 1000)


def to_export(table: pa.Table) -> pa.Table:
    """Return a ledger for other tools: plain column names, and units in the schema.

    A metric's column is called as in MLflow, with ``_`` for every other sign; the field's metadata
    says its name there and its unit, where it has one.
    """
    taken: set[str] = set(SCHEMA.names)
    fields, columns = [], []
    for field in table.schema:
        if field.name not in SCHEMA.names:
            name = field.metadata[_NAME].decode()
            plain = re.sub(r"\W+", "_", name)
            while plain in taken:
                plain += "_"
            taken.add(plain)
            described = {_NAME: name} | ({b"unit": u} if (u := unit_of(name)) else {})
            columns.append(table.column(field.name))
            field = pa.field(plain, field.type, metadata=described)  # noqa: PLW2901
        else:
            columns.append(table.column(field.name))
        fields.append(field)
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def unit_of(metric: str) -> str:
    """Return the unit of a metric of time or cost by its name; empty where it has none."""
    if not metric.startswith(_MEASURED):
        return ""
    if metric.endswith("error"):
        return "share"
    if "money" in metric:
        return "currency of the row" + (" a month" if metric.endswith("per_month") else "")
    return next((u for end, u in _UNITS.items() if metric.endswith(end)), "")
