"""Retrain a model: a challenger from the newest rows; the verdict decides."""

from datetime import datetime

from prefect import flow

from flows.train_model import train_model
from tasks.preparing import training_window
from tasks.registry import cooldown_left
from tasks.settings import load_workload, moment_of
from tasks.tracking import tracked_run
from twinloop.logplan import plan_retraining
from twinloop.results import TrainingResult


@flow(name="retrain-model", flow_run_name="retrain {workload}")
def retrain_model(
    workload: str, as_of: datetime | None = None, reason: str = "by hand"
) -> TrainingResult | None:
    """Train a challenger on the newest labelled window, unless the last training is too recent.

    Parameters
    ----------
    workload
        Name of the workload.
    as_of
        The moment the run is meant for, UTC; default its scheduled time.
    reason
        Why; kept with the run.
    """
    spec, moment = load_workload(workload), moment_of(as_of)
    span = training_window(spec, moment)
    with tracked_run(spec, "retraining", window=span, as_of=moment) as run:
        left = cooldown_left(spec, moment)
        result = None if left else train_model(workload, span, moment)
        run.log(plan_retraining(reason, left, result))
    return result
