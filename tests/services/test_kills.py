"""Processes killed in the middle of a run: states stay true, and what was missed is made up for."""

import signal
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.stacks import Stack, bring_up, call, make_home, running, tags_of, until

pytestmark = pytest.mark.slow

# Slow enough to be killed in the middle: many small fits, and one row a batch.
WORKLOAD = """
name: city
task: regression
source: {kind: simulated, hours: 5760, start: "2026-01-01T00:00:00Z"}
time: timestamp
key: [timestamp]
target: rentals
metric: rmsle
training: {holdout: 7d, folds: 8, candidates: [baseline, forest, xgboost]}
inference: {schedule: "0 5 * * *", window: 30d, batch_rows: 1, part_rows: 20}
retraining: {cooldown: 1d}
"""
PARTS = {
    "worker": ["prefect worker start"],
    "Prefect server": ["prefect server"],
    "MLflow server": ["mlflow server", "mlflow.server"],
    "flow run": ["prefect.engine"],
}
OUTAGE_SECONDS = 10.0
# Longer than between two beats of a heart, which then beats as soon as it can.
SILENT_SECONDS = 35.0
QUICK = {"candidates": ["baseline", "linear"], "folds": 2}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a stack with a champion."""
    with running(make_home(tmp_path_factory.mktemp("home"), WORKLOAD)) as found:
        train_quickly(found)
        yield found


def train_quickly(stack: Stack) -> None:
    """Train a first version."""
    run = stack.start("train-model/city", as_of="2026-05-01T00:00:00Z", overrides=QUICK)
    assert stack.finished(run) == "COMPLETED"


def begin_training(stack: Stack) -> tuple[str, psutil.Process]:
    """Start a long training; return its flow run and its process once it is in the middle."""
    run = stack.start("train-model/city", as_of="2026-06-01T00:00:00Z")

    def in_the_middle() -> bool:
        found = stack.mlflow_run(run)
        return found is not None and bool(
            stack.mlflow_runs(f"tags.`mlflow.parentRunId` = '{found['info']['run_id']}'")
        )

    until(in_the_middle, 90)
    process = int(tags_of(stack.mlflow_run(run))["twinloop.process"].split(":")[1])
    return run, psutil.Process(process)


def processes_of(stack: Stack, part: str) -> list[psutil.Process]:
    """List the processes of a server, or of the worker."""
    found = []
    for process in stack.family():
        with suppress(psutil.NoSuchProcess):
            if any(words in " ".join(process.cmdline()) for words in PARTS[part]):
                found.append(process)
    return found


@contextmanager
def unattended(stack: Stack) -> Iterator[None]:
    """Hold up the command, so that nothing of the stack is started again within a block."""
    stack.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.process.send_signal(signal.SIGCONT)


@contextmanager
def killed_for_ten_seconds(stack: Stack, part: str) -> Iterator[None]:
    """Kill a part of the stack, run a block, and see that the part is away for as long as that."""
    with unattended(stack):
        for process in processes_of(stack, part):
            process.kill()
        until(lambda: not processes_of(stack, part), 5)
        killed = time.monotonic()
        yield
        while time.monotonic() - killed < OUTAGE_SECONDS:
            assert not processes_of(stack, part)
            time.sleep(0.5)
    until(lambda: f"the {part} ended with status -9" in stack.log, 30)
    until(lambda: processes_of(stack, part), 30)


def test_a_killed_flow_run_is_crashed_in_both(stack: Stack) -> None:
    """Its worker tells Prefect, the stack tells MLflow; nothing half done is left."""
    champion = stack.champion()
    run, process = begin_training(stack)
    process.kill()
    assert stack.finished(run, 60) == "CRASHED"
    until(lambda: stack.mlflow_run(run)["info"]["status"] == "FAILED", 60)
    children = stack.mlflow_runs(
        f"tags.`mlflow.parentRunId` = '{stack.mlflow_run(run)['info']['run_id']}'"
    )
    assert "RUNNING" not in [c["info"]["status"] for c in children]
    assert "process ended" in tags_of(stack.mlflow_run(run))["twinloop.error"]
    assert not list((stack.home / "data" / "lake" / "city" / "work").glob("*"))
    assert stack.champion() == champion


def test_a_flow_run_outlives_its_worker(stack: Stack) -> None:
    """The run goes on to its end, and another worker takes the next."""
    run, process = begin_training(stack)
    with killed_for_ten_seconds(stack, "worker"):
        assert process.is_running()
    assert stack.finished(run, 180) == "COMPLETED"
    assert stack.mlflow_run(run)["info"]["status"] == "FINISHED"
    scoring = stack.start("score-batch/city", "2026-05-01T05:00:00Z")
    assert stack.finished(scoring) == "COMPLETED"
    # Both take a while, and say how far they are.
    assert [progress(stack, r) for r in (run, scoring)] == [100.0, 100.0]


def progress(stack: Stack, run: str) -> float:
    """Read the progress a flow run shows, in per cent."""
    body = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["progress"]}}}
    return float(stack.ask("/artifacts/filter", body)[0]["data"])


@pytest.mark.parametrize("server", ["Prefect server", "MLflow server"])
def test_a_flow_run_waits_for_a_server_that_comes_back(stack: Stack, server: str) -> None:
    """A server that is away for ten seconds and more costs a run nothing but time."""
    run, process = begin_training(stack)
    with killed_for_ten_seconds(stack, server):
        assert process.is_running()
    until(lambda: not refuses(stack), 60)
    assert stack.finished(run, 240) == "COMPLETED"
    assert stack.mlflow_run(run)["info"]["status"] == "FINISHED"


def refuses(stack: Stack) -> bool:
    """Tell whether Prefect's API does not answer yet."""
    try:
        stack.ask("/flow_runs/count", {})
    except (urllib.error.URLError, ConnectionError):
        return True
    return False


