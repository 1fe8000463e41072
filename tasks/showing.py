"""Showing: tables, links and progress on the page of a Prefect flow run, and progress in a shell.

What cannot be shown is left out: a page that does not answer is no reason to fail a run.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from twinloop.logplan import Note, Table
from twinloop.workload import Workload

_NO_PAGE = (HTTPError, PrefectException)
_MOMENT = 2.0


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


def show_note(workload: Workload, note: Note) -> None:
    """Put a text on the page of the flow run."""
    if shown(workload):
        with suppress(*_NO_PAGE):
            create_markdown_artifact(
                note.markdown, key=_key(note.name, workload), description=note.title
            )


def show_picture(workload: Workload, name: str, title: str, address: str) -> None:
    """Put a picture, by its address, on the page of the flow run."""
    if shown(workload):
        with suppress(*_NO_PAGE):
            create_image_artifact(address, key=_key(name, workload), description=title)


def show_links(workload: Workload, title: str, links: Mapping[str, str | None]) -> None:
    """Put links, addresses by their text, on the page of the flow run.

    They have no key: what has one is a click further away, behind those of all other runs.
    """
    known = [f"[{text}]({url})" for text, url in links.items() if url]
    if known and shown(workload):
        text = f"{title}: " + ", ".join(known)
        with suppress(*_NO_PAGE):
            create_markdown_artifact(text, description=text)


def show_words(workload: Workload, text: str) -> None:
    """Put a sentence on the page of the flow run, and in a terminal."""
    if sys.stderr.isatty() and not workload.sandbox:
        sys.stderr.write(f"{text}\n")
    if shown(workload):
        with suppress(*_NO_PAGE):
            create_markdown_artifact(text, description=text)


def show_page(workload: Workload, name: str, title: str, markdown: str) -> None:
    """Put a page among the artifacts, under a name that keeps its versions together."""
    if shown(workload):
        with suppress(*_NO_PAGE):
            create_markdown_artifact(markdown, key=_key(name, workload), description=title)


@contextmanager
def progress(workload: Workload, name: str, text: str) -> Iterator[Callable[[float], None]]:
    """Show how far a job is, once it takes longer than a moment: on the page, and in a terminal.

    The function given is to be told the share that is done, from 0 to 1; it may be told often.
    """
    bar = _Bar(text) if sys.stderr.isatty() and not workload.sandbox else None
    artifact: UUID | None = None
    on = shown(workload)
    told = time.monotonic()

    def tell(share: float) -> None:
        nonlocal artifact, told
        now = time.monotonic()
        if bar is not None:
            bar.tell(share)
        if not on or (now - told < _MOMENT and (artifact is None or share < 1)):
            return
        told = now
        percent = round(100.0 * min(max(share, 0.0), 1.0), 1)
        with suppress(*_NO_PAGE):
            if artifact is None:
                made = create_progress_artifact(percent, key=_key(name, workload), description=text)
                artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(artifact, percent)

    try:
        yield tell
        tell(1.0)
    finally:
        if bar is not None:
            bar.close()


class _Bar:
    """A bar on the terminal that goes away when the job is done."""

    def __init__(self, text: str) -> None:
        self._began = time.monotonic()
        # What others write meanwhile stays theirs.
        self._bar = Progress(
            TextColumn(text),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=Console(file=sys.stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._job = self._bar.add_task(text, total=1.0)

    def tell(self, share: float) -> None:
        self._bar.update(self._job, completed=share)
        if not self._bar.live.is_started and time.monotonic() - self._began >= _MOMENT:
            self._bar.start()

    def close(self) -> None:
        self._bar.stop()


def _key(name: str, workload: Workload) -> str:
    """Make a key: Prefect takes lower-case letters, digits and dashes."""
    return f"{name}-{workload.name}".replace("_", "-")
