"""Reconciling: aliases of champions made to say what the ledger says.

MLflow lets an alias be moved by anybody, remembers nothing of it, and has no way to move it and
write that down at once. So the record is written first and is the truth; the alias is its cache.
"""

import logging
from typing import TYPE_CHECKING

from tasks.lost import bill_lost
from tasks.registry import CHAMPION, DECIDED, point_aliases

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger("twinloop.progress")
_MOST = 50


def finish_move(mlflow_client: "MlflowClient", experiments: list[str], run: "Run") -> bool:
    """Finish a move whose process was killed once it was decided, and bill what is known of it.

    Parameters
    ----------
    mlflow_client, experiments
        Where to look for later moves.
    run
        The record, its process gone.

    Returns
    -------
    bool
        False where nothing had been decided, or the champion has moved on since.
    """
    tags = run.data.tags
    if tags.get("twinloop.kind") != "promotion" or DECIDED not in tags:
        return False
    name = tags["twinloop.workload"]
    later = _moves(mlflow_client, experiments, name)
    if any(r.info.start_time > run.info.start_time for r in later):
        return False
    point_aliases(name, tags["twinloop.to"], tags.get("twinloop.former", ""))
    mlflow_client.set_tag(run.info.run_id, "twinloop.reconciled", "yes")
    bill_lost(run)
    mlflow_client.set_terminated(run.info.run_id, "FINISHED")
    return True


def restore_aliases(mlflow_client: "MlflowClient", experiments: list[str]) -> int:
    """Point champion aliases that say something else than the ledger to what it says.

    Models without a record are left alone, and so are replays', which take their alias away.

    Returns
    -------
    int
        How many were moved.
    """
    moved = 0
    for model in mlflow_client.search_registered_models():
        moves = [] if "-" in model.name else _moves(mlflow_client, experiments, model.name)
        # One that is being made just now is finished by its own process.
        if not moves or moves[0].info.status == "RUNNING":
            continue
        said, there = moves[0].data.tags["twinloop.to"], str(model.aliases.get(CHAMPION, ""))
        if said != there:
            _log.warning(
                "%s: the alias %r was at version %s, the ledger says %s: put back. To move it, "
                "use `twinloop champion %s --rollback VERSION`, which writes it down.",
                *(model.name, CHAMPION, there or "none", said, model.name),
            )
            mlflow_client.set_registered_model_alias(model.name, CHAMPION, said)
            moved += 1
    return moved


def _moves(mlflow_client: "MlflowClient", experiments: list[str], name: str) -> "list[Run]":
    """Read the newest moves of a model that were made, or are being made, the newest first."""
    where = f"tags.`twinloop.kind` = 'promotion' and tags.`twinloop.workload` = '{name}'"
    order = ["attributes.start_time DESC"]
    found = mlflow_client.search_runs(experiments, where, max_results=_MOST, order_by=order)
    return [
        r
        for r in found
        if r.info.status == "FINISHED" or (r.info.status == "RUNNING" and DECIDED in r.data.tags)
    ]
