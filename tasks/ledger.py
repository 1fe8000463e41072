"""The ledger, read in bulk: all runs of a workload as one table.

Two ways lead to it. Where MLflow's store is a database that this process has the address of, it is
read with SQL, read-only: ten thousand runs take a second, and neither MLflow nor Prefect is
imported, which alone take three. Where MLflow is a server, its client is the way: a page of a
thousand runs at a time. Both give the same table; the tables' names and columns are MLflow's own,
held to the release that is installed by `tasks.databases`, and to the client's answers by a test.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.databases import embedded_database
from tasks.ledger_sql import read_by_sql
from tasks.settings import settings
from tasks.stack import running_stack
from twinloop.errors import ServiceError
from twinloop.ledger import PARAMS, SUMMED, Asked, Entry, Record, metric_names, to_entry

if TYPE_CHECKING:
    from mlflow.entities import Run

_PAGE = 1000
_MOST_EXPERIMENTS = 1000


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
    return _read(_asked(experiments, metrics, kind, but, since, limit))


def _read(asked: Asked) -> list[Record]:
    address = database_address()
    return read_by_sql(asked, address) if address else read_by_client(asked)


def _asked(
    experiments: Sequence[str] | None,
    metrics: Iterable[str] | None,
    kind: str | None,
    but: str | None,
    since: datetime | None,
    limit: int | None,
) -> Asked:
    exact, beginnings = metric_names(metrics or ("*",))
    return Asked(
        experiments=None if experiments is None else tuple(experiments),
        exact=exact,
        beginnings=beginnings,
        kind=kind,
        but=but,
        since=None if since is None else round(since.timestamp() * 1000),
        limit=limit,
    )


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
    asked = replace(_asked(experiments, metrics, kind, but, since, limit), words=SUMMED)
    return [to_entry(r) for r in _read(asked)]


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
    words = {n: v for n, v in run.data.tags.items() if n in asked.words}
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
