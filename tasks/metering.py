"""Metering: what a run used, its child processes included."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, overload

from prefect import Task
from prefect.cache_policies import NO_CACHE

from tasks.accounting import Part, account
from tasks.counters import exclude
from tasks.engines import PlainTask
from twinloop.costs import Quantities, Usage

__all__ = ["Meter", "exclude", "leave_behind", "metered", "step"]

P = ParamSpec("P")
R = TypeVar("R")

_CURRENT: ContextVar[tuple["Meter", Part] | None] = ContextVar("meter", default=None)


class Meter:
    """Counts what happens between its start and its end."""

    def __init__(self, parent: "Meter | None", around: Part | None) -> None:
        self._parent = parent
        self._wall = time.perf_counter()
        self._inner_wall = 0.0
        self._inner = Quantities()
        self._before = Quantities()
        self._before_wall = 0.0
        self._open: set[Meter] = set()
        self._seconds: dict[str, float] = {}
        self._cpu_seconds: dict[str, float] = {}
        self._billed: Usage | None = None
        self._account = account()
        self.part = self._account.open_meter(around)
        self._tally = self.part.tally
        if parent is not None:
            with self._account.lock:
                parent._open.add(self)

    @property
    def energy(self) -> str:
        """How energy of the processor is measured; empty where it is not."""
        return self._account.methods[0]

    def add_task(self, name: str, seconds: float, cpu_seconds: float) -> None:
        """Count the wall time of a task, and the CPU time it used itself."""
        with self._account.lock:  # folds are fitted side by side
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds
            self._cpu_seconds[name] = self._cpu_seconds.get(name, 0.0) + cpu_seconds

    def add_stored(self, n_bytes: int) -> None:
        """Count bytes that stay behind."""
        with self._account.lock:
            self._tally.rest += Quantities(stored_bytes=n_bytes)

    def add_before(self, wall_seconds: float, used: Quantities) -> None:
        """Count an attempt of before in the totals; it has a bill of its own."""
        self._before_wall += wall_seconds
        self._before += used

    def own(self) -> Quantities:
        """Return what it has used until now without the meters inside it."""
        with self._account.lock:
            self._account.read()
            return self._tally.own

    def hand_over(self, seconds: float, since: Quantities) -> tuple[Quantities, int]:
        """Take what a part within has used off this bill; return it, and the peak memory so far.

        Trials that run side by side share one process; none of them can be metered by itself.

        Parameters
        ----------
        seconds
            Wall time of the part.
        since
            What `own` said when it began.
        """
        with self._account.lock:
            used = self.own() - since
            self._inner_wall += seconds
            self._inner += used
            self._take(used.times(-1.0))
            return used, self._tally.peak_bytes

    def _take(self, used: Quantities) -> None:
        self._tally.cpu_seconds += used.cpu_seconds
        self._tally.rest += used - Quantities(cpu_seconds=used.cpu_seconds)

    def usage(self) -> Usage:
        """Return what was used until now: the bill, if nothing is asked after it."""
        self._billed = self.so_far()
        return self._billed

    def so_far(self) -> Usage:
        """Return what was used until now, for a look: it is no bill."""
        with self._account.lock:
            self._account.read()
            return self._at_last_reading()

    def _at_last_reading(self) -> Usage:
        with self._account.lock:
            wall, inner = time.perf_counter() - self._wall, self._inner_wall
            inner += sum(m._elapsed() for m in self._open)
            cpu_energy, gpu_energy = self._account.methods
            return Usage(
                wall_seconds=max(wall - inner, 0.0),
                total_wall_seconds=wall + self._before_wall,
                peak_bytes=self._tally.peak_bytes,
                own=self._tally.own,
                total=self._whole() + self._before,
                task_seconds=dict(self._seconds),
                task_cpu_seconds=dict(self._cpu_seconds),
                cpu_energy=cpu_energy,
                gpu_energy=gpu_energy,
            )

    def _elapsed(self) -> float:
        return time.perf_counter() - self._wall

    def _whole(self) -> Quantities:
        return sum((m._whole() for m in self._open), self._tally.own + self._inner)

    def on_beat(self, call: Callable[[Usage], None]) -> None:
        """Have a function called with what was used so far, every second, from another thread."""
        self._tally.beat = lambda: call(self._at_last_reading())

    def close(self) -> None:
        """Hand the totals to the run this one ran in.

        What came after the last bill, like writing it down, is left to that run: on one bill it
        must be.
        """
        self._tally.beat = None
        self._account.close_meter(self.part)
        parent = self._parent
        if parent is None:
            return
        with self._account.lock:
            billed = self._billed or self.usage()
            parent._open.discard(self)
            parent._inner_wall += billed.total_wall_seconds - self._before_wall
            parent._inner += billed.total - self._before
            parent._take(self._whole() + self._before - billed.total)


@contextmanager
def metered() -> Iterator[Meter]:
    """Meter a block; blocks within it are metered apart and taken off its own figures."""
    around = _CURRENT.get()
    meter = Meter(*around) if around is not None else Meter(None, None)
    token = _CURRENT.set((meter, meter.part))
    try:
        yield meter
    finally:
        _CURRENT.reset(token)
        meter.close()


def leave_behind(n_bytes: int) -> None:
    """Count bytes that the run around leaves behind: they cost by the month."""
    around = _CURRENT.get()
    if around is not None:
        around[0].add_stored(n_bytes)


@contextmanager
def _task_metered(name: str) -> Iterator[None]:
    """Put the time of a block on the bill of the run around it, under a name."""
    around, start = _CURRENT.get(), time.perf_counter()
    if around is None:
        yield
        return
    meter, part = around[0], account().open_task(around[1])
    token = _CURRENT.set((meter, part))
    try:
        yield
    finally:
        _CURRENT.reset(token)
        cpu_seconds = account().close_task(part)
        meter.add_task(name, time.perf_counter() - start, cpu_seconds)


@overload
def step(fn: Callable[P, R]) -> Task[P, R]: ...
@overload
def step(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def step(fn: Callable[P, R] | None = None, **options: Any) -> Any:
    """Make a Prefect task whose time goes on the bill of the run around it.

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
        with _task_metered(fn.__name__):
            return fn(*args, **kwargs)

    return PlainTask(timed, cache_policy=NO_CACHE, **options)
