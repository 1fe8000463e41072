"""Announcing: the event that calls for a retraining, and the way from it to what answers it."""

import re
from contextlib import suppress
from datetime import datetime

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from prefect.utilities.urls import url_for

from tasks.engines import are_off
from tasks.metering import step
from tasks.settings import settings
from tasks.showing import show_links
from tasks.tracking import TrackedRun, client, experiment_id
from tasks.viewing import run_page
from twinloop.decision import Decision
from twinloop.workload import Workload

DRIFT_EVENT = "twinloop.drift.detected"
# Nothing has drifted that hurts; what newer rows would bring is asked all the same.
LABELS_EVENT = "twinloop.labels.arrived"
ROLLBACK_EVENT = "twinloop.champion.rolled_back"
_RUN_ID = re.compile("[0-9a-f]{32}")


def drift_resource(workload: Workload) -> str:
    """Name what drifts, as the event says it and an automation listens for it."""
    return f"twinloop.workload.{workload.id}"


def automation_name(workload: Workload) -> str:
    """Name the automation that answers the event with a retraining."""
    return f"drift detected: retrain {workload.name}"


@step
def announce(workload: Workload, decision: Decision, as_of: datetime, run: TrackedRun) -> None:
    """Tell the world that a retraining is called for, and show who listens."""
    if are_off():
        return
    automation = _automation(workload)
    event = emit_event(
        event=DRIFT_EVENT if decision.action == "retrain" else LABELS_EVENT,
        resource={
            "prefect.resource.id": drift_resource(workload),
            "prefect.resource.name": workload.id,
            "twinloop.workload": workload.id,
        },
        # What an event is related to, its page links to.
        related=[
            {
                "prefect.resource.id": f"prefect.automation.{automation}",
                "prefect.resource.role": "automation",
            }
        ]
        if automation
        else [],
        payload={
            "workload": workload.id,
            "as_of": as_of.isoformat(),
            "reason": decision.reason,
            "trigger": decision.cause,
            # The check that found it: however often it is told, one retraining follows.
            "cause": run.run_id,
        },
    )
    if event is not None and automation:
        links = {
            "the event": url_for("received-event", event.id, occurred=event.occurred.date()),
            "the automation that answers it": url_for("automation", automation),
        }
        show_links(workload, "What calls for a retraining", links)


def announce_rollback(
    workload: Workload, was: str, became: str, reason: str, as_of: datetime, run: TrackedRun
) -> None:
    """Tell the world that a champion was taken back by itself.

    Parameters
    ----------
    workload, was, became
        Whose champion, from which version to which.
    reason
        The evidence, in words.
    as_of, run
        The moment, UTC, and the drift check that found it.
    """
    if are_off():
        return
    emit_event(
        event=ROLLBACK_EVENT,
        resource={
            "prefect.resource.id": drift_resource(workload),
            "prefect.resource.name": workload.id,
            "twinloop.workload": workload.id,
        },
        payload={
            "workload": workload.id,
            "as_of": as_of.isoformat(),
            "from": was,
            "to": became,
            "reason": reason,
            "cause": run.run_id,
        },
    )


def show_cause(workload: Workload, cause: str) -> None:
    """Link the page of a retraining to the MLflow run of the check that called for it, if any."""
    page = settings().mlflow_page or settings().mlflow_uri
    if _RUN_ID.fullmatch(cause) and page.startswith("http"):
        links = {"this check": run_page(page, experiment_id(client(), workload.experiment), cause)}
        show_links(workload, "Called for by", links)


def _automation(workload: Workload) -> str:
    """Return the id of the automation that listens; the server of a shell's command has none."""
    if workload.sandbox:
        return ""
    with suppress(HTTPError, PrefectException), get_client(sync_client=True) as client:
        found = client.read_automations_by_name(automation_name(workload))
        return str(found[0].id) if found else ""
    return ""