def ended(process: psutil.Process) -> bool:
    """Tell whether a process is no more; what nobody has asked after may still have a number."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def beats_again(stack: Stack, run: str, process: psutil.Process, heard: int) -> bool:
    """Tell whether a run has given a sign of life since so many, or has ended."""
    return ended(process) or heartbeats(stack, run) > heard


def heartbeats(stack: Stack, run: str) -> int:
    """Count the signs of life that the server has had of a run."""
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    found = stack.ask("/events/filter", {"filter": wanted, "limit": 1})
    return int(found["total"])


@pytest.fixture(scope="module")
def environment(stack: Stack) -> dict[str, str]:
    """Stop the stack; what it leaves is where the next ones start."""
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(60) == 130
    return stack.environment


@pytest.fixture(scope="module")
def lost() -> list[tuple[str, str]]:
    """Note flow runs that ended with their stack, and who served then."""
    return []


def bring_up_again(environment: dict[str, str], lost: list[tuple[str, str]]) -> Stack:
    """Start a stack on what the last one left; what was running then ends in true states."""
    stack = bring_up(environment)
    for run, champion in lost:
        assert stack.finished(run, 60) == "CRASHED"
        assert stack.mlflow_run(run)["info"]["status"] in ("FAILED", "KILLED")
        assert stack.champion() == champion
    return stack


def test_a_run_nobody_hears_of_is_called_crashed(
    environment: dict[str, str], lost: list[tuple[str, str]]
) -> None:
    """Its worker and its machine gone, the server itself says so; a slow run it leaves alone."""
    # A stack of its own: a worker that has been killed before may not be started again.
    stack = bring_up_again(environment, lost)
    # Asked for a window, it makes up for no others.
    window = {"start": "2026-01-02T00:00:00Z", "end": "2026-06-01T00:00:00Z"}
    slow = stack.start("score-batch/city", window=window)
    until(lambda: stack.state(slow) == "RUNNING", 60)
    (still,) = processes_of(stack, "flow run")
    still.suspend()
    unheard, process = begin_training(stack)
    still.resume()
    with unattended(stack):
        for one in (process, *processes_of(stack, "worker")):
            one.kill()
        # It is silent too, but never for as long as that.
        deadline = time.monotonic() + 240
        while stack.state(unheard) == "RUNNING" and time.monotonic() < deadline:
            heard = heartbeats(stack, slow)
            with suppress(psutil.NoSuchProcess):
                still.suspend()
                time.sleep(SILENT_SECONDS)
                still.resume()
            until(partial(beats_again, stack, slow, still, heard), 60)
        assert stack.state(unheard) == "CRASHED"
        assert "no sign of life" in stack.ask(f"/flow_runs/{unheard}")["state"]["message"]
    assert stack.finished(slow, 120) == "COMPLETED"
    until(lambda: stack.mlflow_run(unheard)["info"]["status"] == "FAILED", 60)
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(60) == 130


@pytest.mark.parametrize("part", ["worker", "Prefect server", "MLflow server"])
def test_what_stays_away_ends_the_stack_with_one_error(
    part: str, environment: dict[str, str], lost: list[tuple[str, str]]
) -> None:
    """Killed as often as it comes: one error, nothing left running, states true later."""
    stack = bring_up_again(environment, lost)
    champion = stack.champion()
    run, _ = begin_training(stack)
    everything = stack.family()

    def ended() -> bool:
        with suppress(psutil.NoSuchProcess):
            everything.extend(processes_of(stack, part))
            for process in processes_of(stack, part):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        return stack.process.poll() is not None

    until(ended, 180)
    assert stack.process.wait() == 1
    assert stack.log.count("error [TL") == 1
    assert f"the {part} ended with status" in stack.log
    assert "Traceback" not in stack.log
    assert not [p for p in everything if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert "nothing runs here" in call(environment, "down").stdout
    lost.append((run, champion))


def test_after_a_power_cut_the_next_run_makes_up_for_the_lost_one(
    environment: dict[str, str], lost: list[tuple[str, str]]
) -> None:
    """All is killed in the middle of scoring: nothing is published, and later the rest is made."""
    home = Path(environment["TWINLOOP_HOME"])
    shorter = WORKLOAD.replace("window: 30d", "window: 12d")
    (home / "data" / "workloads" / "city.yaml").write_text(shorter)
    stack = bring_up_again(environment, lost)
    assert stack.finished(stack.start("score-batch/city", "2026-05-02T05:00:00Z")) == "COMPLETED"
    before, champion = stack.windows(), stack.champion()
    run = stack.start("score-batch/city", "2026-05-03T05:00:00Z")
    predictions = stack.home / "data" / "lake" / "city" / "predictions"
    until(lambda: list(predictions.glob("*/.*/_part-00000.json")), 60)
    everything = stack.family()
    for process in everything:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    stack.process.wait()
    assert stack.windows() == before
    lost.append((run, champion))
    again = bring_up_again(environment, lost)
    later = again.start("score-batch/city", "2026-05-04T05:00:00Z")
    assert again.finished(later) == "COMPLETED"
    assert set(again.windows()) - set(before) == {"20260421", "20260422"}
    assert not list(predictions.glob("*/.*"))
    kill_the_command(again)


def kill_the_command(stack: Stack) -> None:
    """Servers and worker end with the command that started them, even if that is killed."""
    everything = stack.family()
    stack.process.kill()
    stack.process.wait()
    psutil.wait_procs(everything, timeout=30)
    assert not [p for p in everything if p.is_running()]
    stopped = subprocess.run(
        ["pgrep", "-f", str(stack.home)], capture_output=True, text=True, check=False
    )
    assert stopped.stdout == ""
