"""Watch for drift: what was scored lately against what the champion was trained on."""

from datetime import datetime

from flows.form import run_name
from tasks.announcing import announce
from tasks.costing import publish_costs
from tasks.engines import flow
from tasks.probation import review_promotion
from tasks.registry import resolve_champion
from tasks.settings import load_workload, moment_of
from tasks.tracking import tracked_run
from tasks.watching import check_drift, show_decision, watch_window
from twinloop.decision import Decision
from twinloop.logplan import Tag


@flow(name="watch-drift", flow_run_name=run_name("watch"))
def watch_drift(workload: str, as_of: datetime | None = None) -> Decision:
    """Check recent windows for drift and late labels for harm; decide and, if need be, tell.

    A champion that its predecessor has clearly beaten since the promotion is taken back, unless the
    workload says ``retraining.rollback: never``; what was found of it then calls for nothing. Emits
    the event ``twinloop.drift.detected`` where a retraining is called for, or
    ``twinloop.labels.arrived`` where new labels are reason to ask what one would bring, unless the
    workload says ``retraining.on: never``.

    Parameters
    ----------
    workload
        Name of the workload.
    as_of
        The moment the run is meant for, UTC; default its scheduled time.
    """
    spec, moment = load_workload(workload), moment_of(as_of)
    with tracked_run(spec, "monitoring", window=watch_window(spec, moment), as_of=moment) as run:
        champion = resolve_champion(spec)
        run.log([Tag("twinloop.version", champion.version)])
        decision, past = check_drift(spec, champion, moment, run)
        decision = review_promotion(spec, champion, decision, moment, run)
        show_decision(spec, champion, decision, past, run)
        if decision.calls and spec.retraining.on == "drift":
            announce(spec, decision, moment, run)
        publish_costs(spec, run)
    return decision
