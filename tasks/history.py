"""History: what the ledger in MLflow remembers, read for people."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tasks.registry import Move, ServedVersion, champion_moves, find_champion, versions
from tasks.tracking import client, experiment_id
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

if TYPE_CHECKING:
    from mlflow.entities import Run


class ChampionHistory(Frozen):
    """Versions, the one that serves, and every move, the newest first."""

    workload: str
    champion: str
    versions: tuple[ServedVersion, ...]
    moves: tuple[Move, ...]


class RunLine(Frozen):
    """One run: what it was, how good, how long, how dear.

    Attributes
    ----------
    accuracy
        Name, value and meaning, like ``rmsle 0.283 (holdout)``.
    """

    run_id: str
    name: str
    kind: str
    status: str
    started: datetime
    accuracy: str
    wall_s: float
    cpu_s: float
    rows_per_s: float | None
    peak_mb: float
    money: float


class Runs(Frozen):
    """Runs of an experiment, the newest first."""

    experiment: str
    currency: str
    runs: tuple[RunLine, ...]


def champion_history(workload: Workload) -> ChampionHistory:
    """Read who served, since when and by which evidence."""
    champion = find_champion(workload)
    return ChampionHistory(
        workload=workload.id,
        champion=champion.version if champion else "",
        versions=tuple(versions(workload)),
        moves=tuple(champion_moves(workload)),
    )


def recent_runs(workload: Workload, limit: int, kind: str | None) -> Runs:
    """Read the newest runs of a workload's experiment."""
    # Of trials there are hundreds; whoever asks for them gets them.
    where = f"tags.`twinloop.kind` = '{kind}'" if kind else "tags.`twinloop.kind` != 'trial'"
    return Runs(
        experiment=workload.experiment,
        currency=workload.prices.currency,
        runs=tuple(_line(run, workload) for run in _search(workload, where, limit)),
    )


def _search(workload: Workload, where: str, limit: int) -> "list[Run]":
    mlflow_client = client()
    experiment = experiment_id(mlflow_client, workload.experiment)
    order = ["attributes.start_time DESC"]
    return list(mlflow_client.search_runs([experiment], where, max_results=limit, order_by=order))


def _line(run: "Run", workload: Workload) -> RunLine:
    metrics, tags = run.data.metrics, run.data.tags
    return RunLine(
        run_id=run.info.run_id,
        name=(run.info.run_name or "").replace(f" {workload.experiment}", "", 1),
        kind=tags.get("twinloop.kind", ""),
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        accuracy=_accuracy(metrics, tags),
        wall_s=metrics.get("time/wall_total_s", 0.0),
        cpu_s=metrics.get("time/cpu_s", 0.0),
        rows_per_s=metrics.get("time/rows_per_s"),
        peak_mb=metrics.get("cost/peak_memory_mb", 0.0),
        money=metrics.get("cost/money_total", 0.0),
    )


def _accuracy(metrics: dict[str, float], tags: dict[str, str]) -> str:
    """Give the run's own metric: the one whose name has no prefix."""
    meaning = tags.get("twinloop.accuracy", "")
    prefixes = (
        "train_",
        "spread_",
        "fold_",
        "cv_",
        "low_",
        "high_",
        "gap_",
        "curve_",
        "estimated_",
        "checked_",
        "realised_",
        "promised_",
    )
    for name, value in sorted(metrics.items()):
        short = name.removeprefix("accuracy/")
        if short not in (name, "known") and not short.startswith(prefixes):
            return f"{short} {value:.4g} ({meaning})"
    return meaning
