"""Simulate a policy: the flows of a replay as plain functions, in a folder of its own."""

import os
import signal
import threading
import time
from contextlib import ExitStack

from flows.replay_history import replay_tick
from flows.train_model import train_model
from tasks import scratch
from tasks.engines import engines_off
from tasks.replaying import add_up_policy
from tasks.scratch import Job, State
from tasks.settings import load_workload
from twinloop.replay import Policy, PolicyResult

_LOOK_SECONDS = 0.5


def train_first(job: Job) -> None:
    """Make the version that every policy begins with, unless it is there."""
    with ExitStack() as stack:
        stack.enter_context(scratch.scratch_home(job.first))
        stack.enter_context(engines_off())
        if scratch.is_done(job.first):
            return
        scratch.make_first(job.first, job.sandbox)
        train_model(job.sandbox, as_of=job.start)
        scratch.mark_done(job.first, State(last=job.start))


def simulate_policy(job: Job, policy: Policy) -> PolicyResult:
    """Run one policy tick by tick, after those that are done already.

    The flows are those of production; a tick that a killed process was in is done again.
    """
    place = job.folder / policy.slug
    with scratch.scratch_home(place), engines_off():
        spec = load_workload(job.sandbox)
        state = scratch.go_on(job, place)
        for now in job.stops[len(state.ticks) :]:
            began = time.perf_counter()
            due = policy.is_due(now - state.last)
            tick = replay_tick(job.sandbox, policy, now, job.step, due=due)
            state = State(
                last=now if tick.trained else state.last,
                ticks=(*state.ticks, tick),
                seconds=state.seconds + time.perf_counter() - began,
            )
            scratch.keep(job, place, state)
        return add_up_policy(spec, str(policy), state.ticks, state.seconds)


def prepare_process(parent: int, threads: int) -> None:
    """Make a fresh process fit to simulate: it ends with its parent, and shares the cores."""
    # Ctrl-C reaches the whole group; the parent ends us in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ["TWINLOOP_THREADS"] = str(threads)
    # Within a flow run of Prefect, nothing here is that run.
    os.environ.pop("PREFECT__FLOW_RUN_ID", None)
    scratch.hurry_databases()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
