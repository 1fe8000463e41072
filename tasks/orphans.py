"""Orphans: runs whose process was killed before it could say how they ended."""

import base64
import json
import os
import shutil
import socket
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from tasks.settings import settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_WHY = "the process ended without closing the run"


def close_orphans(*, prefect: bool = True) -> int:
    """Close runs whose process is gone, in MLflow and in Prefect; clear away what was half done.

    A flow run whose MLflow run had ended is given that end: its process lived on until Prefect no
    longer answered.

    Parameters
    ----------
    prefect
        Whether Prefect is asked at all; without one there is nothing to close.

    Returns
    -------
    int
        How many MLflow runs were closed.

    Raises
    ------
    ServiceError
        If MLflow does not answer.
    """
    from tasks.reconciling import finish_move, restore_aliases
    from tasks.tracking import client

    mlflow_client = client()
    experiments = [e.experiment_id for e in mlflow_client.search_experiments()]
    running = mlflow_client.search_runs(experiments, "attributes.status = 'RUNNING'")
    orphans = [r for r in running if _is_orphan(r)]
    for orphan in orphans:
        # A move that had been decided is finished: it is no run that was lost.
        if not finish_move(mlflow_client, experiments, orphan):
            close_orphan(mlflow_client, orphan)
    restore_aliases(mlflow_client, experiments)
    if prefect:
        _close_flow_runs(mlflow_client, experiments)
    return len(orphans)


def close_orphan(mlflow_client: "MlflowClient", run: "Run") -> bool:
    """Close a run with the bill of what is known of it; return whether its process was gone."""
    from tasks.lost import bill_lost

    if not _is_orphan(run):
        return False
    run_id = run.info.run_id
    lake = settings().root / "data" / "lake" / run.data.tags.get("twinloop.workload", "")
    # What a scoring left behind, the next one goes on with.
    shutil.rmtree(lake / "work" / run_id, ignore_errors=True)
    mlflow_client.set_tag(run_id, "twinloop.error", _WHY)
    bill_lost(run)
    mlflow_client.set_terminated(run_id, "FAILED")
    return True


def _is_orphan(run: "Run") -> bool:
    """Tell whether a run's process is no more; of other machines nothing is known."""
    host, _, rest = run.data.tags.get("twinloop.process", "").rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    started = run.data.tags["twinloop.process"].rpartition(":")[2]
    try:
        return f"{psutil.Process(int(rest)).create_time()}" != started
    except psutil.NoSuchProcess:
        return True


def _close_flow_runs(mlflow_client: "MlflowClient", experiments: list[str]) -> None:
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException
    from prefect.states import Completed, Crashed

    with suppress(HTTPError, PrefectException), get_client(sync_client=True) as prefect:
        for flow_run in prefect.read_flow_runs(flow_run_filter=_running()):
            tag = f"tags.`twinloop.prefect_flow_run_id` = '{flow_run.id}'"
            known = mlflow_client.search_runs(experiments, tag)
            if not known or not all(_is_orphan(r) for r in known):
                continue
            for task_run in prefect.read_task_runs(task_run_filter=_running_tasks(flow_run.id)):
                prefect.set_task_run_state(task_run.id, Crashed(message=_WHY), force=True)
            done = all(r.info.status == "FINISHED" for r in known)
            state: Any = Completed() if done else Crashed(message=_WHY)
            prefect.set_flow_run_state(flow_run.id, state, force=True)


def _running() -> Any:
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    running = FlowRunFilterStateType(any_=[StateType.RUNNING])
    return FlowRunFilter(state=FlowRunFilterState(type=running))


def _running_tasks(flow_run: Any) -> Any:
    from prefect.client.schemas.filters import (
        TaskRunFilter,
        TaskRunFilterFlowRunId,
        TaskRunFilterState,
        TaskRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    running = TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    return TaskRunFilter(
        flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run]),
        state=TaskRunFilterState(type=running),
    )


def anything_runs(prefect_api: str, mlflow: str) -> bool:
    """Tell whether either server calls anything running; asked without importing their clients.

    Raises
    ------
    OSError
        If one does not answer.
    """
    state = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    password = os.environ.get("PREFECT_API_AUTH_STRING", "")
    if _ask(f"{prefect_api}/flow_runs/count", state, password):
        return True
    account = (os.environ.get(f"MLFLOW_TRACKING_{n}", "") for n in ("USERNAME", "PASSWORD"))
    password, api = ":".join(account).strip(":"), f"{mlflow}/api/2.0/mlflow"
    known = _ask(f"{api}/experiments/search", {"max_results": 1000}, password)
    query = {
        "experiment_ids": [e["experiment_id"] for e in known.get("experiments", [])],
        "filter": "attributes.status = 'RUNNING'",
        "max_results": 1,
    }
    return bool(_ask(f"{api}/runs/search", query, password).get("runs"))


def _ask(address: str, body: dict[str, Any], password: str) -> Any:
    headers = {"Content-Type": "application/json"}
    if password:
        headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310 - our own servers
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own servers
        return json.load(answer)


if __name__ == "__main__":
    close_orphans()
