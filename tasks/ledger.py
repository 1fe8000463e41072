"""The ledger, read in bulk: all runs of a workload as one table.

Two ways lead to it. Where MLflow's store is a database that this process has the address of, it is
read with SQL, read-only: ten thousand runs take a second, and neither MLflow nor Prefect is
imported, which alone take three. Where MLflow is a server, its client is the way: a page of a
thousand runs at a time. Both give the same table; the tables' names and columns are MLflow's own,
held to the release that is installed by `tasks.databases`, and to the client's answers by a test.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tasks.databases import check_mlflow_database, embedded_database
from tasks.settings import settings
from tasks.stack import running_stack
from twinloop.errors import ServiceError
from twinloop.ledger import PARAMS, TAGS, Entry, Record, metric_names, to_entry

if TYPE_CHECKING:
    from mlflow.entities import Run
    from sqlalchemy import ColumnElement, Connection, Engine, Subquery, TableClause

_PAGE = 1000
_MOST_EXPERIMENTS = 1000
_COLUMNS = {
    "experiments": ("experiment_id", "name", "lifecycle_stage"),
    "runs": (
        "run_uuid",
        "name",
        "status",
        "start_time",
        "end_time",
        "lifecycle_stage",
        "experiment_id",
    ),
    "tags": ("run_uuid", "key", "value"),
    "params": ("run_uuid", "key", "value"),
    "latest_metrics": ("run_uuid", "key", "value", "is_nan"),
}


def read_ledger(
    experiments: Sequence[str] | None,
    *,
    metrics: Iterable[str] | None = None,
    kind: str | None = None,
    but: str | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Record]:
    """Read runs, the newest first; deleted ones are left out.

    Parameters
    ----------
    experiments
        Names; None: all there are. One that does not exist has no runs.
    metrics
        Names of those to read, a ``*`` at the end for all that begin so; None: all.
    kind, but
        Only runs of this kind, or none of that.
    since
        Only runs that began then or later, UTC.
    limit
        Only so many, the newest.

    Returns
    -------
    list of Record
        For sums see `read_entries`; for a table, `twinloop.ledger_table.to_table`.

    Raises
    ------
    ServiceError
        If MLflow does not answer, or its database is of another release.
    """
    exact, beginnings = metric_names(metrics or ("*",))
    asked = Asked(
        experiments=None if experiments is None else tuple(experiments),
        exact=exact,
        beginnings=beginnings,
        kind=kind,
        but=but,
        since=None if since is None else round(since.timestamp() * 1000),
        limit=limit,
    )
    address = database_address()
    return read_by_sql(asked, address) if address else read_by_client(asked)


def database_address() -> str:
    """Return the address of MLflow's database; empty where only its server has it.

    That of the stack which runs for this home is the file under it, unless it was told otherwise.
    """
    uri = settings().mlflow_uri
    if not uri.startswith("http"):
        return uri
    stack = running_stack()
    return embedded_database() if stack and stack.embedded and stack.mlflow == uri else ""


def read_entries(
    experiments: Sequence[str] | None,
    *,
    metrics: Iterable[str] | None = None,
    kind: str | None = None,
    but: str | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """Read runs for sums, the newest first: as `read_ledger` does."""
    records = read_ledger(
        experiments, metrics=metrics, kind=kind, but=but, since=since, limit=limit
    )
    return [to_entry(r) for r in records]


@dataclass(frozen=True)
class Asked:
    """What is asked of the ledger: see `read_ledger`; `since` in milliseconds since 1970."""

    experiments: tuple[str, ...] | None = None
    exact: tuple[str, ...] = ()
    beginnings: tuple[str, ...] = ("",)
    kind: str | None = None
    but: str | None = None
    since: int | None = None
    limit: int | None = None

    def wants(self, metric: str) -> bool:
        """Tell whether a metric is asked for."""
        return metric in self.exact or metric.startswith(self.beginnings)


def read_by_sql(asked: Asked, address: str) -> list[Record]:
    """Read runs from MLflow's database itself, changing nothing."""
    from sqlalchemy.exc import SQLAlchemyError

    check_mlflow_database(address)
    engine = _engine(address)
    if engine is None:
        return []
    try:
        with engine.connect() as connection:
            return _records(connection, asked)
    except SQLAlchemyError as err:
        reason = str(getattr(err, "orig", err)).strip()
        raise ServiceError(f"cannot read runs from MLflow's database: {reason}.") from err
    finally:
        engine.dispose()


def _engine(address: str) -> "Engine | None":
    """Return what reads a database; None where there is none yet."""
    import sqlalchemy

    url = sqlalchemy.make_url(address)
    if url.get_backend_name() == "postgresql":
        return sqlalchemy.create_engine(url, execution_options={"postgresql_readonly": True})
    if url.get_backend_name() != "sqlite":
        return sqlalchemy.create_engine(url)
    path = Path(url.database or "")
    if not path.is_file():
        return None
    place = f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true"
    return sqlalchemy.create_engine(place)


