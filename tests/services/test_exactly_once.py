"""A scoring that is killed at any moment is finished by the next one, to the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.published import read_manifest
from tasks.settings import load_workload
from tasks.verifying import verify_published
from tests.windows import PART_ROWS, ROWS, dirty_orders, files, make_home

pytestmark = pytest.mark.slow

KILLS = 100


class Scoring:
    """Starts processes that score, and kills them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.windows"],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"TWINLOOP_HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self) -> int:
        """Start one, and return its process."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._line())

    def status(self) -> int:
        """Wait for its end."""
        return int(self._line())

    def wait_for_a_part(self, process: int) -> None:
        """Wait until a part is written, or nobody is there to write one."""
        lake = self.home / "data" / "lake" / "shop"
        while alive(process) and not any(lake.rglob("_part-*")):
            time.sleep(0.001)

    def stop(self) -> None:
        """End the process that starts the others."""
        self.process.kill()
        self.process.communicate()

    def clear(self) -> None:
        """Forget all output."""
        shutil.rmtree(self.home / "data" / "lake", ignore_errors=True)


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoring]:
    """Provide a home whose window has many parts."""
    found = Scoring(make_home(tmp_path_factory.mktemp("home"), dirty_orders()))
    yield found
    found.stop()


@pytest.fixture
def undisturbed(scoring: Scoring) -> tuple[dict[str, bytes], float]:
    """Score once without a kill: the files, and the seconds it took."""
    scoring.clear()
    began = time.monotonic()
    scoring.start()
    assert scoring.status() == 0
    return files(scoring.home), time.monotonic() - began


@pytest.mark.timeout(600)
def test_killed_at_any_moment_it_ends_the_same(
    scoring: Scoring, undisturbed: tuple[dict[str, bytes], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is lost or doubled, no byte differs, and nothing is left over; 100 times."""
    monkeypatch.setenv("TWINLOOP_HOME", str(scoring.home))
    wanted, seconds = undisturbed
    draw = random.Random(0)  # noqa: S311 - no secret
    workload, gone_on, cut = load_workload("shop"), 0, 0
    for _ in range(KILLS):
        scoring.clear()
        for _ in range(draw.choice([1, 1, 2])):
            process, rest = scoring.start(), seconds
            # Half of them at any moment, half once parts are written: how long the start takes
            # is a matter of load.
            if draw.random() < 0.5:
                scoring.wait_for_a_part(process)
                rest = seconds / 4
            time.sleep(draw.uniform(0, rest))
            os.kill(process, signal.SIGKILL) if alive(process) else None
            cut += scoring.status() != 0
            assert_nothing_partial(scoring.home)
        gone_on += any("/_part-" in name for name in files(scoring.home))
        scoring.start()
        assert scoring.status() == 0
        assert files(scoring.home) == wanted
        assert verify_published(workload).faults == ()
    # The kills came where there was something to go on with.
    assert cut > KILLS * 0.6
    assert gone_on > KILLS * 0.4


def alive(process: int) -> bool:
    """Tell whether a process is there."""
    return Path(f"/proc/{process}").exists()


def assert_nothing_partial(home: Path) -> None:
    """Assert that whatever a reader could find is whole."""
    predictions = home / "data" / "lake" / "shop" / "predictions" / "all"
    shown = [p for p in predictions.glob("[!.]*") if p.is_dir()]
    assert all((folder / "_manifest.json").is_file() for folder in shown)
    if (predictions / "manifest.json").exists():
        manifest = read_manifest(predictions / "manifest.json")
        assert manifest is not None
        assert all(s.is_at(manifest.place_of(place)) for place, s in manifest.files)


def test_parts_hold_every_row_once(
    scoring: Scoring, undisturbed: tuple[dict[str, bytes], float]
) -> None:
    """Scored and quarantined rows are all rows of the source, each in one part."""
    import io

    import pyarrow.parquet as pq

    found, _ = undisturbed
    by_place: dict[str, list[int]] = {"predictions": [], "quarantine": []}
    for name, content in found.items():
        if name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(content))
            by_place[name.split("/")[0]] += table.column("order").to_pylist()
    assert len([n for n in found if "/part-" in n and "predictions" in n]) == ROWS // PART_ROWS
    source = dirty_orders()
    assert sorted(by_place["predictions"] + by_place["quarantine"]) == sorted(
        source.column("order").to_pylist()
    )
    assert len(set(by_place["predictions"])) == len(by_place["predictions"])


def test_two_runs_at_once_publish_one_output(
    scoring: Scoring, undisturbed: tuple[dict[str, bytes], float]
) -> None:
    """The second waits for the first, and finds the window done."""
    wanted, _ = undisturbed
    scoring.clear()
    other = Scoring(scoring.home)
    try:
        for each in (scoring, other):
            each.start()
        assert [each.status() for each in (scoring, other)] == [0, 0]
        assert files(scoring.home) == wanted
    finally:
        other.stop()
