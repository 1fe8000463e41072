"""A simulated replay: it says what real flows say, and survives being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.replay_history import replay_history
from flows.replay_policies import replay_policies
from tasks.registry import find_champion
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.errors import EmptyWindowError, TwinloopError
from twinloop.replay import PolicyResult, ReplayResult

pytestmark = pytest.mark.slow

# Some weeks after commuters have changed their habits.
START = datetime(2012, 4, 6, tzinfo=UTC)
WEEK = timedelta(days=7)
END = START + 4 * WEEK
_SECONDS = 240


@pytest.fixture
def city(home: Path) -> Path:
    """Let the bikes train two candidates on three folds, on one core."""
    path = home / "data" / "workloads" / "bikes.yaml"
    text = path.read_text(encoding="utf-8")
    whole = "folds: 5, candidates: [baseline, linear, forest, xgboost]"
    assert whole in text
    path.write_text(text.replace(whole, "folds: 3, candidates: [baseline, linear]"))
    return home


def simulations(home: Path) -> list[Path]:
    """List what simulated replays have left, beside the empty store."""
    found = (home / "data" / "lake" / "bikes-replay" / "simulations").glob("*")
    return [path for path in found if not path.name.startswith("empty-")]


def story(result: PolicyResult) -> dict[str, Any]:
    """Return all that a policy came to but what was measured."""
    measured = {"money", "training_money", "energy_kwh", "training_energy_kwh", "seconds"}
    said = result.model_dump(exclude={*measured, "ticks"})
    return said | {"ticks": [t.model_dump(exclude={"money"}) for t in result.ticks]}


@pytest.mark.usefixtures("prefect")
def test_a_simulated_replay_says_what_real_flows_say(city: Path) -> None:
    """Errors, decisions, reasons, verdicts and counts are equal, tick by tick, for all policies."""
    policies = ("never", "drift", "every:14d")
    real = replay_history("bikes", policies, START, END, WEEK)
    simulated = replay_policies("bikes", policies, START, END, WEEK)
    assert [story(p) for p in simulated.policies] == [story(p) for p in real.policies]
    never, drift, fortnight = simulated.policies
    assert {t.verdict for p in (drift, fortnight) for t in p.ticks if t.trained} >= {"promote"}
    assert [t.trained for t in fortnight.ticks] == [False, True, False, True]
    assert 0 < never.training_money < fortnight.training_money < fortnight.money
    assert 0 < never.training_energy_kwh < fortnight.training_energy_kwh < fortnight.energy_kwh
    assert sum(t.money for t in fortnight.ticks) + never.training_money == pytest.approx(
        fortnight.money
    )


def test_a_simulated_replay_is_one_run(city: Path) -> None:
    """One run holds numbers, ticks and figures of all policies; production and lake stay empty."""
    result = replay_policies("bikes", ("never", "every:7d"), START, START + 2 * WEEK, WEEK)
    experiments = client().search_experiments(filter_string="name != 'Default'")
    assert [e.name for e in experiments] == ["bikes-replay"]
    (run,) = client().search_runs([experiments[0].experiment_id])
    assert run.info.run_id == result.replay_id
    assert run.info.status == "FINISHED"
    metrics, (never, weekly) = run.data.metrics, result.policies
    assert metrics["replay/every_7d/rmsle"] == weekly.error
    assert metrics["replay/every_7d/trainings"] == 3
    assert metrics["replay/every_7d/gain"] == never.error - weekly.error
    assert metrics["replay/every_7d/relative_cost"] == 1
    assert metrics["replay/never/energy_kwh"] == never.energy_kwh
    series = client().get_metric_history(result.replay_id, "replay/never/tick_rmsle")
    assert [(m.step, m.value) for m in series] == [(i, t.error) for i, t in enumerate(never.ticks)]
    # Children's time is on the bill of the one run there is.
    assert metrics["cost/money"] > weekly.money
    files = {
        f.path for folder in ("", "plots") for f in client().list_artifacts(run.info.run_id, folder)
    }
    assert {"policies.csv", "plots/error_by_tick.png", "plots/error_and_cost.png"} <= files
    assert simulations(city) == []
    assert find_champion(load_workload("bikes-replay")) is None


def start(city: Path, json_path: Path) -> subprocess.Popen[str]:
    """Start a replay with a training at every tick, as a person does."""
    words = ["replay", "bikes", "--policy", "every:7d", "--json", str(json_path)]
    words += ["--start", f"{START:%Y-%m-%d}", "--end", f"{END:%Y-%m-%d}"]
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *words],
        env=os.environ | {"PREFECT_HOME": str(city / ".prefect")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_a_training_after(city: Path, ticks: int) -> bool:
    """Tell whether the policy has done so many ticks, and is in the training of the next."""
    for folder in simulations(city):
        state = folder / "every-7d" / "state.json"
        if state.is_file() and len(json.loads(state.read_text())["ticks"]) == ticks:
            return bool(list((folder / "every-7d" / "lake" / "bikes-replay" / "work").glob("*")))
    return False


def test_a_killed_replay_goes_on(city: Path, tmp_path: Path) -> None:
    """Killed in the middle of a tick's training, it is finished as if it had never been."""
    (city / ".prefect").mkdir()
    first = start(city, tmp_path / "killed.json")
    deadline = time.monotonic() + _SECONDS
    while not in_a_training_after(city, 2):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    # All at once, as when the machine has no memory left.
    family = [*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)]
    for process in family:
        process.send_signal(signal.SIGKILL)
    first.communicate()
    assert not (tmp_path / "killed.json").exists()

    second = start(city, tmp_path / "resumed.json")
    _, said = second.communicate(timeout=_SECONDS)
    assert second.returncode == 0, said
    assert "every:7d: going on after 2 of 4" in said
    assert "[3/4]" in said
    assert "[2/4]" not in said
    resumed = ReplayResult.model_validate_json((tmp_path / "resumed.json").read_bytes())
    unbroken = replay_policies("bikes", ("every:7d",), START, END, WEEK)
    assert [story(p) for p in resumed.policies] == [story(p) for p in unbroken.policies]
    assert resumed.policies[0].trainings == 5
    assert resumed.policies[0].training_money > 0
    assert simulations(city) == []
    experiments = [e.experiment_id for e in client().search_experiments()]
    runs = client().search_runs(experiments)
    assert sorted(r.info.status for r in runs) == ["FAILED", "FINISHED", "FINISHED"]


def test_workers_end_with_their_parent(city: Path, tmp_path: Path) -> None:
    """Where the command alone is killed, nothing goes on working behind its back."""
    (city / ".prefect").mkdir()
    command = start(city, tmp_path / "killed.json")
    deadline = time.monotonic() + _SECONDS
    while not in_a_training_after(city, 0):
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = psutil.Process(command.pid).children(recursive=True)
    assert workers
    command.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    command.communicate()


def test_an_error_in_a_policy_is_the_users(city: Path) -> None:
    """What a flow refuses is told as it was said, not as the end of some process."""
    path = city / "data" / "workloads" / "bikes.yaml"
    path.write_text(path.read_text().replace("key: [timestamp]", "key: [timestamp, nothing]"))
    with pytest.raises(TwinloopError, match="nothing"):
        replay_policies("bikes", ("never",), START, END, WEEK)


def test_a_replay_without_length_is_refused(city: Path) -> None:
    """Before anything is made."""
    with pytest.raises(EmptyWindowError, match="no length"):
        replay_policies("bikes", ("never",), START, START, WEEK)
    assert simulations(city) == []
