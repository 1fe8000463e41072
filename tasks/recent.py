"""Recent: the newest runs of a workload, read for people; neither MLflow nor Prefect is loaded."""

from datetime import datetime

from tasks.ledger import read_entries
from twinloop.ledger import Entry
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

# Parts of the names of metrics that are no run's own: its one has no prefix.
_PREFIXES = (
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


class RunLine(Frozen):
    """One run: what it was, how good, how long, how dear.

    Attributes
    ----------
    accuracy
        Name, value and meaning, like ``rmsle 0.283 (holdout)``.
    money, currency
        Of its bill.
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
    currency: str


class Runs(Frozen):
    """Runs of an experiment, the newest first.

    Attributes
    ----------
    currency
        That of all their bills; empty where they have several.
    """

    experiment: str
    currency: str
    runs: tuple[RunLine, ...]


def recent_runs(workload: Workload, limit: int, kind: str | None) -> Runs:
    """Read the newest runs of a workload's experiment."""
    # Of trials there are hundreds; whoever asks for them gets them.
    but = None if kind else "trial"
    found = read_entries([workload.experiment], kind=kind, but=but, limit=limit)
    currencies = {run.currency for run in found if run.currency} or {workload.prices.currency}
    return Runs(
        experiment=workload.experiment,
        currency=currencies.pop() if len(currencies) == 1 else "",
        runs=tuple(_line(run, workload) for run in found),
    )


def _line(run: Entry, workload: Workload) -> RunLine:
    return RunLine(
        run_id=run.run_id,
        name=run.name.replace(f" {workload.experiment}", "", 1),
        kind=run.kind,
        status=run.status,
        started=run.started,
        accuracy=_accuracy(run),
        wall_s=run.metric("time/wall_total_s"),
        cpu_s=run.metric("time/cpu_s"),
        rows_per_s=run.metrics.get("time/rows_per_s"),
        peak_mb=run.metric("cost/peak_memory_mb"),
        money=run.metric("cost/money_total"),
        currency=run.currency,
    )


def _accuracy(run: Entry) -> str:
    """Give the run's own metric: the one whose name has no prefix."""
    for name, value in sorted(run.metrics.items()):
        short = name.removeprefix("accuracy/")
        if short not in (name, "known") and not short.startswith(_PREFIXES):
            return f"{short} {value:.4g} ({run.meaning})"
    return run.meaning
