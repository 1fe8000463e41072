"""Metering: what a run used, its child processes included."""

import functools
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

import psutil
from prefect import Task
from prefect.cache_policies import NO_CACHE

from tasks.engines import PlainTask
from twinloop.costs import Usage

P = ParamSpec("P")
R = TypeVar("R")

# Servers this process started serve all runs: their time is on no run's bill.
_SERVERS: set[int] = set()
_CURRENT: ContextVar["Meter | None"] = ContextVar("meter", default=None)


def exclude(pid: int) -> None:
    """Keep a child process off all bills."""
    _SERVERS.add(pid)


class Meter:
    """Counts what happens between its start and its end."""

    def __init__(self, parent: "Meter | None") -> None:
        self._parent = parent
        self._wall = time.perf_counter()
        self._cpu = _cpu_seconds()
        self._inner_wall = 0.0
        self._inner_cpu = 0.0
        self._peak = 0
        self._tasks: dict[str, float] = {}
        self._lock = threading.Lock()  # folds are fitted side by side
        self._billed: Usage | None = None
        self._start_peak()

    def _start_peak(self) -> None:
        if self._parent is not None:
            self._parent.see_peak()
        with suppress(OSError):  # not Linux: the peak is then that of the whole process
            Path("/proc/self/clear_refs").write_text("5")

    def see_peak(self) -> None:
        """Take in the peak since it was last reset."""
        self._peak = max(self._peak, _peak_bytes())

    def add_task(self, name: str, seconds: float) -> None:
        """Count the wall time of a task."""
        with self._lock:
            self._tasks[name] = self._tasks.get(name, 0.0) + seconds

    def hand_over(self, seconds: float, cpu_seconds: float) -> int:
        """Take what a part within has used off this bill, and return the peak memory so far.

        Trials that run side by side share one process; none of them can be metered by itself.
        """
        with self._lock:
            self._inner_wall += seconds
            self._inner_cpu += cpu_seconds
        self.see_peak()
        return self._peak

    def usage(self) -> Usage:
        """Return what was used until now: the bill, if nothing is asked after it."""
        self.see_peak()
        wall, cpu = time.perf_counter() - self._wall, _cpu_seconds() - self._cpu
        self._billed = Usage(
            wall_seconds=max(wall - self._inner_wall, 0.0),
            cpu_seconds=max(cpu - self._inner_cpu, 0.0),
            peak_bytes=self._peak,
            total_wall_seconds=wall,
            total_cpu_seconds=cpu,
            task_seconds=dict(self._tasks),
        )
        return self._billed

    def close(self) -> None:
        """Hand the totals to the run this one ran in.

        What came after the last bill, like writing it down, is left to that run: on one bill it
        must be.
        """
        if self._parent is not None:
            used = self._billed or self.usage()
            self._parent._inner_wall += used.total_wall_seconds
            self._parent._inner_cpu += used.total_cpu_seconds
            self._parent._peak = max(self._parent._peak, used.peak_bytes)


@contextmanager
def metered() -> Iterator[Meter]:
    """Meter a block; blocks within it are metered apart and taken off its own figures."""
    meter = Meter(_CURRENT.get())
    token = _CURRENT.set(meter)
    try:
        yield meter
    finally:
        _CURRENT.reset(token)
        meter.close()


def _cpu_seconds() -> float:
    """Return CPU seconds of this process, its ended and its living children."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = 0.0
    for child in _children():
        with suppress(psutil.Error):
            times = child.cpu_times()
            living += times.user + times.system + times.children_user + times.children_system
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def _children() -> list[psutil.Process]:
    # Most runs have none: asking the kernel for direct children first is many times cheaper. A
    # child belongs to the thread that started it.
    with suppress(OSError):
        threads = list(Path("/proc/self/task").iterdir())
        started = [pid for t in threads for pid in (t / "children").read_text().split()]
        if threads and all(int(pid) in _SERVERS for pid in started):
            return []
    here = psutil.Process()
    children = [c for c in here.children() if c.pid not in _SERVERS]
    return [*children, *(g for c in children for g in c.children(recursive=True))]


def _peak_bytes() -> int:
    """Return the largest resident memory of this process since the last reset."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 + _children_bytes()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _children_bytes() -> int:
    total = 0
    for child in _children():
        with suppress(psutil.Error):
            total += child.memory_info().rss
    return total


@overload
def step(fn: Callable[P, R]) -> Task[P, R]: ...
@overload
def step(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def step(fn: Callable[P, R] | None = None, **options: Any) -> Any:
    """Make a Prefect task whose wall time goes on the bill of the run around it.

    Results are never persisted nor looked up: what can be skipped is named by a digest.

    Parameters
    ----------
    fn
        The function.
    **options
        For ``prefect.task``.
    """
    if fn is None:
        return functools.partial(step, **options)

    @functools.wraps(fn)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        meter, start = _CURRENT.get(), time.perf_counter()
        try:
            return fn(*args, **kwargs)
        finally:
            if meter is not None:
                meter.add_task(fn.__name__, time.perf_counter() - start)

    return PlainTask(timed, cache_policy=NO_CACHE, **options)
