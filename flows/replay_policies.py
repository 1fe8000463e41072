"""Replay policies: what each would have cost and gained, in numbers, as fast as they can be had."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime, timedelta

from flows.simulate_policy import prepare_process, simulate_policy, train_first
from tasks import scratch
from tasks.replaying import close_simulation, progress, span_of
from tasks.scratch import Job
from tasks.settings import load_workload, settings
from tasks.tracking import tracked_run
from twinloop.replay import Policy, PolicyResult, ReplayResult, Tick, clock
from twinloop.window import Window

_LOOK_SECONDS = 0.2


def replay_policies(
    workload: str,
    policies: Sequence[str] = ("drift",),
    start: datetime | None = None,
    end: datetime | None = None,
    step: timedelta = timedelta(days=7),
) -> ReplayResult:
    """Score, watch and retrain through past time, once for each policy, with no engine on.

    The same flows run as in production and decide the same, called as the plain functions they are;
    nothing of them is kept but one MLflow run with the numbers of all policies. Policies run side
    by side on the cores there are. A replay that was killed goes on where it was, if it is started
    again with the same arguments.

    Parameters
    ----------
    workload
        Name of the workload; it needs a time column.
    policies
        When to retrain: ``never``, ``every:28d``, ``drift``.
    start, end
        Moments of the first training and of the last tick, UTC; default what the source allows.
    step
        Time between ticks; each scores the rows since the one before.

    Raises
    ------
    StorageError
        If another process replays the same just now, or the disk refuses.
    """
    rules = list(dict.fromkeys(Policy.parse(text) for text in policies))
    spec = load_workload(f"{workload}-replay")
    begin, finish = span_of.fn(spec, start, end)
    stops = clock(begin, finish, step)
    cores = settings().threads
    workers = min(cores, len(rules))
    folder = scratch.job_folder(spec, [str(r) for r in rules], (begin, stops, step))
    job = Job(
        sandbox=spec.id,
        folder=folder,
        start=begin,
        stops=tuple(stops),
        step=step,
        threads=cores // workers,
    )
    window = Window(start=begin, end=finish)
    with (
        scratch.at_work(folder),
        tracked_run(spec, "replay", window=window, as_of=begin) as run,
    ):
        results = _simulate(job, rules, workers)
        close_simulation.fn(spec, results, run)
        scratch.clear(folder)
    return ReplayResult(
        workload=workload, replay_id=run.run_id, start=begin, end=finish, policies=tuple(results)
    )


def _simulate(job: Job, rules: list[Policy], workers: int) -> list[PolicyResult]:
    """Run all policies, so many at a time; the first error ends them all."""
    with _processes(workers, job.threads) as pool:
        pool.submit(train_first, job).result()
        told = {rule.slug: len(_ticks(job, rule)) for rule in rules}
        for rule in (r for r in rules if told[r.slug]):
            progress.info("%s: going on after %d of %d", rule, told[rule.slug], len(job.stops))
        running = [pool.submit(simulate_policy, job, rule) for rule in rules]
        while not _all_done(running):
            _tell(job, rules, told)
        _tell(job, rules, told)
        return [future.result() for future in running]


def _all_done(running: list[Future[PolicyResult]]) -> bool:
    done, rest = wait(running, _LOOK_SECONDS)
    for future in done:
        if future.exception() is not None:
            future.result()
    return not rest


def _ticks(job: Job, rule: Policy) -> tuple[Tick, ...]:
    state = scratch.read_state(job.folder / rule.slug)
    return () if state is None else state.ticks


def _tell(job: Job, rules: list[Policy], told: dict[str, int]) -> None:
    """Say which ticks have been done since the last look."""
    many = len(job.stops)
    for rule in rules:
        ticks = _ticks(job, rule)
        for number, tick in enumerate(ticks[told[rule.slug] :], told[rule.slug] + 1):
            progress.info("%s [%*d/%d] %s", rule, len(str(many)), number, many, tick.line())
        told[rule.slug] = len(ticks)


@contextmanager
def _processes(workers: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Start fresh processes for the length of a block; whatever ends it ends them."""
    before = set(multiprocessing.active_children())
    # A forked process would inherit threads' locks, and MLflow's connections.
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=prepare_process,
        initargs=(os.getpid(), threads),
    )
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
