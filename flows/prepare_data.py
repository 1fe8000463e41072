"""Prepare data: a window of the source becomes a snapshot."""

from datetime import datetime

from flows.form import run_name
from tasks.engines import flow
from tasks.preparing import Snapshot, prepare_snapshot, training_window
from tasks.settings import load_workload, moment_of
from tasks.tracking import tracked_run
from twinloop.logplan import plan_snapshot
from twinloop.window import Window


@flow(name="prepare-data", flow_run_name=run_name("prepare"))
def prepare_data(
    workload: str, window: Window | None = None, as_of: datetime | None = None
) -> Snapshot:
    """Ingest, check and clean a window, and write it as a snapshot named by its content.

    Parameters
    ----------
    workload
        Name of the workload.
    window
        Rows to prepare, UTC; default the training window before `as_of`.
    as_of
        The moment the run is meant for, UTC; default its scheduled time.
    """
    spec, moment = load_workload(workload), moment_of(as_of)
    span = window or training_window(spec, moment)
    with tracked_run(spec, "preparation", window=span, as_of=moment) as run:
        snapshot = prepare_snapshot(spec, span)
        run.rows = snapshot.read
        run.log(plan_snapshot(snapshot.read, snapshot.rows, snapshot.digest, snapshot.dropped))
    return snapshot
