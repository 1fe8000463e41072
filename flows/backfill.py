"""Backfill: the windows of a span scored one by one, each by the model of its day."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from flows.score_batch import score_batch
from tasks.published import Manifest
from tasks.settings import load_workload
from twinloop.errors import EmptyWindowError, WorkloadError
from twinloop.window import Window


def backfill(
    workload: str, span: Window, *, of_then: bool = True
) -> Iterator[tuple[Window, Manifest | None]]:
    """Score every whole inference window of a span, each in a flow run of its own.

    A window that is complete already is left as it is.

    Parameters
    ----------
    workload
        Name of the workload.
    span
        From the start of the first window to the end of the last, UTC.
    of_then
        Use the version that was champion at the end of each window, not the one that is now.

    Yields
    ------
    tuple of Window and Manifest or None
        None where the window holds no rows.

    Raises
    ------
    WorkloadError
        If rows have no time.
    """
    spec = load_workload(workload)
    if spec.time is None:
        raise WorkloadError(f"workload {workload!r} has no time column: there is no span to fill.")
    for window in _windows(span, spec.inference.window):
        then: datetime | None = window.end if of_then else None
        try:
            yield window, score_batch(workload, window, window.end, then)
        except EmptyWindowError:
            yield window, None


def _windows(span: Window, step: timedelta) -> Iterator[Window]:
    start = span.start
    while start + step <= span.end:
        yield Window(start=start, end=start + step)
        start += step
