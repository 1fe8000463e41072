"""Replay history: both loops over past time, with a moving clock, every step a real flow run."""

from datetime import datetime, timedelta

from flows.retrain_model import retrain_model
from flows.score_batch import score_batch
from flows.train_model import train_model
from flows.watch_drift import watch_drift
from tasks.engines import flow
from tasks.replaying import (
    clear_sandbox,
    close_policy,
    close_replay,
    progress,
    realised_error,
    span_of,
)
from tasks.settings import load_workload
from tasks.tracking import tracked_run
from twinloop.errors import EmptyWindowError
from twinloop.replay import Policy, PolicyResult, ReplayResult, Tick, clock
from twinloop.results import TrainingResult
from twinloop.window import Window


@flow(name="replay-history", flow_run_name="replay {workload}")
def replay_history(
    workload: str,
    policies: tuple[str, ...] = ("drift",),
    start: datetime | None = None,
    end: datetime | None = None,
    step: timedelta = timedelta(days=7),
) -> ReplayResult:
    """Score, watch and retrain through past time, once for each policy.

    Every step is a flow run in Prefect and a run in MLflow, to be looked at. For the numbers alone
    `flows.replay_policies` is many times faster.

    Each policy works in a sandbox of its own: the workload's champion and predictions are not
    touched.

    Parameters
    ----------
    workload
        Name of the workload; it needs a time column.
    policies
        When to retrain: ``never``, ``every:28d``, ``drift``.
    start
        Moment of the first training, UTC; default as early as the training window allows.
    end
        Moment of the last tick, UTC; default the end of the source.
    step
        Time between ticks; each scores the rows since the one before.
    """
    rules = [Policy.parse(text) for text in policies]
    spec = load_workload(f"{workload}-replay")
    begin, finish = span_of(spec, start, end)
    with tracked_run(spec, "replay", window=Window(start=begin, end=finish), as_of=begin) as run:
        results = [
            _replay(workload, rule, begin, clock(begin, finish, step), step) for rule in rules
        ]
        close_replay(spec, results, run)
    return ReplayResult(
        workload=workload, replay_id=run.run_id, start=begin, end=finish, policies=tuple(results)
    )


def _replay(
    workload: str, policy: Policy, begin: datetime, stops: list[datetime], step: timedelta
) -> PolicyResult:
    """Run one policy: a first training, then tick by tick."""
    sandbox = f"{workload}-replay-{policy.slug}"
    spec = load_workload(sandbox)
    window = Window(start=begin, end=max([begin + step, *stops]))
    with tracked_run(spec, "replay", window=window, as_of=begin, what=str(policy)) as run:
        clear_sandbox(spec)
        first = train_model(sandbox, as_of=begin)
        progress.info(
            "%s  %s: first model, %s %.4g", f"{begin:%Y-%m-%d}", policy, first.metric, first.holdout
        )
        last, ticks = begin, []
        for number, now in enumerate(stops, 1):
            due = policy.is_due(now - last)
            tick = replay_tick(sandbox, policy, now, step, due=due)
            last = now if tick.trained else last
            ticks.append(tick)
            progress.info("[%*d/%d] %s", len(str(len(stops))), number, len(stops), tick.line())
        return close_policy(spec, str(policy), ticks, run)


def replay_tick(sandbox: str, policy: Policy, now: datetime, step: timedelta, *, due: bool) -> Tick:
    """Score what has come since the last tick, watch it, and train where the policy says so."""
    spec = load_workload(sandbox)
    try:
        manifest = score_batch(sandbox, Window(start=now - step, end=now), now)
    except EmptyWindowError:
        return Tick(as_of=now, scored=0, quarantined=0, error=None, labelled=0, decision="no rows")
    error, labelled = realised_error(spec, manifest)
    tick = Tick(
        as_of=now,
        scored=manifest.scored,
        quarantined=manifest.quarantined,
        error=error,
        labelled=labelled,
        champion=manifest.version.version,
    )
    result: TrainingResult | None = None
    if policy.kind == "drift":
        decision = watch_drift(sandbox, now)
        seen = {
            "decision": decision.action,
            "reason": decision.reason,
            "drifted": decision.drifted,
        }
        tick = tick.model_copy(update=seen)
        if decision.calls:
            result = retrain_model(sandbox, now, decision.reason, trigger=decision.cause)
    elif due:
        result = train_model(sandbox, as_of=now)
    if result is None:
        return tick
    return tick.model_copy(update={"trained": True, "verdict": result.verdict.outcome})
