"""The saved view of runs: written the way MLflow's page reads it, and kept up to date."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import load_workload
from tasks.tracking import client, experiment_id
from tasks.viewing import VIEW, offer_view, run_page, runs_page, view_of

TAG = "mlflow.sharedViewState.twinloop"


def test_view_has_accuracy_time_and_cost() -> None:
    """The columns are those of all runs, the accuracy that of the workload's metric."""
    view = json.loads(view_of("log_loss"))
    assert view["name"] == VIEW
    columns = json.loads(view["state"])["selectedColumns"]
    wanted = ("accuracy/log_loss", "time/wall_total_s", "cost/money_total")
    assert {f"metrics.`{name}`" for name in wanted} <= set(columns)


def test_addresses_open_the_pages_for_training() -> None:
    """An address names the kind of work, else a first visitor is shown a page for chats."""
    for page in (run_page("http://here:1/", "7", "abc"), runs_page("http://here:1", "7")):
        assert page.startswith("http://here:1/#/experiments/7/runs")
        assert "workflowType=machine_learning" in page


@pytest.mark.usefixtures("home")
def test_view_is_offered_once_and_follows_the_metric(home: Path) -> None:
    """The experiment keeps one view; a changed metric changes it; what a person wrote stays."""
    mlflow_client, workload = client(), load_workload("bikes")
    experiment = experiment_id(mlflow_client, workload.experiment)

    def tags() -> dict[str, Any]:
        return dict(mlflow_client.get_experiment(experiment).tags)

    offer_view(mlflow_client, experiment, workload)
    assert tags()[TAG] == view_of("rmsle")
    assert tags()["mlflow.note.content"] == workload.description
    mlflow_client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    offer_view(mlflow_client, experiment, workload.model_copy(update={"metric": "mae"}))
    assert tags()[TAG] == view_of("mae")
    assert tags()["mlflow.note.content"] == "mine"
