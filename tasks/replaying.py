"""Replaying: what a moving clock needs from the lake, the registry and the ledger."""

import logging
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

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
from twinloop.logplan import LogItem, Metric, Plot, Tag, Text
from twinloop.plots import replay_plot
from twinloop.replay import PolicyResult, Tick, overall
from twinloop.replay_plots import frontier_plot
from twinloop.standings import compare_policies, policies_csv
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


_STANDING = {"gain": "gain", "share": "share_of_best_schedule", "cost": "relative_cost"}
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
    seconds = run.meter.usage().total_wall_seconds
    result = _add_up(workload, policy, ticks, runs, seconds)
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


@step
def add_up_policy(
    workload: Workload, policy: str, ticks: Sequence[Tick], seconds: float
) -> PolicyResult:
    """Add up a policy from a ledger that holds its runs and no others."""
    return _add_up(workload, policy, ticks, _ledger(workload, None), seconds)


def _add_up(
    workload: Workload, policy: str, ticks: Sequence[Tick], runs: pd.DataFrame, seconds: float
) -> PolicyResult:
    training = runs["kind"].isin(_TRAINING)
    return PolicyResult(
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
        training_energy_kwh=float(runs.loc[training, "energy"].sum()),
        energy_kwh=float(runs["energy"].sum()),
        seconds=seconds,
        ticks=tuple(_bill_ticks(runs, ticks)),
    )


def _ledger(workload: Workload, run: TrackedRun | None) -> pd.DataFrame:
    """Read kind, moment, money and energy of a sandbox's runs: all, or those of one replay."""
    mlflow_client = client()
    where = f"tags.`twinloop.workload` = '{workload.id}'"
    if run is not None:
        where += f" and tags.`twinloop.replay` = '{run.replay}'"
    experiments = [experiment_id(mlflow_client, workload.experiment)]
    rows, token = [], None
    while True:
        page = mlflow_client.search_runs(experiments, where, max_results=1000, page_token=token)
        rows += [
            {
                "kind": r.data.tags["twinloop.kind"],
                "as_of": r.data.tags["twinloop.as_of"],
                "money": r.data.metrics.get("cost/money", 0.0),
                "energy": r.data.metrics.get("cost/energy_kwh", 0.0),
            }
            for r in page
            if run is None or r.info.run_id != run.run_id
        ]
        token = page.token
        if not token:
            return pd.DataFrame(rows, columns=["kind", "as_of", "money", "energy"])


def _bill_ticks(runs: pd.DataFrame, ticks: Sequence[Tick]) -> list[Tick]:
    money: defaultdict[datetime, float] = defaultdict(float)
    for as_of, amount in zip(runs["as_of"], runs["money"], strict=True):
        money[as_utc(datetime.fromisoformat(as_of))] += amount
    return [t.model_copy(update={"money": money[t.as_of]}) for t in ticks]


@step
def close_replay(workload: Workload, results: list[PolicyResult], run: TrackedRun) -> None:
    """Log all policies side by side."""
    _log_policies(workload, results, run)


def _log_policies(workload: Workload, results: list[PolicyResult], run: TrackedRun) -> None:
    best = min(results, key=lambda r: METRICS[r.metric].gain(0.0, r.error))
    run.rows = sum(r.scored for r in results)
    ends = {r.policy: [t.as_of for t in r.ticks if t.error is not None] for r in results}
    errors = {r.policy: [t.error for t in r.ticks if t.error is not None] for r in results}
    run.log(
        [
            Metric(f"accuracy/{workload.metric}", best.error),
            Tag("twinloop.accuracy", f"realised, of policy {best.policy}"),
            Plot("plots/error_by_tick.png", partial(replay_plot, ends, errors, workload.metric)),
        ]
    )
    for result in results:
        run.log(_plan_policy(result))
    run.log(_plan_standings(results))


@step
def close_simulation(workload: Workload, results: list[PolicyResult], run: TrackedRun) -> None:
    """Log all policies of a simulated replay side by side, with every tick, in this one run."""
    _log_policies(workload, results, run)
    for result in results:
        slug = _slug(result)
        run.log(
            Metric(f"replay/{slug}/tick_{result.metric}", t.error, i)
            for i, t in enumerate(result.ticks)
            if t.error is not None
        )
        run.log([Text(f"ticks/{slug}.json", result.model_dump_json(indent=1))])


def _slug(result: PolicyResult) -> str:
    return result.policy.replace(":", "_")


def _plan_policy(result: PolicyResult) -> Iterator[LogItem]:
    slug = _slug(result)
    yield Metric(f"replay/{slug}/{result.metric}", result.error)
    for name in ("trainings", "promotions", "training_money", "money"):
        yield Metric(f"replay/{slug}/{name}", getattr(result, name))
    for name in ("training_energy_kwh", "energy_kwh"):
        yield Metric(f"replay/{slug}/{name}", getattr(result, name))


def _plan_standings(results: list[PolicyResult]) -> Iterator[LogItem]:
    """Yield what tells policies apart: a picture, a table, and a few numbers each."""
    standings = compare_policies(results)
    for result, standing in zip(results, standings, strict=True):
        for name in ("gain", "share", "cost"):
            value = getattr(standing, name)
            if value is not None:
                yield Metric(f"replay/{_slug(result)}/{_STANDING[name]}", value)
    yield Text("policies.csv", policies_csv(results, standings))
    yield Plot("plots/error_and_cost.png", partial(frontier_plot, results))
