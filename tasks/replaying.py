"""Replaying: what a moving clock needs from the lake, the registry and the ledger."""

import logging
import shutil
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pandas as pd

from tasks import sources
from tasks.labelling import find_labels
from tasks.metering import step
from tasks.published import PLACES, Manifest
from tasks.registry import clear_champion
from tasks.settings import settings
from tasks.tracking import TrackedRun, client, experiment_id
from twinloop.errors import EmptyWindowError, WorkloadError
from twinloop.evaluation import METRICS
from twinloop.logplan import Metric, Plot, Tag, Text
from twinloop.plots import replay_plot
from twinloop.replay import PolicyResult, Tick, overall
from twinloop.window import as_utc
from twinloop.workload import Workload

progress = logging.getLogger("twinloop.progress")


@step
def span_of(
    workload: Workload, start: datetime | None, end: datetime | None
) -> tuple[datetime, datetime]:
    """Return the first training's moment and the last tick's: given, or what the source allows.

    Raises
    ------
    WorkloadError
        If rows have no time: there is no past to go through.
    EmptyWindowError
        If no time is left between the two.
    """
    if workload.time is None:
        raise WorkloadError(
            f"workload {workload.name!r} has no time column; a replay needs one.",
            "Set 'time', or use train, score and watch.",
        )
    first, newest = _ends(workload)
    last = newest + timedelta(microseconds=1)
    history = workload.training.window or (last - first) / 3
    begin = (
        as_utc(start) if start else _midnight(first + history + workload.monitoring.labels_after)
    )
    finish = as_utc(end) if end else last
    if begin >= finish:
        raise EmptyWindowError(
            f"a replay from {begin:%Y-%m-%d} to {finish:%Y-%m-%d} has no length; "
            f"rows there are from {first:%Y-%m-%d} to {last:%Y-%m-%d} UTC.",
            "Choose --start and --end, or shorten training.window.",
        )
    return begin, finish


def _ends(workload: Workload) -> tuple[datetime, datetime]:
    ends = sources.time_span(workload)
    if ends is None:
        raise EmptyWindowError(f"{sources.origin(workload)}: no row has a time.")
    return ends


def _midnight(moment: datetime) -> datetime:
    whole = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return whole if whole == moment else whole + timedelta(days=1)


# Kinds of runs whose cost is that of training.
_TRAINING = ("training", "candidate", "tuning", "trial", "retraining", "promotion")


@step
def clear_sandbox(workload: Workload) -> None:
    """Start a replay afresh: no champion, no predictions; versions and runs of before stay."""
    clear_champion(workload)
    for part in (*PLACES, "tuning"):
        shutil.rmtree(settings().lake(workload) / part, ignore_errors=True)


@step
def realised_error(workload: Workload, manifest: Manifest) -> tuple[float | None, int]:
    """Return the metric on a scored window by all labels there are, and the rows that have one."""
    labelled = find_labels(workload, manifest.window)
    if labelled is None:
        return None, 0
    value = METRICS[workload.metric].score(labelled.y, labelled.predictions)
    return value, len(labelled.y)


@step
def close_policy(
    workload: Workload, policy: str, ticks: list[Tick], run: TrackedRun
) -> PolicyResult:
    """Add up a policy from the ledger, and log what it came to."""
    runs = _ledger(workload, run)
    billed = _bill_ticks(runs, ticks)
    training = runs["kind"].isin(_TRAINING)
    result = PolicyResult(
        policy=policy,
        metric=workload.metric,
        currency=workload.prices.currency,
        error=overall(workload.metric, ticks),
        trainings=int((runs["kind"] == "training").sum()),
        promotions=int((runs["kind"] == "promotion").sum()),
        scored=sum(t.scored for t in ticks),
        quarantined=sum(t.quarantined for t in ticks),
        training_money=float(runs.loc[training, "money"].sum()),
        money=float(runs["money"].sum()),
        seconds=run.meter.usage().total_wall_seconds,
        ticks=tuple(billed),
    )
    run.rows = result.scored
    run.log(
        [
            Metric(f"accuracy/{workload.metric}", result.error),
            Tag("twinloop.accuracy", "realised"),
            Tag("twinloop.policy", policy),
            Metric("replay/trainings", result.trainings),
            Metric("replay/promotions", result.promotions),
            Metric("replay/training_money", result.training_money),
            Text("ticks.json", result.model_dump_json(indent=1)),
        ]
    )
    run.log(
        Metric(f"replay/tick_{workload.metric}", t.error, i)
        for i, t in enumerate(ticks)
        if t.error is not None
    )
    return result


def _ledger(workload: Workload, run: TrackedRun) -> pd.DataFrame:
    """Read kind, moment and money of all runs of this replay that belong to this sandbox."""
    mlflow_client = client()
    where = (
        f"tags.`twinloop.replay` = '{run.replay}' and tags.`twinloop.workload` = '{workload.id}'"
    )
    experiments = [experiment_id(mlflow_client, workload.experiment)]
    rows, token = [], None
    while True:
        page = mlflow_client.search_runs(experiments, where, max_results=1000, page_token=token)
        rows += [
            {
                "kind": r.data.tags["twinloop.kind"],
                "as_of": r.data.tags["twinloop.as_of"],
                "money": r.data.metrics.get("cost/money", 0.0),
            }
            for r in page
            if r.info.run_id != run.run_id
        ]
        token = page.token
        if not token:
            return pd.DataFrame(rows, columns=["kind", "as_of", "money"])


def _bill_ticks(runs: pd.DataFrame, ticks: list[Tick]) -> list[Tick]:
    money: defaultdict[datetime, float] = defaultdict(float)
    for as_of, amount in zip(runs["as_of"], runs["money"], strict=True):
        money[as_utc(datetime.fromisoformat(as_of))] += amount
    return [t.model_copy(update={"money": money[t.as_of]}) for t in ticks]


@step
def close_replay(workload: Workload, results: list[PolicyResult], run: TrackedRun) -> None:
    """Log all policies side by side."""
    best = min(results, key=lambda r: METRICS[r.metric].gain(0.0, r.error))
    run.rows = sum(r.scored for r in results)
    ends = {r.policy: [t.as_of for t in r.ticks if t.error is not None] for r in results}
    errors = {r.policy: [t.error for t in r.ticks if t.error is not None] for r in results}
    run.log(
        [
            Metric(f"accuracy/{workload.metric}", best.error),
            Tag("twinloop.accuracy", f"realised, of policy {best.policy}"),
            Plot("plots/error_by_tick.png", replay_plot(ends, errors, workload.metric)),
        ]
    )
    for result in results:
        slug = result.policy.replace(":", "_")
        run.log(
            [
                Metric(f"replay/{slug}/{result.metric}", result.error),
                Metric(f"replay/{slug}/training_money", result.training_money),
                Metric(f"replay/{slug}/trainings", result.trainings),
            ]
        )
