"""Benchmarks where they judge: what they count, what they hold to a bound, and what they end."""

import importlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from twinloop.verdict import Verdict

FOLDER = Path(__file__).parents[2] / "benchmarks"
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep({seconds})
"""


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a benchmark as it is when it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


@pytest.mark.parametrize("seconds", [0, 60])
def test_nothing_that_a_system_has_started_outlives_it(
    seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor its time: its workers would slow down whatever is measured next."""
    accuracy = benchmark("accuracy", monkeypatch)
    command = [sys.executable, "-c", PARENT.format(seconds=seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        worker = psutil.Process(int(child.stdout.readline()))
        status, _ = accuracy._end_of(child, 0.5)
    assert (status == 0) == (seconds == 0)
    end = time.monotonic() + 10
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.01)


def verdict(gain: float) -> Verdict:
    """Return a verdict with this gain, give or take 0.1."""
    return Verdict(
        outcome="keep", reason="", metric="rmse", gain=gain, low=gain - 0.1, high=gain + 0.1
    )


def test_a_table_that_twinloop_loses_counts_as_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is said on how many tables another system was missing."""
    accuracy = benchmark("accuracy", monkeypatch)
    found = [
        accuracy.Measured(verdict(0.2)),
        accuracy.Measured(verdict(0.0), ("AutoGluon",)),
        accuracy.Measured(verdict(-0.2)),
        accuracy.Measured(None, ("Twinloop",)),
        accuracy.Measured(),
        accuracy.Measured(verdict(0.2).model_copy(update={"gain": None, "low": None})),
    ]
    assert [m.judged for m in found] == [True, True, True, False, False, False]
    above, below = accuracy._figures(60, found)
    assert (above.value, above.target, below.value) == (2.0, 3, 2.0)
    shown = " ".join(capsys.readouterr().out.split())
    assert "on 2 of 4" in shown
    assert "1 without AutoGluon, 1 without Twinloop" in shown
    (only,) = accuracy._figures(60, found[3:4])[1:]
    assert not only.holds


def test_work_that_is_slower_under_the_meter_breaks_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its median; where the machine is too noisy to tell there is no figure to hold."""
    metering = benchmark("metering", monkeypatch)
    added = [0.001] * 30
    steady = [0.012 + 0.0001 * (i % 5) for i in range(30)]
    assert [f.holds for f in metering.figures_of(added, steady)] == [True, False]
    wide = [0.012 + 0.05 * (-1) ** i for i in range(30)]
    assert [f.holds for f in metering.figures_of(added, wide)] == [True]
