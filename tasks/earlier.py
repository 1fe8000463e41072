"""Earlier: the runs of before that a run may learn from."""

from typing import TYPE_CHECKING

from tasks.tracking import TrackedRun, client, experiment_id
from twinloop.vocabulary import RunKind
from twinloop.workload import Workload

if TYPE_CHECKING:
    from mlflow.entities import Run

_MOST = 1000


def earlier_runs(
    workload: Workload,
    kind: RunKind,
    run: TrackedRun,
    *,
    more: str = "",
    limit: int = _MOST,
    finished: bool = True,
) -> "list[Run]":
    """Search the runs of a workload, the newest first; within a replay, only those of it.

    Parameters
    ----------
    workload, kind
        Whose runs, and which.
    run
        The one that asks.
    more
        What else holds of them, as MLflow has it.
    limit
        Only so many, the newest.
    finished
        Whether only those that ended well.
    """
    parts = [f"tags.`twinloop.kind` = '{kind}'", f"tags.`twinloop.workload` = '{workload.id}'"]
    if finished:
        parts.append("attributes.status = 'FINISHED'")
    if run.replay:
        parts.append(f"tags.`twinloop.replay` = '{run.replay}'")
    if more:
        parts.append(more)
    mlflow_client = client()
    return list(
        mlflow_client.search_runs(
            [experiment_id(mlflow_client, workload.experiment)],
            " and ".join(parts),
            max_results=limit,
            order_by=["attributes.start_time DESC"],
        )
    )
