"""What metering adds to a task of one second, in a process as busy as a training's.

Bare and metered tasks take turns, each as long as a second by the clock. All that the meter itself
does, opening and closing the bill of a run, the task, the readings in between, is the CPU time of
this process less that of the thread that works, in the same second: what the machine does besides
is in neither. Whether the work within goes on as fast is seen between neighbours: its pieces a CPU
second, metered to bare, which are as noisy as the machine. Where the interval of their median is
wider than what it is held to, it is shown and held to nothing.

    python benchmarks/metering.py [rounds]
"""

import hashlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks import frame
else:
    import frame

ROUNDS = 30
TIMES = 500
THREADS = 16
SECONDS = 1.0
MOST = 0.01
_BLOCK = bytes(100_000)


@dataclass(frozen=True)
class Turn:
    """One task of a second: CPU seconds beside the work, and pieces of work a CPU second of it."""

    added: float
    pace: float


def main() -> int:
    """Measure in a process with threads and a child, as MLflow, Prefect and OpenMP have them."""
    from tasks.metering import metered, step

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    stop = threading.Event()
    for _ in range(THREADS):
        threading.Thread(target=stop.wait, daemon=True).start()
    child = subprocess.Popen(["sleep", "3600"])  # one that is on the bill, too
    task = step(_work)

    def with_meter() -> tuple[int, float]:
        with metered() as meter:
            done: tuple[int, float] = task.fn()
            meter.usage()
        return done

    bare: list[Turn] = []
    with_bill: list[Turn] = []
    ways: list[tuple[Callable[[], tuple[int, float]], list[Turn]]]
    ways = [(_work, bare), (with_meter, with_bill)]
    try:
        for way, _ in ways:  # to warm up
            way()
        for _ in range(rounds):
            for way, turns in ways:
                turns.append(_turn(way))
            ways.reverse()
        per_run = _cpu_each(_bill_nothing)
        with metered():
            per_task = _cpu_each(step(_nothing).fn)
    finally:
        child.kill()
        child.wait()
        stop.set()
    added = [m.added - b.added for m, b in zip(with_bill, bare, strict=True)]
    slower = [b.pace / m.pace - 1 for m, b in zip(with_bill, bare, strict=True)]
    frame.show_rows(
        f"A task of one second, bare and metered in turns, beside {THREADS} threads and a child "
        f"process: {rounds} pairs",
        ("share of a second", "median", "95 % interval"),
        [
            (name, f"{statistics.median(v):.3%}", "{:.3%} to {:.3%}".format(*_ends(v)))
            for name, v in (("what the meter does", added), ("the work itself slower", slower))
        ],
    )
    frame.show(f"A run: {1e6 * per_run:,.0f} us; a task in it: {1e6 * per_task:,.0f} us.")
    return frame.finish("metering", figures_of(added, slower))


def figures_of(added: list[float], slower: list[float]) -> list[frame.Figure]:
    """Hold to their bounds what can be told: of work as noisy as the bound is wide, nothing can."""
    low, high = _ends(slower)
    told = high - low <= MOST
    if not told:
        frame.show(f"How much slower the work is cannot be told to {MOST:.0%}: it is unbounded.")
    figures = [
        frame.Figure(
            "added_share_of_a_second",
            _ends(added)[1],
            MOST,
            meaning="CPU time that metering adds to a second of work: upper end of the median",
        ),
        frame.Figure(
            "slower_share_of_a_second",
            statistics.median(slower),
            MOST,
            meaning="By how much the work itself is slower: median",
        ),
    ]
    return figures if told else figures[:1]


def _ends(values: list[float]) -> tuple[float, float]:
    return frame.median_interval(values)


def _turn(way: Callable[[], tuple[int, float]]) -> Turn:
    start, cpu = time.perf_counter(), time.process_time()
    pieces, used = way()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - start
    return Turn((cpu - used) / wall, pieces / used)


def _work() -> tuple[int, float]:
    """Work for a second by the clock; return how many pieces, and the CPU seconds they took."""
    cpu, end, n = time.thread_time(), time.perf_counter() + SECONDS, 0
    while time.perf_counter() < end:
        hashlib.sha256(_BLOCK)
        n += 1
    return n, time.thread_time() - cpu


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


if __name__ == "__main__":
    sys.exit(main())
