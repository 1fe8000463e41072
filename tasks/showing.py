"""Showing: tables, links and progress on the page of a Prefect flow run.

What cannot be shown is left out: a page that does not answer is no reason to fail a run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from twinloop.logplan import Table
from twinloop.workload import Workload

_NO_PAGE = (HTTPError, PrefectException)


def shown(workload: Workload) -> bool:
    """Tell whether there is a page to show things on: within a flow, and not in a replay.

    A replay is hundreds of flow runs that one table sums up better.
    """
    return not workload.sandbox and FlowRunContext.get() is not None


def show_table(workload: Workload, table: Table) -> None:
    """Put a table on the page of the flow run."""
    if shown(workload):
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        with suppress(*_NO_PAGE):
            create_table_artifact(rows, key=_key(table.name, workload), description=table.title)


def show_links(workload: Workload, links: dict[str, str]) -> None:
    """Put links into MLflow, addresses by their text, on the page of the flow run.

    They have no key: what has one is a click further away, behind those of all other runs.
    """
    if shown(workload):
        text = "In MLflow: " + ", ".join(f"[{text}]({url})" for text, url in links.items())
        with suppress(*_NO_PAGE):
            create_markdown_artifact(text, description=text)


@contextmanager
def progress(workload: Workload, name: str, text: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show how far a job of some steps is; the function given is to be called after each."""
    artifact: UUID | None = None
    done = 0
    if shown(workload):
        with suppress(*_NO_PAGE):
            made = create_progress_artifact(0.0, key=_key(name, workload), description=text)
            artifact = made if isinstance(made, UUID) else None

    def advance() -> None:
        nonlocal done
        done += 1
        if artifact is not None:
            with suppress(*_NO_PAGE):
                update_progress_artifact(artifact, 100.0 * done / steps)

    yield advance


def _key(name: str, workload: Workload) -> str:
    """Make a key: Prefect takes lower-case letters, digits and dashes."""
    return f"{name}-{workload.name}".replace("_", "-")
