"""What metering adds to a task of one second, in a process as busy as a training's.

Three figures add up to it: opening and closing the bill of a run, opening and closing a task, and
the readings taken while the task runs. Each is CPU time, measured by itself many times over: beside
a second of work it is too small to be seen in one run on a machine that others use as well. The
work with and without a meter is shown side by side all the same.
"""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks import frame
else:
    import frame

ROUNDS = 7
TIMES = 500
IDLE_SECONDS = 4.0
THREADS = 16
MOST = 0.01


def main() -> int:
    """Measure in a process with threads and a child, as MLflow, Prefect and OpenMP have them."""
    from tasks.metering import metered, step

    stop = threading.Event()
    for _ in range(THREADS):
        threading.Thread(target=stop.wait, daemon=True).start()
    child = subprocess.Popen(["sleep", "600"])  # one that is on the bill, too
    work = _one_second()
    task = step(work)

    def with_meter() -> None:
        with metered() as meter:
            task.fn()
            meter.usage()

    try:
        samples = frame.interleave({"bare": work, "metered": with_meter}, rounds=ROUNDS)
        per_run = _cpu_each(_bill_nothing)
        with metered():
            per_task = _cpu_each(step(_nothing).fn)
        reading = _idle()
    finally:
        child.kill()
        child.wait()
        stop.set()
    frame.show(
        f"A task of one second, bare and metered, beside {THREADS} threads and a child process. "
        f"{ROUNDS} rounds. A run: {1e6 * per_run:,.0f} us; a task: {1e6 * per_task:,.0f} us; "
        f"readings: {1e6 * reading:,.0f} us a second."
    )
    frame.show_samples(samples)
    ratio = frame.median_ratio(samples["metered"].cpus, samples["bare"].cpus)
    frame.show(f"CPU time metered to bare, as measured side by side: {ratio:.4f}")
    return frame.finish(
        "metering",
        [
            frame.Figure(
                "added_share_of_a_second",
                per_run + per_task + reading,
                MOST,
                meaning="CPU time of a run, a task in it and its readings, to a second of work",
            )
        ],
    )


def _one_second() -> Callable[[], None]:
    """Return work that takes about a second here, always the same."""
    block, start, n = bytes(1_000_000), time.thread_time(), 0
    while time.thread_time() - start < 1.0:
        hashlib.sha256(block)
        n += 1

    def work() -> None:
        for _ in range(n):
            hashlib.sha256(block)

    return work


def _nothing() -> None:
    """Do nothing."""


def _bill_nothing() -> None:
    from tasks.metering import metered

    with metered() as meter:
        meter.usage()


def _cpu_each(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call, of all threads."""
    call()
    start = time.process_time()
    for _ in range(TIMES):
        call()
    return (time.process_time() - start) / TIMES


def _idle() -> float:
    """Return the CPU seconds a second that a meter takes while nothing else is done."""
    from tasks.metering import metered

    with metered():
        start = time.process_time()
        time.sleep(IDLE_SECONDS)
        return (time.process_time() - start) / IDLE_SECONDS


if __name__ == "__main__":
    sys.exit(main())
