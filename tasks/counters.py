"""Counters: what the system has counted for this process and for those it started."""

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

# Servers this process started serve all runs: what they use is on no run's bill.
_SERVERS: set[int] = set()
_IO = ("rchar", "wchar", "read_bytes", "write_bytes")
_STATM_RESIDENT = 1
# In /proc/<pid>/stat after the name: of the process and of its ended children, user and system.
_STAT_TIMES = slice(11, 15)


@dataclass(frozen=True)
class Moved:
    """Bytes that were moved since the process began.

    Attributes
    ----------
    read, written
        Asked of the system by read and write; from the page cache, pipes and sockets as well.
    disk_read, disk_written
        That went to and came from storage.
    """

    read: int = 0
    written: int = 0
    disk_read: int = 0
    disk_written: int = 0


def exclude(pid: int) -> None:
    """Keep a child process, and what it starts, off all bills."""
    _SERVERS.add(pid)


def living_children() -> tuple[int, ...]:
    """List the processes that descend from this one and live, without servers."""
    if not _has_children():
        return ()
    found: list[int] = []
    level = [os.getpid()]
    try:
        while level:
            level = [c for pid in level for c in _started_by(pid) if c not in _SERVERS]
            found += level
    except FileNotFoundError:  # a system that keeps no such lists
        here = [c for c in psutil.Process().children() if c.pid not in _SERVERS]
        return tuple(c.pid for h in here for c in (h, *h.children(recursive=True)))
    return tuple(found)


def _has_children() -> bool:
    # Most runs have none: this asks for one without waiting for it, a hundred times faster.
    with suppress(AttributeError, OSError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return not hasattr(os, "waitid")


def _started_by(pid: int) -> list[int]:
    """List the children of a process: each belongs to the thread that started it."""
    here, found = pid == os.getpid(), []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - asked for many times a second
    except OSError:
        if here:
            raise FileNotFoundError(f"/proc/{pid}/task") from None
        return []
    for thread in threads:
        place = f"/proc/{pid}/task/{thread}"
        try:
            found += [int(c) for c in _read(f"{place}/children").split()]
        except OSError:
            if here and Path(place).exists():
                raise FileNotFoundError(f"{place}/children") from None
    return found


def cpu_seconds(children: tuple[int, ...]) -> float:
    """Return CPU seconds of this process, of its ended and of these living children."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(_cpu_of(pid) for pid in children)
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def _cpu_of(pid: int) -> float:
    try:
        words = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except FileNotFoundError:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            return times.user + times.system + times.children_user + times.children_system
        return 0.0
    except OSError:
        return 0.0
    return sum(int(w) for w in words[_STAT_TIMES]) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids: tuple[int, ...]) -> int:
    """Return the memory that processes hold now."""
    return sum(_resident_of(pid) for pid in pids)


def _resident_of(pid: int) -> int:
    with suppress(OSError):
        return int(_read(f"/proc/{pid}/statm").split()[_STATM_RESIDENT]) * resource.getpagesize()
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def peak_bytes() -> int:
    """Return the largest memory this process held since `forget_peak`, or since it began."""
    with suppress(OSError):
        for line in _read("/proc/self/status").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> None:
    """Let the kernel begin anew with the peak; elsewhere it stays that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def moved_bytes(children: tuple[int, ...]) -> Moved:
    """Return the bytes moved by this process, its ended and these children; 0 if not counted."""
    counted = [_io_of(pid) for pid in (os.getpid(), *children)]
    return Moved(*(sum(one) for one in zip(*counted, strict=True)))


def _io_of(pid: int) -> tuple[int, ...]:
    try:
        lines = dict(line.split(": ") for line in _read(f"/proc/{pid}/io").splitlines())
        return tuple(int(lines[name]) for name in _IO)
    except (OSError, KeyError, ValueError):
        return (0,) * len(_IO)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - asked for many times a second
        return file.read()
