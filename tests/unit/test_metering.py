"""A meter counts what a block used: threads and child processes too, and no one else's time."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest

from tasks.metering import exclude, leave_behind, metered, step
from twinloop.costs import Quantities, Usage

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
    assert 0.15 <= seconds["doze"] < 1.0
    assert doze.fn(0.01) == 100.0


WORK = """
import hashlib, subprocess, sys, threading, time
import numpy as np
from tasks.metering import metered
def hash_for(seconds):
    block, start = bytes(1_000_000), time.thread_time()
    while time.thread_time() - start < seconds:
        hashlib.sha256(block)
def multiply_for(seconds):
    a, start = np.ones((400, 400)), time.process_time()
    while time.process_time() - start < seconds:
        a @ a
burn = "while __import__('time').process_time() < {}: pass"
def work(kind):
    if kind in ("threads", "all"):
        threads = [threading.Thread(target=hash_for, args=(0.4,)) for _ in range(3)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    if kind in ("child", "all"):
        for _ in range(2):
            subprocess.run([sys.executable, "-S", "-c", burn.format(0.4)], check=True)
    if kind in ("native", "all"):
        multiply_for(1.0)
for line in sys.stdin:
    with metered() as meter:
        work(line.strip())
        used = meter.usage()
    print(used.cpu_seconds, flush=True)
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[str]]:
    """Start a process that works as it is told, and says what its meter said."""
    child = subprocess.Popen(
        [sys.executable, "-c", WORK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdin is not None
    exclude(child.pid)  # it outlives the blocks of other tests
    yield child
    child.communicate()
    assert child.returncode == 0


@pytest.mark.parametrize("kind", ["threads", "child", "native", "all"])
def test_the_meter_agrees_with_the_system(worker: subprocess.Popen[str], kind: str) -> None:
    """What the meter says is what /proc says of the process and its ended children, within 5 %."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("nothing\n")
    worker.stdin.flush()
    worker.stdout.readline()  # it has imported what it needs
    before = sum(psutil.Process(worker.pid).cpu_times()[:4])
    worker.stdin.write(f"{kind}\n")
    worker.stdin.flush()
    metered_seconds = float(worker.stdout.readline())
    account = sum(psutil.Process(worker.pid).cpu_times()[:4]) - before
    assert account > 0.7
    assert metered_seconds == pytest.approx(account, rel=0.05)


def hash_for(seconds: float) -> float:
    """Use about so much CPU time of this thread, outside of the interpreter; return how much."""
    block, start = bytes(MB), time.thread_time()
    while time.thread_time() - start < seconds:
        hashlib.sha256(block)
    return time.thread_time() - start


@step
def little(seconds: float) -> float:
    """Work in the thread it is called in."""
    return hash_for(seconds)


@step
def much(seconds: float) -> float:
    """Work in the thread it is called in, too."""
    return hash_for(seconds)


@step
def waiting(jobs: Sequence[tuple[Callable[[float], float], float]]) -> list[float]:
    """Call others side by side, each in a thread of its own, as a task runner does."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(copy_context().run, fn, seconds) for fn, seconds in jobs]
        return [f.result() for f in futures]


def test_parallel_tasks_are_not_counted_twice() -> None:
    """The CPU time of tasks that ran side by side adds up to what the system says of them all."""
    jobs = [(little.fn, 0.2), (much.fn, 0.5), (little.fn, 0.1), (much.fn, 0.4)]
    with metered() as meter:
        before = time.process_time()
        accounts = waiting.fn(jobs)
        account = time.process_time() - before
        used = meter.usage()
    parts = used.task_cpu_seconds
    assert sum(parts.values()) == pytest.approx(account, rel=0.05)
    assert used.cpu_seconds == pytest.approx(account, rel=0.05)
    assert parts["little"] == pytest.approx(accounts[0] + accounts[2], rel=0.05, abs=0.02)
    assert parts["much"] == pytest.approx(accounts[1] + accounts[3], rel=0.05, abs=0.02)
    # The one that waits has used next to nothing itself, but all of the time.
    assert parts["waiting"] < 0.05
    assert used.task_seconds["waiting"] > 0.5


def test_threads_and_children_of_a_task_are_on_its_bill() -> None:
    """What a task leaves to a thread pool or a child process while nothing else runs is its own."""

    @step
    def helped() -> float:
        with ThreadPoolExecutor(2) as pool:  # of no context: like native threads
            threads = sum(pool.map(hash_for, [0.2, 0.2]))
        child = burning_child(0.2)
        account = burnt(child)
        finish(child)
        return threads + account

    with metered() as meter:
        account = helped.fn()
        used = meter.usage()
    assert used.task_cpu_seconds["helped"] == pytest.approx(account, rel=0.05, abs=0.03)


def test_meters_side_by_side_share_what_there_is() -> None:
    """Two blocks in two threads are each billed their own, and together no more than the whole."""
    bills = []

    def block(seconds: float) -> float:
        with metered() as meter:
            done = hash_for(seconds)
            bills.append((done, meter.usage()))
        return done

    with metered() as outer, ThreadPoolExecutor(2) as pool:
        before = time.process_time()
        futures = [pool.submit(copy_context().run, block, s) for s in (0.2, 0.4)]
        for future in futures:
            future.result()
        account = time.process_time() - before
        whole = outer.usage()
    assert whole.total_cpu_seconds == pytest.approx(account, rel=0.05)
    for done, bill in bills:
        assert bill.cpu_seconds == pytest.approx(done, rel=0.05, abs=0.02)
    own = sum((bill.own for _, bill in bills), whole.own)
    assert_equal(own, whole.total)


def assert_equal(one: Quantities, other: Quantities) -> None:
    """Compare all quantities, but for the last bits of sums."""
    for name, value in asdict(one).items():
        assert value == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-12), name


def test_memory_is_what_was_held_over_time() -> None:
    """200 MB held for 2 seconds are 0.4 GB-seconds more than were held anyway."""
    before = psutil.Process().memory_info().rss
    with metered() as meter:
        held, start = np.ones(25 * MB), time.perf_counter()
        time.sleep(2.0)
        seconds = time.perf_counter() - start
        del held
        used = meter.usage()
    anyway, wall = before / 1e9 * used.wall_seconds, used.wall_seconds
    # What changes between two samples is taken to go in a straight line.
    assert anyway + 0.2 * (seconds - 0.6) < used.own.gb_seconds < 1.05 * anyway + 0.2 * wall


def test_bytes_that_move_are_counted(tmp_path: Path) -> None:
    """What a block and a child it waits for write and read is on its bill, from the cache too."""
    copy = "import sys; open(sys.argv[2], 'wb').write(open(sys.argv[1], 'rb').read())"
    with metered() as meter:
        (tmp_path / "one").write_bytes(bytes(20 * MB))
        command = [sys.executable, "-S", "-c", copy, f"{tmp_path}/one", f"{tmp_path}/two"]
        subprocess.run(command, check=True)
        leave_behind(40 * MB)
        used = meter.usage().own
    assert used.written_bytes == pytest.approx(40 * MB, rel=0.05)
    assert used.read_bytes == pytest.approx(20 * MB, rel=0.25)
    assert used.stored_bytes == 40 * MB


def test_parts_add_up_to_the_whole_exactly() -> None:
    """CPU, memory, bytes: what nested blocks used themselves is what the outermost used in all."""
    bills = []

    def nest(depth: int) -> None:
        with metered() as meter:
            np.ones(MB * (1 + 5 * depth)).sum()
            for _ in range(depth):
                nest(depth - 1)
            leave_behind(depth)
            bills.append(meter.usage())

    with metered() as outer:
        start = time.process_time()
        nest(3)
        before = outer.own()
        hash_for(0.2)
        handed, _ = outer.hand_over(0.2, before)
        whole = outer.usage()
        account = time.process_time() - start
    own = sum((bill.own for bill in bills), whole.own) + handed
    assert len(bills) == 16
    assert handed.cpu_seconds == pytest.approx(0.2, rel=0.05, abs=0.02)
    assert whole.total_cpu_seconds == pytest.approx(account, rel=0.05)
    assert_equal(own, whole.total)


def test_an_attempt_of_before_is_in_the_total_alone() -> None:
    """It has a bill of its own, and the run around knows of it already."""
    with metered() as outer:
        with metered() as again:
            again.add_before(10.0, Quantities(cpu_seconds=5.0))
            bill = again.usage()
        whole = outer.usage()
    assert bill.cpu_seconds < 1 < 5 < bill.total_cpu_seconds
    assert bill.wall_seconds < 1 < 10 < bill.total_wall_seconds
    assert whole.total_cpu_seconds < 1
    assert whole.total_wall_seconds < 1
    assert whole.wall_seconds < 1


def test_a_beat_tells_what_was_used_so_far() -> None:
    """About once a second, from another thread; of the blocks inside, too; none after the end."""
    beats: list[Usage] = []
    with metered() as outer:
        outer.on_beat(beats.append)
        with metered():
            hash_for(0.1)
            time.sleep(1.3)
    seen = len(beats)
    assert seen >= 1
    assert beats[0].total_cpu_seconds >= 0.1
    assert beats[0].cpu_seconds < 0.05
    time.sleep(1.2)
    assert len(beats) == seen


def test_what_is_excluded_late_hides_no_time() -> None:
    """A server that was on the bill for a moment takes its own time off, and no one else's."""
    with metered() as meter:
        server = burning_child(0.4)
        burnt(server)
        assert meter.own().cpu_seconds >= 0.35
        exclude(server.pid)
        meter.own()
        before = meter.own().cpu_seconds
        hash_for(0.2)
        after = meter.own().cpu_seconds
    finish(server)
    assert after - before == pytest.approx(0.2, rel=0.05, abs=0.02)
