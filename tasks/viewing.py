"""Viewing: addresses of MLflow's pages, and the columns its table of runs is to open with.

MLflow opens an experiment on a page for chats, and its table of runs without any metric. An
address can say otherwise: the kind of work, and a *saved view*, which MLflow keeps as a tag of
the experiment and lists in its menu "Views".
"""

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from twinloop.workload import Workload

if TYPE_CHECKING:
    from mlflow import MlflowClient

VIEW = "Accuracy, time and cost"
_KEY = "twinloop"
_TAG = f"mlflow.sharedViewState.{_KEY}"
_NOTE = "mlflow.note.content"
_KIND_OF_WORK = "workflowType=machine_learning"


def run_page(uri: str, experiment: str, run_id: str) -> str:
    """Return the address of a run's page."""
    return f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}?{_KIND_OF_WORK}"


def file_address(uri: str, run_id: str, path: str) -> str:
    """Return the address of a file among a run's artifacts, as MLflow's own page asks for it."""
    return f"{uri.rstrip('/')}/get-artifact?path={quote(path, safe='')}&run_uuid={run_id}"


def runs_page(uri: str, experiment: str) -> str:
    """Return the address of the table of runs, in the view that `offer_view` saved."""
    page = f"{uri.rstrip('/')}/#/experiments/{experiment}/runs"
    return f"{page}?{_KIND_OF_WORK}&viewStateShareKey={_KEY}"


def offer_view(mlflow_client: "MlflowClient", experiment: str, workload: Workload) -> None:
    """Save the view of a workload's runs with its experiment, and what it is about.

    A description that a person has written stays.
    """
    tags = mlflow_client.get_experiment(experiment).tags
    view = view_of(workload.metric)
    if tags.get(_TAG) != view:
        mlflow_client.set_experiment_tag(experiment, _TAG, view)
    if _NOTE not in tags and workload.description:
        mlflow_client.set_experiment_tag(experiment, _NOTE, workload.description)


def view_of(metric: str) -> str:
    """Write the saved view of runs that are judged by a metric, the way MLflow's page reads it."""
    widths = {
        "attributes.`Run Name`": 240,
        "runDateAndNestInfo": 130,  # when it was created; always shown, as is how long it took
        # Numbers are shown with all their digits; cut off, an exponent would be missing.
        f"metrics.`accuracy/{metric}`": 170,
        "metrics.`cost/money_total`": 190,
        "metrics.`time/wall_total_s`": 170,
        "tags.`twinloop.accuracy`": 130,
        "tags.`twinloop.window`": 180,
        "tags.`twinloop.verdict`": 130,
        "tags.`twinloop.decision`": 130,
        "tags.`twinloop.version`": 120,
    }
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [name for name in widths if name.startswith(("metrics.", "tags."))],
        "columnOrder": list(widths),
        "columnWidths": widths,
    }
    return json.dumps({"name": VIEW, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})
