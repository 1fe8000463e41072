"""The ledger by SQL: MLflow's own tables, read and never written."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.databases import check_mlflow_database
from tasks.querying import Ask, asking, sqlite_file
from twinloop.ledger import PARAMS, Asked, Record

_RUNS = """
SELECT r.run_uuid, r.name AS run, e.name AS experiment, r.status, r.start_time, r.end_time
FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
WHERE {where}
ORDER BY r.start_time DESC, r.run_uuid
"""
_WORD = "t.run_uuid, t.key, t.value"
_NUMBER = "t.run_uuid, t.key, CASE WHEN t.is_nan THEN NULL ELSE t.value END"


class _Given:
    """Values that stand in a question by their names."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: object) -> str:
        """Take a value; return what stands for it."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def among(self, column: str, values: Sequence[str]) -> str:
        """Say that a column has one of some values; with none of them it never has."""
        return f"{column} IN ({', '.join(map(self.add, values))})" if values else "1 = 0"


def read_by_sql(asked: Asked, address: str) -> list[Record]:
    """Read runs from MLflow's database itself, changing nothing.

    Raises
    ------
    ServiceError
        If it cannot be read, or is of another release.
    """
    check_mlflow_database(address)
    with asking(address) as ask:
        # To read most of a table in the order of its index takes SQLite three times as long.
        whole = " NOT INDEXED" if sqlite_file(address) else ""
        return [] if ask is None else _records(ask, asked, whole)


def _records(ask: Ask, asked: Asked, whole: str) -> list[Record]:
    given = _Given()
    chosen = _RUNS.format(where=" AND ".join(_where(asked, given)))
    if asked.limit is not None:
        chosen += f"LIMIT {given.add(asked.limit)}"
    found = ask(chosen, given.values)
    ((everything,),) = ask("SELECT count(*) FROM runs", {})
    # What comes with a run is found by the same question: a list of ten thousand ids is no query.
    # Where most runs are asked for, reading all that there is takes half the time.
    few = 2 * len(found) <= everything
    among = f" JOIN ({chosen}) c ON c.run_uuid = t.run_uuid" if few else whole

    def rows(columns: str, table: str, wanted: str) -> Sequence[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM {table} t{among} WHERE {wanted}"  # noqa: S608 - ours
        return ask(query, given.values)

    words: dict[str, dict[str, str]] = {run[0]: {} for run in found}
    for table, names in (("tags", asked.words), ("params", tuple(PARAMS))):
        for run_id, key, value in rows(_WORD, table, given.among("t.key", names)):
            if run_id in words:
                words[run_id][key] = value
    numbers: dict[str, dict[str, float]] = {run[0]: {} for run in found}
    for run_id, key, number in rows(_NUMBER, "latest_metrics", _wanted(asked, given)):
        if run_id in numbers:
            numbers[run_id][key] = math.nan if number is None else number
    return [
        Record(
            run_id=run_id,
            name=name or "",
            experiment=experiment,
            status=status,
            started=started,
            ended=ended,
            words=words[run_id],
            metrics=numbers[run_id],
        )
        for run_id, name, experiment, status, started, ended in found
    ]


def _where(asked: Asked, given: _Given) -> Iterator[str]:
    """Yield what holds of the runs that are asked for."""
    yield "r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"
    if asked.experiments is not None:
        yield given.among("e.name", asked.experiments)
    if asked.since is not None:
        yield f"r.start_time >= {given.add(asked.since)}"
    if asked.kind or asked.but:
        sign, kind = ("=", asked.kind) if asked.kind else ("<>", asked.but)
        yield (
            "r.run_uuid IN (SELECT k.run_uuid FROM tags k "  # noqa: S608 - ours
            f"WHERE k.key = 'twinloop.kind' AND k.value {sign} {given.add(kind)})"
        )


def _wanted(asked: Asked, given: _Given) -> str:
    """Say which metrics are asked for."""
    if "" in asked.beginnings:
        return "1 = 1"
    starts = (f"substr(t.key, 1, {len(b)}) = {given.add(b)}" for b in asked.beginnings)
    return f"({' OR '.join((given.among('t.key', asked.exact), *starts))})"
