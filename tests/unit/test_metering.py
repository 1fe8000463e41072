"""A meter counts what a block used: threads and child processes too, and no one else's time."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from tasks.metering import exclude, metered, step
from twinloop.costs import Usage

MB = 1_000_000
BURN = """
import time
held = bytearray({hold})
while time.process_time() < {seconds}: pass
print(time.process_time(), flush=True)
input()
"""


class StopError(Exception):
    """A failure of a block."""


def burn(seconds: float) -> None:
    """Use this much CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def burning_child(seconds: float, hold: int = 0) -> subprocess.Popen[str]:
    """Start a child that uses CPU time, holds bytes, says so, and waits for a line to end."""
    return subprocess.Popen(
        [sys.executable, "-S", "-c", BURN.format(seconds=seconds, hold=hold)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def burnt(child: subprocess.Popen[str]) -> float:
    """Wait until it has, and return its own account of it."""
    assert child.stdout is not None
    return float(child.stdout.readline())


def finish(child: subprocess.Popen[str]) -> None:
    """Let a child end, and wait for it."""
    child.communicate("\n")
    assert child.returncode == 0


def usage_of(work: Callable[[], object]) -> Usage:
    """Meter some work."""
    with metered() as meter:
        work()
    return meter.usage()


def test_nested_meters_add_up() -> None:
    """What each block used itself is, over all blocks, what the outermost used in total."""
    usages = []

    def nest(depth: int) -> None:
        with metered() as meter:
            burn(0.05)
            time.sleep(0.02)
            for _ in range(depth):
                nest(depth - 1)
            usages.append(meter.usage())

    nest(2)
    whole = usages[-1]
    assert len(usages) == 5
    assert whole.total_cpu_seconds == pytest.approx(sum(u.cpu_seconds for u in usages), rel=0.05)
    assert whole.total_wall_seconds == pytest.approx(sum(u.wall_seconds for u in usages), rel=0.05)
    for used in usages:
        assert used.cpu_seconds == pytest.approx(0.05, abs=0.02)
        assert used.wall_seconds >= 0.07


def test_what_comes_after_the_bill_is_on_the_bill_around() -> None:
    """Writing a bill down takes time as well: the block around pays it, and nothing is lost."""
    with metered() as outer:
        with metered() as inner:
            burn(0.05)
            bill = inner.usage()
            burn(0.1)
        whole = outer.usage()
    assert bill.cpu_seconds == pytest.approx(0.05, abs=0.02)
    assert whole.cpu_seconds == pytest.approx(0.1, abs=0.02)
    assert whole.total_cpu_seconds == pytest.approx(bill.cpu_seconds + whole.cpu_seconds)


def test_the_time_of_threads_is_counted() -> None:
    """Threads that leave the interpreter to hash at the same time are each on the bill."""
    mine: list[float] = []

    def work() -> None:
        block, start = bytes(MB), time.thread_time()
        while time.thread_time() - start < 0.2:
            hashlib.sha256(block)
        mine.append(time.thread_time() - start)

    def both() -> None:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert usage_of(both).cpu_seconds == pytest.approx(sum(mine), rel=0.1)
    assert len(mine) == 2


@pytest.mark.parametrize("ended", [False, True])
def test_the_time_of_a_child_is_counted(ended: bool) -> None:
    """A child that ended and one still alive count alike, within a tenth of its own account."""
    with metered() as meter:
        child = burning_child(0.3)
        account = burnt(child)
        if ended:
            finish(child)
        used = meter.usage().cpu_seconds
    if not ended:
        finish(child)
    assert used == pytest.approx(account, rel=0.1, abs=0.02)


def test_a_child_started_by_a_thread_is_counted() -> None:
    """Steps run in threads: a living child of any of them is on the bill."""
    children = []
    go = threading.Event()

    def work() -> None:
        children.append(burning_child(0.3))
        go.wait()

    with metered() as meter:
        thread = threading.Thread(target=work)
        thread.start()
        while not children:
            time.sleep(0.001)
        account = burnt(children[0])
        used = meter.usage().cpu_seconds
        go.set()
    finish(children[0])
    thread.join()
    assert used == pytest.approx(account, rel=0.1, abs=0.02)


@pytest.mark.parametrize("others", [0, 1])
def test_a_server_is_on_no_bill(others: int) -> None:
    """What a child kept off all bills uses does not count; another child beside it does."""
    with metered() as meter:
        server = burning_child(0.3, hold=200 * MB)
        exclude(server.pid)
        children = [burning_child(0.2) for _ in range(others)]
        account = sum(burnt(child) for child in children)
        assert burnt(server) >= 0.3
        assert psutil.Process(server.pid).memory_info().rss > 200 * MB
        used = meter.usage()
    for child in (server, *children):
        finish(child)
    assert used.cpu_seconds == pytest.approx(account, rel=0.1, abs=0.05)
    assert used.peak_bytes < psutil.Process().memory_info().rss + 100 * MB


def test_the_peak_sees_what_came_and_went() -> None:
    """200 MB held for a moment within a block are its peak, and not that of the next block."""
    before = psutil.Process().memory_info().rss

    def hold() -> None:
        np.ones(25 * MB).sum()

    with metered() as outer:
        first = usage_of(hold)
        second = usage_of(lambda: None)
        assert first.peak_bytes - before > 195 * MB
        assert second.peak_bytes - before < 100 * MB
        assert outer.usage().peak_bytes >= first.peak_bytes


def test_the_peak_before_a_nested_block_is_not_lost() -> None:
    """A block that starts resets the kernel's peak; the block around it has taken note before."""
    before = psutil.Process().memory_info().rss
    with metered() as outer:
        np.ones(25 * MB).sum()
        inner = usage_of(lambda: None)
    assert outer.usage().peak_bytes - before > 195 * MB
    assert inner.peak_bytes - before < 100 * MB


def test_memory_of_a_child_counts() -> None:
    """A child that is there when the meter is read adds what it holds."""
    before = psutil.Process().memory_info().rss
    with metered() as meter:
        child = burning_child(0.0, hold=200 * MB)
        burnt(child)
        used = meter.usage()
    finish(child)
    assert used.peak_bytes - before > 195 * MB


def test_a_failing_block_is_billed_and_closed() -> None:
    """What a block used before it failed counts, and the next block is not taken for its child."""

    def fail() -> None:
        burn(0.1)
        raise StopError

    with metered() as outer:
        with pytest.raises(StopError):
            usage_of(fail)
        after = usage_of(lambda: burn(0.1))
        whole = outer.usage()
    assert after.cpu_seconds == pytest.approx(0.1, abs=0.03)
    assert whole.total_cpu_seconds == pytest.approx(0.2, abs=0.04)
    assert whole.cpu_seconds < 0.03


def test_steps_are_timed_by_name() -> None:
    """Each call of a step goes on the bill of the run around it, failed ones too."""

    @step
    def doze(seconds: float) -> float:
        time.sleep(seconds)
        return 1 / seconds

    with metered() as meter:
        assert [doze.fn(seconds) for seconds in (0.05, 0.1)] == [20.0, 10.0]
        with pytest.raises(ZeroDivisionError):
            doze.fn(0)
    seconds = meter.usage().task_seconds
    assert list(seconds) == ["doze"]
    assert seconds["doze"] == pytest.approx(0.15, abs=0.05)
    assert doze.fn(0.01) == 100.0
