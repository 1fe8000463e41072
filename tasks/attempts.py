"""Attempts: a flow run that Prefect tries again is one run of the ledger, with one whole bill."""

from typing import TYPE_CHECKING

from tasks.metering import Meter
from twinloop.costs import Quantities, billed_at, priced_quantities
from twinloop.loop_keys import Prices

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# A flow run's id, on the one run that it is; and on attempts that such a run has taken over.
FLOW_RUN, _ATTEMPT_OF = "twinloop.prefect_flow_run_id", "twinloop.attempt_of"
_PARENT = "mlflow.parentRunId"
_MOST = 1000
_WITHOUT_PARTS = ("trial", "promotion")


def adopt_attempts(
    mlflow_client: "MlflowClient", experiment: str, run_id: str, flow_run: str, meter: Meter
) -> None:
    """Make earlier attempts of a flow run parts of the newest, and put them into its totals.

    Each attempt keeps its own bill and its own state; the flow run's id is the newest's alone. One
    whose process was killed is closed first.

    Parameters
    ----------
    mlflow_client, experiment
        Where the runs are.
    run_id
        MLflow run of the newest attempt.
    flow_run
        Prefect's id of the flow run.
    meter
        Of the newest attempt.
    """
    from tasks.orphans import close_orphan

    runs = {r.info.run_id: r for r in _search(mlflow_client, experiment, FLOW_RUN, flow_run)}
    runs.pop(run_id, None)
    earlier = [r for r in runs.values() if r.data.tags.get(_PARENT) not in runs]
    for attempt in earlier:
        mlflow_client.set_tag(attempt.info.run_id, _PARENT, run_id)
        mlflow_client.set_tag(attempt.info.run_id, _ATTEMPT_OF, flow_run)
        mlflow_client.delete_tag(attempt.info.run_id, FLOW_RUN)
        for part in _with_parts(mlflow_client, experiment, attempt):
            found = part
            if part.info.status == "RUNNING" and close_orphan(mlflow_client, part):
                found = mlflow_client.get_run(part.info.run_id)
            meter.add_before(found.data.metrics.get("time/wall_s", 0.0), quantities_of(found))


def _with_parts(mlflow_client: "MlflowClient", experiment: str, run: "Run") -> "list[Run]":
    found = [run]
    if run.data.tags.get("twinloop.kind") not in _WITHOUT_PARTS:
        for part in _search(mlflow_client, experiment, _PARENT, run.info.run_id):
            found += _with_parts(mlflow_client, experiment, part)
    return found


def _search(mlflow_client: "MlflowClient", experiment: str, tag: str, value: str) -> "list[Run]":
    where = f"tags.`{tag}` = '{value}'"
    return list(mlflow_client.search_runs([experiment], where, max_results=_MOST))


def prices_of(run: "Run") -> Prices:
    """Return the prices a run was billed at; where it does not say, the default."""
    return billed_at(run.data.tags)


def quantities_of(run: "Run") -> Quantities:
    """Return what a run used itself, as its bill says."""
    energy = run.data.tags.get("twinloop.energy", "")
    return priced_quantities(run.data.metrics, prices_of(run), energy)
