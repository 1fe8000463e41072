"""Disks that are full or read-only in the middle of a scoring: a clear error, and no work lost."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import scoring
from tasks.published import Manifest
from tasks.settings import load_workload
from tasks.verifying import verify_published
from tests.windows import WORKLOAD, dirty_orders, files, loaded, make_home, publish
from twinloop.errors import StorageError

SHADOWED = WORKLOAD.replace("part_rows: 50", "part_rows: 50, shadow: 0.3")
BEFORE, NOW, CHALLENGER = 1, 2, 3
ROOMY = 64 * 2**20


class Disk:
    """A file system in memory, as large as it is told to be; locks lie on another."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lake = home / "data" / "lake" / "shop"
        self.locks = self.lake / "locks"

    @property
    def window(self) -> Path:
        """Where readers look."""
        return self.lake / "predictions" / "all"

    @property
    def used(self) -> int:
        """Bytes taken."""
        found = os.statvfs(self.lake)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def mount(self) -> None:
        """Put the disk in place."""
        for folder in (self.lake, self.locks):
            folder.mkdir(parents=True, exist_ok=True)
            run("mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", str(folder))

    def unmount(self) -> None:
        """Take it away."""
        for folder in (self.locks, self.lake):
            run("umount", "--lazy", str(folder))

    def change(self, options: str) -> bool:
        """Mount it again with other options; False while it is busy."""
        line = ["mount", "-o", f"remount,{options}", str(self.lake)]
        return subprocess.run(line, capture_output=True, check=False).returncode == 0

    def clear(self) -> None:
        """Forget all output."""
        for path in self.lake.iterdir():
            if path != self.locks:
                shutil.rmtree(path)

    def shown(self) -> dict[str, bytes]:
        """Read what is not hidden."""
        found = files(self.home).items()
        return {name: content for name, content in found if "/." not in name}

    def finished(self) -> dict[str, tuple[int, int]]:
        """Return inode and time of the files of parts that have their receipt."""
        numbers = [p.stem[-5:] for p in self.window.glob(".*/_part-*.json")]
        found = [p for n in numbers for p in self.window.glob(f".*/*/part-{n}.parquet")]
        return {f"{p.parent.name}/{p.name}": identity(p) for p in found}


def identity(path: Path) -> tuple[int, int]:
    """Tell a file from another of the same content."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def run(*line: str) -> None:
    """Run a command that must not fail."""
    subprocess.run(line, check=True, capture_output=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """Provide a home whose lake has a disk of its own."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a file system can be mounted by root alone")
    found = Disk(make_home(tmp_path_factory.mktemp("home"), dirty_orders(), SHADOWED))
    try:
        found.mount()
    except subprocess.CalledProcessError as err:
        pytest.skip(f"no file system can be mounted here: {err.stderr.decode().strip()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", str(found.home))
        model = loaded()
        patch.setattr(scoring, "load_version", lambda *_: model)
        yield found
    found.unmount()


@pytest.fixture
def wanted(disk: Disk) -> Iterator[dict[str, bytes]]:
    """Return what undisturbed runs write; then leave what the first of them had published."""
    assert disk.change(f"rw,size={ROOMY}")
    disk.clear()
    publish(BEFORE)
    publish(NOW, CHALLENGER)
    found = files(disk.home)
    disk.clear()
    publish(BEFORE)
    yield found
    assert disk.change(f"rw,size={ROOMY}")


def assert_goes_on(disk: Disk, wanted: dict[str, bytes]) -> None:
    """Assert that the next run makes no finished part again, and ends as if nothing had been."""
    done = disk.finished()
    assert len(done) >= 3
    manifest = publish(NOW, CHALLENGER)
    assert {name: identity(path_of(manifest, name)) for name in done} == done
    assert files(disk.home) == wanted
    assert verify_published(load_workload("shop")).faults == ()


def path_of(manifest: Manifest, name: str) -> Path:
    """Return where a part's file was published."""
    place, _, file = name.partition("/")
    return manifest.place_of(place) / file


def assert_refused(disk: Disk, words: str) -> None:
    """Assert that a run ends with an error that names a path of the lake, and shows nothing."""
    before = disk.shown()
    with pytest.raises(StorageError, match=words) as caught:
        publish(NOW, CHALLENGER)
    assert str(disk.lake) in caught.value.message
    assert disk.shown() == before


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_a_disk_that_is_full_in_the_middle(
    disk: Disk, wanted: dict[str, bytes], share: float
) -> None:
    """What was published is as it was; where there is space again the next run goes on."""
    before = disk.used
    publish(NOW, CHALLENGER)
    after = disk.used
    disk.clear()
    publish(BEFORE)
    assert disk.change(f"size={before + round(share * (after - before))}")
    for _ in range(2):  # and again, while it is still full
        assert_refused(disk, "cannot write .*No space left on device")
    assert disk.change(f"size={ROOMY}")
    assert_goes_on(disk, wanted)


def test_a_disk_that_becomes_read_only(disk: Disk, wanted: dict[str, bytes]) -> None:
    """As a kernel does after an error of the disk; mended, the next run goes on."""
    became = threading.Event()

    def protect() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not became.is_set():
            if len(list(disk.window.glob(".*/_part-*.json"))) >= 2 and disk.change("ro"):
                became.set()

    thread = threading.Thread(target=protect)
    thread.start()
    try:
        assert_refused(disk, "Read-only file system")
    finally:
        thread.join()
    assert became.is_set()
    # What was written of a part without receipt is to be cleared away, which cannot be.
    assert disk.change("rw")
    left = next(disk.window.glob(".*")) / "predictions" / "part-00099.parquet"
    left.write_bytes(b"half")
    assert disk.change("ro")
    assert_refused(disk, "cannot write .*Read-only file system")
    assert disk.change("rw")
    assert_goes_on(disk, wanted)


def test_a_published_window_is_read_from_a_disk_that_is_read_only(
    disk: Disk, wanted: dict[str, bytes]
) -> None:
    """Nothing but the lock is written to find that all is done already; nothing to verify it."""
    assert disk.change("ro")
    assert publish(BEFORE).reused
    assert verify_published(load_workload("shop")).faults == ()
    run("mount", "-o", "remount,ro", str(disk.locks))
    try:
        assert_refused(disk, r"cannot write .*\.lock.*Read-only file system")
        assert verify_published(load_workload("shop")).faults == ()
    finally:
        run("mount", "-o", "remount,rw", str(disk.locks))
