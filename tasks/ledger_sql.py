"""The ledger by SQL: MLflow's own tables, read and never written."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tasks.databases import check_mlflow_database
from twinloop.errors import ServiceError
from twinloop.ledger import PARAMS, TAGS, Asked, Record

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine, Subquery, TableClause

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


def read_by_sql(asked: Asked, address: str) -> list[Record]:
    """Read runs from MLflow's database itself, changing nothing."""
    from sqlalchemy.exc import SQLAlchemyError

    check_mlflow_database(address)
    engine = read_only(address)
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


def read_only(address: str) -> "Engine | None":
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
