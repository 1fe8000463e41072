"""prefect.yaml and Prefect's own command make what `flows.deploy` makes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL
from prefect.states import Scheduled

from flows import deploy
from flows.deploy import Plan, plans
from tasks.settings import read_workload
from tasks.stack import WORK_POOL
from tasks.tracking import client as mlflow_client

ROOT = Path(__file__).parents[2]
BIKES = read_workload(ROOT / "data" / "workloads" / "bikes.yaml")
PLANS = list(plans(BIKES))


def call(home: Path, *words: str, cwd: Path = ROOT, **environment: str) -> str:
    """Run Prefect's command against the server of these tests, and return what it said."""
    here = {"PREFECT_API_URL": PREFECT_API_URL.value(), "TWINLOOP_HOME": str(home)} | environment
    command = [sys.executable, "-m", "prefect", *words]
    found = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | here,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    return found.stdout


@pytest.fixture(scope="module")
def client(prefect: None) -> Iterator[SyncPrefectClient]:
    """Provide a client of the server, which has the work pool."""
    with get_client(sync_client=True) as found:
        with suppress(ObjectAlreadyExists):
            found.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
        yield found


@pytest.fixture(scope="module")
def deployed(client: SyncPrefectClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Deploy everything in prefect.yaml with Prefect's command."""
    return call(tmp_path_factory.mktemp("home"), "--no-prompt", "deploy", "--all")


def read(client: SyncPrefectClient, plan: Plan) -> DeploymentResponse:
    """Read the deployment of a plan from the server."""
    return client.read_deployment_by_name(f"{plan.flow.name}/{plan.name}")


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.flow.name)
def test_each_deployment_is_as_planned(
    client: SyncPrefectClient, deployed: str, plan: Plan
) -> None:
    """What the server has of a deployment is what the code would have made."""
    found = read(client, plan)
    assert found.entrypoint == plan.entrypoint
    assert found.description == plan.flow.description
    assert found.tags == ["twinloop", "bikes"]
    assert found.parameters == {"workload": "bikes"}
    assert found.enforce_parameter_schema is True
    assert found.work_pool_name == WORK_POOL
    crons = [(s.schedule.cron, s.schedule.timezone, s.active) for s in found.schedules]  # type: ignore[union-attr]
    assert crons == ([(plan.cron, "UTC", True)] if plan.cron else [])
    limit = found.global_concurrency_limit
    assert (limit and limit.limit) == (1 if plan.alone else None)
    options = found.concurrency_options
    assert (options and options.collision_strategy.value) == ("ENQUEUE" if plan.alone else None)


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.flow.name)
def test_each_form_is_that_of_the_flow(
    client: SyncPrefectClient, deployed: str, plan: Plan
) -> None:
    """The form in the UI has the fields and types of the planned one.

    That the workload can be no other, and what a parameter means, prefect.yaml has no words for.
    """
    planned = plan.schema
    del planned["properties"]["workload"]["enum"], planned["additionalProperties"]
    for field in planned["properties"].values():
        field.pop("description", None)
    found = read(client, plan).parameter_openapi_schema
    assert found is not None
    assert found["properties"] == planned["properties"]
    assert found.get("required", []) == planned.get("required", [])
    assert found.get("definitions", {}) == planned.get("definitions", {})


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.flow.name)
def test_no_folder_of_this_machine_is_recorded(
    client: SyncPrefectClient, deployed: str, plan: Plan
) -> None:
    """A worker anywhere can take a run: nothing is fetched, and no folder is looked for."""
    found = read(client, plan)
    assert not found.pull_steps
    assert str(ROOT) not in found.model_dump_json()


def test_file_holds_all_of_it(client: SyncPrefectClient, deployed: str) -> None:
    """Every planned deployment is in the file, and no other."""
    names = {f"{p.flow.name}/{p.name}" for p in PLANS}
    assert {line for line in names if f"'{line}'" in deployed} == names
    assert deployed.count("successfully created with id") == len(names)


def test_automation_is_as_planned(
    client: SyncPrefectClient, deployed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drift starts a retraining with the same parameters, whoever made the automation."""
    made: list[Automation] = []

    def keep(wanted: Automation) -> None:
        made.append(wanted)

    retraining = read(client, PLANS[-1])
    (found,) = client.read_automations_by_name("drift detected: retrain bikes")
    monkeypatch.setattr(Automation, "create", keep)
    monkeypatch.setattr(client, "read_automations_by_name", lambda _: [])
    deploy._automate(client, BIKES, retraining.id)
    (wanted,) = made
    assert found.description == wanted.description
    assert found.trigger.model_dump(exclude={"id"}) == wanted.trigger.model_dump(exclude={"id"})
    (action,), (planned,) = found.actions, wanted.actions
    assert action.model_dump() == planned.model_dump()


@pytest.fixture
def ran(client: SyncPrefectClient, deployed: str, home: Path) -> FlowRun:
    """Have a worker run a deployment in a folder of its own, its pages known by other names."""
    found = client.read_deployment_by_name("prepare-data/bikes")
    window = {"start": "2011-01-01T00:00:00Z", "end": "2011-01-03T00:00:00Z"}
    parameters = found.parameters | {"window": window}
    run = client.create_flow_run_from_deployment(found.id, parameters=parameters, state=Scheduled())
    command = ["worker", "start", "--pool", WORK_POOL, "--type", "process", "--run-once"]
    pages = {"PREFECT_UI_URL": "https://flows.test", "TWINLOOP_MLFLOW_PAGE": "https://runs.test"}
    said = call(home, *command, cwd=home, **pages)
    ended = client.read_flow_run(run.id)
    assert ended.state is not None
    assert ended.state.is_completed(), said
    return ended


def test_worker_runs_one(client: SyncPrefectClient, ran: FlowRun, home: Path) -> None:
    """A run of a deployment does its work in the worker's home, and its links suit a browser."""
    assert list((home / "data" / "lake" / "bikes" / "prepared").iterdir())
    links = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[ran.id]),
            type=ArtifactFilterType(any_=["markdown"]),
        )
    )
    assert ["https://runs.test/#/experiments/" in str(link.data) for link in links] == [True]
    experiment = mlflow_client().get_experiment_by_name("bikes")
    assert experiment is not None
    (logged,) = mlflow_client().search_runs([experiment.experiment_id])
    address = f"https://flows.test/flow-runs/flow-run/{ran.id}"
    assert logged.data.tags["twinloop.prefect_url"] == address
