"""Accounting: what the process uses is shared out moment by moment, each part to one bill only.

CPU time of a thread belongs to what runs in it. The rest, of native threads and child processes,
belongs to what has nothing more running inside it; where several run side by side it is shared by
the CPU time of their own threads. So is what a process has once: memory, bytes moved, energy.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tasks import counters
from tasks.energy import EnergyCounter
from tasks.gpus import find_gpus
from twinloop.costs import Quantities

_GB = 1e9
# Between readings memory is taken to go in a straight line; one takes up to a millisecond of CPU.
_SAMPLE_SECONDS = 0.5
_SAMPLES_A_BEAT = 2


@dataclass(eq=False)
class Tally:
    """What one meter counts, without the meters inside it.

    Attributes
    ----------
    cpu_seconds, rest
        What was used; `rest` holds all but CPU time.
    pending
        CPU seconds since the rest was last shared out.
    peak_bytes
        Largest memory of the process tree while it was open.
    inside
        Meters opened within it that are still open.
    beat
        Called every now and then while it is open, from another thread.
    """

    parent: "Tally | None"
    cpu_seconds: float = 0.0
    rest: Quantities = field(default_factory=Quantities)
    pending: float = 0.0
    peak_bytes: int = 0
    inside: set["Tally"] = field(default_factory=set)
    beat: Callable[[], None] | None = None

    @property
    def own(self) -> Quantities:
        """All it has used."""
        return self.rest + Quantities(cpu_seconds=self.cpu_seconds)


@dataclass(eq=False)
class Part:
    """A meter or a task: something that runs in one thread, perhaps with more parts inside."""

    parent: "Part | None"
    tally: Tally
    cpu_seconds: float = 0.0
    inside: int = 0
    thread: int = field(default_factory=threading.get_ident)


class _Thread:
    """A thread that parts run in; the innermost is at work."""

    def __init__(self) -> None:
        # The clock of a thread can be read from any other one, where the system has such clocks.
        known = hasattr(time, "pthread_getcpuclockid")
        self._clock = time.pthread_getcpuclockid(threading.get_ident()) if known else None
        self._last = 0.0
        self.parts: list[Part] = []
        self.passed()

    def passed(self) -> float:
        """Return its CPU seconds since the last call."""
        if self._clock is None:
            return 0.0
        with suppress(OSError):  # it has ended
            last, self._last = self._last, time.clock_gettime(self._clock)
            return self._last - last
        return 0.0


class Account:
    """The account of this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self._threads: dict[int, _Thread] = {}
        self._tallies: list[Tally] = []
        self._children: tuple[int, ...] = ()
        self._cpu = 0.0
        self._short = 0
        self._since_energy = 0.0
        self._when = time.perf_counter()
        self._resident = 0
        self._moved = counters.Moved()
        self._energy, self._gpus = EnergyCounter(), find_gpus()
        self._stop = threading.Event()

    @property
    def methods(self) -> tuple[str, str]:
        """How energy of processor and GPUs is measured; empty where it is not."""
        return self._energy.words, self._gpus.words

    def open_meter(self, around: Part | None) -> Part:
        """Begin a tally of its own; `around` is the part it is opened in."""
        with self.lock:
            self.read()
            counters.forget_peak()
            tally = Tally(around.tally if around is not None else None)
            if tally.parent is not None:
                tally.parent.inside.add(tally)
            self._tallies.append(tally)
            if len(self._tallies) == 1:
                self._stop = threading.Event()
                watch = threading.Thread(
                    target=self._watch, args=(self._stop,), name="meter", daemon=True
                )
                watch.start()
            return self._enter(Part(around, tally))

    def open_task(self, around: Part) -> Part:
        """Begin a part of a tally whose CPU time is told apart."""
        with self.lock:
            self._settle()
            return self._enter(Part(around, around.tally))

    def _enter(self, part: Part) -> Part:
        if part.parent is not None:
            part.parent.inside += 1
        if part.thread not in self._threads:
            self._threads[part.thread] = _Thread()
        self._threads[part.thread].parts.append(part)
        return part

    def close_task(self, part: Part) -> float:
        """End a task; return the CPU seconds it used, without what ran inside it."""
        with self.lock:
            self._settle()
            self._leave(part)
        return part.cpu_seconds

    def close_meter(self, part: Part) -> None:
        """End a tally."""
        with self.lock:
            self.read()
            self._leave(part)
            self._tallies.remove(part.tally)
            if part.tally.parent is not None:
                part.tally.parent.inside.discard(part.tally)
            if not self._tallies:
                self._stop.set()

    def _leave(self, part: Part) -> None:
        if part.parent is not None:
            part.parent.inside -= 1
        thread = self._threads[part.thread]
        thread.parts.remove(part)
        if not thread.parts:
            del self._threads[part.thread]

    def _settle(self) -> None:
        """Share out the CPU time since the last call."""
        total = counters.cpu_seconds(self._children)
        # A child that ends between two looks is missing from both, once. What stays missing, like a
        # server that is kept off all bills from now on, was never used up by anyone.
        self._short = self._short + 1 if total < self._cpu else 0
        passed = max(total - self._cpu, 0.0)
        if self._short != 1:
            self._cpu = total
        used: dict[Part, float] = {}
        for thread in self._threads.values():
            used[thread.parts[-1]] = thread.passed()
        rest = max(passed - sum(used.values()), 0.0)
        parts = [p for thread in self._threads.values() for p in thread.parts]
        leaves = [p for p in parts if not p.inside]
        for part, share in zip(leaves, _shares([used.get(p, 0.0) for p in leaves]), strict=True):
            used[part] = used.get(part, 0.0) + rest * share
        for part, seconds in used.items():
            part.cpu_seconds += seconds
            part.tally.cpu_seconds += seconds
            part.tally.pending += seconds
            self._since_energy += seconds

    def read(self) -> None:
        """Share out everything since the last call."""
        with self.lock:
            self._children = children = counters.living_children()
            self._settle()
            now, beside = time.perf_counter(), counters.resident_bytes(children)
            resident = counters.resident_bytes((self.pid,)) + beside
            moved = counters.moved_bytes(children)
            used = self._used(now - self._when, resident, moved)
            self._when, self._resident, self._moved = now, resident, moved
            leaves = [t for t in self._tallies if not t.inside]
            shares = _shares([t.pending for t in leaves])
            for tally, share in zip(leaves, shares, strict=True):
                tally.rest += used.times(share)
            peak = counters.peak_bytes() + beside
            for tally in self._tallies:
                tally.pending = 0.0
                tally.peak_bytes = max(tally.peak_bytes, peak)

    def _used(self, seconds: float, resident: int, moved: counters.Moved) -> Quantities:
        """Return what the process as a whole used in the last seconds, without CPU time."""
        gpu_seconds, gpu_kwh = self._gpus.used(seconds, (self.pid, *self._children))
        kwh, self._since_energy = self._energy.kwh(self._since_energy), 0.0
        last = self._moved
        return Quantities(
            gb_seconds=(self._resident + resident) / 2 / _GB * seconds,
            gpu_seconds=gpu_seconds,
            cpu_kwh=kwh,
            gpu_kwh=gpu_kwh,
            read_bytes=max(moved.read - last.read, 0),
            written_bytes=max(moved.written - last.written, 0),
            disk_read_bytes=max(moved.disk_read - last.disk_read, 0),
            disk_written_bytes=max(moved.disk_written - last.disk_written, 0),
        )

    def _watch(self, stop: threading.Event) -> None:
        for turn in itertools.count(1):
            if stop.wait(_SAMPLE_SECONDS):
                return
            self.read()
            with self.lock:
                beats = [t.beat for t in self._tallies if t.beat is not None]
            for beat in beats if turn % _SAMPLES_A_BEAT == 0 else []:
                beat()


def _shares(weights: Sequence[float]) -> list[float]:
    """Return the parts of one in proportion to weights; equal ones where all are nothing."""
    whole = sum(weights)
    return [w / whole if whole > 0 else 1 / len(weights) for w in weights]


_here: list[Account] = []


def account() -> Account:
    """Return the account of this process; one that was forked off begins its own."""
    if not _here or _here[0].pid != os.getpid():
        _here[:] = [Account()]
    return _here[0]
