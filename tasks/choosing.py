"""Choosing: how far back a retraining reaches, and how fast rows age."""

from datetime import datetime

from tasks.metering import step
from tasks.registry import ServedVersion
from tasks.tracking import TrackedRun
from twinloop.refresh import History
from twinloop.workload import Workload


@step
def choose_history(
    workload: Workload, champion: ServedVersion, as_of: datetime, run: TrackedRun
) -> History:
    """Return the workload's own window."""
    return History(span=workload.training.window)