def _records(connection: "Connection", asked: Asked) -> list[Record]:
    from sqlalchemy import func, or_, select

    runs, experiments = _table("runs"), _table("experiments")
    chosen = (
        select(runs, experiments.c.name.label("experiment"))
        .join(experiments, experiments.c.experiment_id == runs.c.experiment_id)
        .where(*_where(runs, experiments, asked))
        .order_by(runs.c.start_time.desc(), runs.c.run_uuid)
        .limit(asked.limit)
    )
    found = connection.execute(chosen).all()
    everything = connection.execute(select(func.count()).select_from(runs)).scalar_one()
    # What comes with a run is found by the same question: a list of ten thousand ids is no query.
    # Where most runs are asked for, reading all that there is takes half the time.
    among = None if 2 * len(found) > everything else chosen.subquery()
    words: dict[str, dict[str, str]] = {run.run_uuid: {} for run in found}
    tags, params, latest = (_table(name) for name in ("tags", "params", "latest_metrics"))
    ours = or_(tags.c.key.startswith("twinloop."), tags.c.key == "mlflow.parentRunId")
    for table, wanted in ((tags, ours), (params, params.c.key.in_(PARAMS))):
        for run_id, key, value in _rows(connection, table, among, wanted):
            here = words.get(run_id)
            if here is not None and (key in TAGS or key in PARAMS):
                here[key] = value
    numbers: dict[str, dict[str, float]] = {run.run_uuid: {} for run in found}
    for run_id, key, value, is_nan in _rows(connection, latest, among, _wanted(latest, asked)):
        measured = numbers.get(run_id)
        if measured is not None:
            measured[key] = math.nan if is_nan else value
    return [
        Record(
            run_id=r.run_uuid,
            name=r.name or "",
            experiment=r.experiment,
            status=r.status,
            started=r.start_time,
            ended=r.end_time,
            words=words[r.run_uuid],
            metrics=numbers[r.run_uuid],
        )
        for r in found
    ]


def _rows(
    connection: "Connection",
    table: "TableClause",
    among: "Subquery | None",
    wanted: "ColumnElement[bool]",
) -> list[tuple[Any, ...]]:
    """Read rows of a table that belong to some runs, or to any."""
    from sqlalchemy import select

    query = select(table).where(wanted)
    if among is not None:
        query = query.join(among, among.c.run_uuid == table.c.run_uuid)
    # As the driver gives them: hundreds of thousands of rows need no names.
    text = query.compile(connection, compile_kwargs={"render_postcompile": True})
    cursor = connection.connection.cursor()
    try:
        values = text.params
        given = [values[n] for n in text.positiontup] if text.positiontup else values
        cursor.execute(str(text), given)
        return list(cursor.fetchall())
    finally:
        cursor.close()


def _table(name: str) -> "TableClause":
    """Name a table of MLflow's and the columns of it that are read."""
    import sqlalchemy

    return sqlalchemy.table(name, *map(sqlalchemy.column, _COLUMNS[name]))


def _where(
    runs: "TableClause", experiments: "TableClause", asked: Asked
) -> "Iterator[ColumnElement[bool]]":
    """Yield what holds of the runs that are asked for."""
    from sqlalchemy import select

    yield runs.c.lifecycle_stage == "active"
    yield experiments.c.lifecycle_stage == "active"
    if asked.experiments is not None:
        yield experiments.c.name.in_(asked.experiments)
    if asked.since is not None:
        yield runs.c.start_time >= asked.since
    if asked.kind or asked.but:
        tags = _table("tags")
        alike = tags.c.value == asked.kind if asked.kind else tags.c.value != asked.but
        of_kind = select(tags.c.run_uuid).where(tags.c.key == "twinloop.kind", alike)
        yield runs.c.run_uuid.in_(of_kind)


def _wanted(table: "TableClause", asked: Asked) -> "ColumnElement[bool]":
    from sqlalchemy import or_

    starts = [table.c.key.startswith(b, autoescape=True) for b in asked.beginnings]
    return or_(table.c.key.in_(asked.exact), *starts)


def read_by_client(asked: Asked) -> list[Record]:
    """Read runs through MLflow's client, a page at a time."""
    from mlflow.exceptions import MlflowException

    from tasks.tracking import client

    mlflow_client = client()
    try:
        known = {
            str(e.experiment_id): e.name
            for e in mlflow_client.search_experiments(max_results=_MOST_EXPERIMENTS)
            if asked.experiments is None or e.name in asked.experiments
        }
        found: list[Run] = []
        token: str | None = None
        while known and (asked.limit is None or len(found) < asked.limit):
            most = _PAGE if asked.limit is None else min(_PAGE, asked.limit - len(found))
            page = mlflow_client.search_runs(
                list(known),
                _filter(asked),
                max_results=most,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                break
    except MlflowException as err:
        raise ServiceError(f"MLflow at {settings().mlflow_uri} gives no runs: {err}") from err
    records = [_record(run, known, asked) for run in found]
    return sorted(records, key=lambda r: (-r.started, r.run_id))


def _filter(asked: Asked) -> str:
    parts = []
    if asked.kind or asked.but:
        sign = "=" if asked.kind else "!="
        parts.append(f"tags.`twinloop.kind` {sign} '{asked.kind or asked.but}'")
    if asked.since is not None:
        parts.append(f"attributes.start_time >= {asked.since}")
    return " and ".join(parts)


def _record(run: "Run", experiments: dict[str, str], asked: Asked) -> Record:
    words = {n: v for n, v in run.data.tags.items() if n in TAGS}
    words |= {n: v for n, v in run.data.params.items() if n in PARAMS}
    return Record(
        run.info.run_id,
        run.info.run_name or "",
        experiments[str(run.info.experiment_id)],
        run.info.status,
        run.info.start_time,
        run.info.end_time,
        words,
        {n: v for n, v in run.data.metrics.items() if asked.wants(n)},
    )
