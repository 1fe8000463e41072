"""Retrain a model: a challenger from the newest rows; the verdict decides."""

from datetime import datetime

from prefect import flow

from flows.form import run_name
from flows.train_model import train_model
from tasks.announcing import show_cause
from tasks.budgeting import name_over_budget
from tasks.preparing import training_window
from tasks.registry import refuse_retraining
from tasks.settings import load_workload, moment_of
from tasks.tracking import tracked_run
from twinloop.results import TrainingResult
from twinloop.verdictplan import plan_retraining


@flow(
    name="retrain-model",
    flow_run_name=run_name("retrain"),
    on_failure=[name_over_budget],
)
def retrain_model(
    workload: str, as_of: datetime | None = None, reason: str = "by hand", cause: str = ""
) -> TrainingResult | None:
    """Train a challenger on the newest labelled window.

    Nothing is done where the last training is too recent, or the same cause has had its retraining.

    Parameters
    ----------
    workload
        Name of the workload.
    as_of
        The moment the run is meant for, UTC; default its scheduled time.
    reason
        Why; kept with the run.
    cause
        What called for it, such as the run id of a drift check: one retraining a cause.
    """
    spec, moment = load_workload(workload), moment_of(as_of)
    span = training_window(spec, moment)
    with tracked_run(spec, "retraining", window=span, as_of=moment) as run:
        show_cause(spec, cause)
        refusal = refuse_retraining(spec, moment, cause, run)
        result = None if refusal else train_model(workload, span, moment)
        run.log(plan_retraining(reason, cause, refusal, result))
    return result
