"""Deploy: workloads become deployments, schedules and automations of a Prefect server."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitStrategy,
    ConcurrencyOptions,
    StateType,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.form import describe, parameter_form
from flows.prepare_data import prepare_data
from flows.retrain_model import retrain_model
from flows.score_batch import score_batch
from flows.train_model import train_model
from flows.watch_drift import watch_drift
from tasks.announcing import DRIFT_EVENT, LABELS_EVENT, automation_name, drift_resource
from tasks.stack import WORK_POOL
from twinloop.workload import Workload

TAG = "twinloop"
HEARTBEAT_SECONDS = 30


@dataclass(frozen=True)
class Plan:
    """One deployment as the code wants it."""

    flow: Flow[..., Any]
    workload: Workload
    cron: str | None = None
    alone: bool = False

    @property
    def name(self) -> str:
        """Name in the UI, after the flow's."""
        return self.workload.name

    @property
    def entrypoint(self) -> str:
        """Module and function: a file path would load the module under a second name."""
        return f"{self.flow.fn.__module__}.{self.flow.fn.__name__}"

    @property
    def schema(self) -> dict[str, Any]:
        """The parameter form: this deployment is for this workload and for no other."""
        schema = parameter_form(self.flow)
        schema["properties"]["workload"]["enum"] = [self.workload.name]
        schema["additionalProperties"] = False
        return schema

    @property
    def version(self) -> str:
        """Changes when the schedule in the workload file does."""
        return hashlib.sha256(json.dumps([self.cron]).encode()).hexdigest()[:12]


def plans(workload: Workload) -> Iterator[Plan]:
    """Yield the deployments of a workload."""
    yield Plan(score_batch, workload, workload.inference.schedule)
    yield Plan(watch_drift, workload, workload.monitoring.schedule)
    yield Plan(train_model, workload)
    yield Plan(prepare_data, workload)
    yield Plan(retrain_model, workload, alone=True)


def deploy(workloads: list[Workload]) -> list[str]:
    """Register all deployments and automations; what a person changed in the UI stays.

    Schedules and parameters are set when a deployment is made, and again when the schedule in the
    workload file has changed since; not otherwise. Automations are made where they are missing, and
    hear of events that an older release did not have.

    Returns
    -------
    list of str
        Names of the deployments.
    """
    with get_client(sync_client=True) as client:
        _make_pool(client)
        names = []
        for workload in workloads:
            for plan in plans(workload):
                found = _apply(client, plan)
                names.append(f"{plan.flow.name}/{plan.name}")
                if plan.flow is retrain_model:
                    _automate(client, workload, found)
        _find_dead_runs(client)
        return names


def _make_pool(client: SyncPrefectClient) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
    except ObjectAlreadyExists:
        return


def _apply(client: SyncPrefectClient, plan: Plan) -> UUID:
    about: dict[str, Any] = {
        "description": describe(plan.flow),
        "tags": [TAG, plan.workload.name],
        "entrypoint": plan.entrypoint,
        "parameter_openapi_schema": plan.schema,
        "version": plan.version,
    }
    try:
        known = client.read_deployment_by_name(f"{plan.flow.name}/{plan.name}")
    except ObjectNotFound:
        return _create(client, plan, about)
    if known.version != plan.version:
        about["schedules"] = _schedules(plan)
    client.update_deployment(known.id, DeploymentUpdate(**about))
    return known.id


def _create(client: SyncPrefectClient, plan: Plan, about: dict[str, Any]) -> UUID:
    alone = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    return client.create_deployment(
        flow_id=client.create_flow(plan.flow),
        name=plan.name,
        schedules=_schedules(plan),
        parameters={"workload": plan.workload.name},
        work_pool_name=WORK_POOL,
        concurrency_limit=1 if plan.alone else None,
        concurrency_options=alone if plan.alone else None,
        enforce_parameter_schema=True,
        # Whatever worker takes a run: see `_find_dead_runs`.
        job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}},
        **about,
    )


def _schedules(plan: Plan) -> list[DeploymentScheduleCreate]:
    if plan.cron is None:
        return []
    return [
        DeploymentScheduleCreate(schedule=CronSchedule(cron=plan.cron, timezone="UTC"), active=True)
    ]


def _automate(client: SyncPrefectClient, workload: Workload, retraining: UUID) -> None:
    """Start a retraining where drift is detected, once for each cause.

    One of an older release, which hears fewer events, is told to listen to the others as well.
    """
    name, expect = automation_name(workload), {DRIFT_EVENT, LABELS_EVENT}
    known = client.read_automations_by_name(name)
    for automation in known:
        if (wanted := listening(automation, expect)) is not None:
            client.update_automation(automation.id, wanted)
    if known:
        return
    payload = {
        field: {"__prefect_kind": "jinja", "template": f"{{{{ event.payload.{field} }}}}"}
        for field in ("as_of", "reason", "cause", "trigger")
    }
    Automation(
        name=name,
        description=f"Starts retrain-model/{workload.name} on {DRIFT_EVENT} or {LABELS_EVENT}.",
        trigger=EventTrigger(
            expect=expect,
            match={"prefect.resource.id": drift_resource(workload)},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=retraining,
                parameters={"workload": workload.name, **payload},
            )
        ],
    ).create()


def listening(known: AutomationCore, expect: set[str]) -> AutomationCore | None:
    """Return an automation that listens to events beside those it does; None if it does already.

    All else stays as a person may have changed it, a pause too.
    """
    trigger = known.trigger
    if not isinstance(trigger, EventTrigger) or expect <= trigger.expect:
        return None
    fields = known.model_dump(exclude={"id", "owner_resource", "trigger"})
    more = trigger.model_copy(update={"expect": trigger.expect | expect})
    return AutomationCore(**fields, trigger=more)


def _find_dead_runs(client: SyncPrefectClient) -> None:
    """Call a flow run crashed that has given no sign of life for three heartbeats."""
    name = "no sign of life: crashed"
    if client.read_automations_by_name(name):
        return
    alive = "prefect.flow-run.heartbeat"
    ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
    Automation(
        name=name,
        description="Marks flow runs whose process or machine is gone.",
        trigger=EventTrigger(
            after={alive},
            expect={alive, *ends},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            # A server may have runs of others, whose hearts beat slower.
            match_related={
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{TAG}",
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=3 * HEARTBEAT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="no sign of life from its process any more"
            )
        ],
    ).create()
