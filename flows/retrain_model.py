"""Retrain a model: a refresh or a search on the newest rows; the verdict decides."""

import logging
from datetime import datetime

from flows.form import run_name
from flows.refresh_model import refresh_model
from flows.train_model import train_model
from tasks.announcing import show_cause
from tasks.budgeting import name_over_budget
from tasks.deciding import decide_course, refuse_over_month, searched_window
from tasks.engines import flow
from tasks.preparing import training_window
from tasks.registry import current_champion, refuse_retraining
from tasks.settings import load_workload, moment_of
from tasks.tracking import tracked_run
from twinloop.results import TrainingResult
from twinloop.verdictplan import plan_retraining

_progress = logging.getLogger("twinloop.progress")


@flow(
    name="retrain-model",
    flow_run_name=run_name("retrain"),
    on_completion=[name_over_budget],
    on_failure=[name_over_budget],
)
def retrain_model(
    workload: str,
    as_of: datetime | None = None,
    reason: str = "by hand",
    cause: str = "",
    trigger: str = "",
) -> TrainingResult | None:
    """Fit a challenger on the newest labelled rows, in the cheapest way that may do.

    The champion's own recipe is tried on newer rows first. Where that clearly helps, it is judged
    and registered; all candidates compete again only where it does not, or where the recipe is old.
    Nothing is done where the last training is too recent, the same check has had its retraining,
    the month's budget is spent, too few rows are new, or there is no harm to mend.

    Parameters
    ----------
    workload
        Name of the workload.
    as_of
        The moment the run is meant for, UTC; default its scheduled time.
    reason
        Why; kept with the run.
    cause
        What called for it, such as the run id of a drift check: told twice, it is answered once.
    trigger
        What that check found, such as `labels` or `new labels`; empty for a person.
    """
    spec, moment = load_workload(workload), moment_of(as_of)
    span = training_window(spec, moment)
    with tracked_run(spec, "retraining", window=span, as_of=moment) as run:
        show_cause(spec, cause)
        refusal = refuse_retraining(spec, moment, cause, run) or refuse_over_month(spec, run)
        result, champion = None, current_champion(spec)
        if refusal:
            _progress.info("%s", refusal)
        else:
            course, refresh = decide_course(spec, champion, moment, run, trigger)
            if course.way == "search":
                result = train_model(workload, searched_window(refresh, span), moment)
            elif refresh is not None and course.way == "refresh":
                result = refresh_model(workload, moment, refresh)
            else:
                refusal = course.reason
        promised = (champion.metric, champion.score) if champion else None
        run.log(plan_retraining(reason, cause, refusal, result, promised))
    return result
