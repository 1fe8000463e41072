"""The stack as a person starts it: `twinloop up`, both pages, a schedule, drift, and `down`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).parent / "twinloop")
WORKLOAD = """
name: city
task: regression
source: {kind: simulated, hours: 1440, start: "2026-01-01T00:00:00Z"}
time: timestamp
key: [timestamp]
target: rentals
metric: rmsle
training: {holdout: 7d, folds: 2, candidates: [baseline, linear]}
inference: {schedule: "* * * * *", window: 1d}
monitoring: {schedule: "0 6 * * *"}
retraining: {cooldown: 1d}
"""


@dataclass(frozen=True)
class Stack:
    """A stack that runs, and its addresses."""

    home: Path
    prefect: str
    mlflow: str
    environment: dict[str, str]

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str = "") -> Any:
        """Ask Prefect's API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.prefect}/api{path}", data, {"Content-Type": "application/json"}
        )
        if method:
            request.method = method
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def deployment(self, name: str) -> Any:
        """Read a deployment by flow and name."""
        return self.ask(f"/deployments/name/{name}")

    def start(self, name: str, **parameters: Any) -> str:
        """Start a deployment; return the id of its flow run."""
        found = self.deployment(name)
        body = {"parameters": found["parameters"] | parameters, "state": {"type": "SCHEDULED"}}
        return str(self.ask(f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def runs(self, deployment: str) -> list[Any]:
        """List the flow runs of a deployment."""
        found = self.deployment(deployment)
        body = {"flow_runs": {"deployment_id": {"any_": [found["id"]]}}}
        return list(self.ask("/flow_runs/filter", body))

    def has_runs(self, deployment: str, number: int) -> bool:
        """Tell whether a deployment has this many flow runs."""
        return len(self.runs(deployment)) == number

    def finished(self, run: str) -> str:
        """Wait for a flow run; return the type of its last state."""
        ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        until(lambda: self.ask(f"/flow_runs/{run}")["state_type"] in ends, 120)
        return str(self.ask(f"/flow_runs/{run}")["state_type"])


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s")


def free_port() -> int:
    """Find a port nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def bring_up(home: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], Stack]:
    """Start `twinloop up` and wait until it says where its pages are."""
    prefect, mlflow = free_port(), free_port()
    command = [COMMAND, "up", "--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
    log = home / "up.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, text=True
        )
    until(lambda: process.poll() is not None or "Ctrl-C" in log.read_text(), 120)
    assert process.poll() is None, log.read_text()
    addresses = (f"http://127.0.0.1:{prefect}", f"http://127.0.0.1:{mlflow}")
    return process, Stack(home, *addresses, environment)


def call(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [COMMAND, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Provide the environment of a home with one workload."""
    home = tmp_path_factory.mktemp("home")
    (home / "data" / "workloads").mkdir(parents=True)
    (home / "data" / "workloads" / "city.yaml").write_text(WORKLOAD)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
    return kept | {"TWINLOOP_HOME": str(home)}


@pytest.fixture(scope="module")
def stack(environment: dict[str, str]) -> Iterator[Stack]:
    """Run a stack for all tests of this module."""
    process, found = bring_up(Path(environment["TWINLOOP_HOME"]), environment)
    yield found
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


@pytest.fixture(scope="module")
def trained(stack: Stack) -> str:
    """Train the first version through its deployment; return the flow run's id."""
    run = stack.start("train-model/city", as_of="2026-02-20T00:00:00Z")
    assert stack.finished(run) == "COMPLETED"
    return run


def test_every_deployment_is_there_with_its_form(stack: Stack) -> None:
    """Each flow of a workload is deployed, described, tagged, and checks its parameters."""
    for flow in ("score-batch", "watch-drift", "train-model", "retrain-model", "prepare-data"):
        found = stack.deployment(f"{flow}/city")
        assert found["description"]
        assert found["tags"] == ["twinloop", "city"]
        assert found["enforce_parameter_schema"] is True
        assert found["parameter_openapi_schema"]["properties"]["workload"]["enum"] == ["city"]


@pytest.mark.parametrize(
    "parameters", [{"workload": "other"}, {"overrides": {"folds": 900}}, {"nonsense": 1}]
)
def test_wrong_parameters_are_refused_before_a_run_starts(
    stack: Stack, parameters: dict[str, Any]
) -> None:
    """A parameter that does not fit is refused by the server; no flow run is made."""
    before = len(stack.runs("train-model/city"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        stack.start("train-model/city", **parameters)
    with refused.value as answer:
        assert 400 <= answer.code < 500
    assert len(stack.runs("train-model/city")) == before


def test_pages_link_to_each_other(stack: Stack, trained: str) -> None:
    """A flow run shows its tables and a link to its MLflow run, which links back."""
    body = {"artifacts": {"flow_run_id": {"any_": [trained]}}}
    found = {a["key"]: a for a in stack.ask("/artifacts/filter", body)}
    tables = {"leaderboard-city", "verdict-city", "bill-city", "candidates-city"}
    assert tables | {"mlflow-run-city"} <= set(found)
    link = found["mlflow-run-city"]["data"]
    run_id = link.rsplit("/", 1)[1].rstrip(")")
    address = f"{stack.mlflow}/api/2.0/mlflow/runs/get?run_id={run_id}"
    with urllib.request.urlopen(address, timeout=20) as answer:
        run = json.load(answer)["run"]
    tags = {t["key"]: t["value"] for t in run["data"]["tags"]}
    assert stack.mlflow in link
    assert tags["twinloop.prefect_url"].endswith(trained)
    assert trained in tags["mlflow.note.content"]
    assert run["info"]["run_name"] == "train city 2026-02-20"


def test_schedule_fires_and_scores_the_window_of_its_scheduled_time(
    stack: Stack, trained: str
) -> None:
    """A scheduled run starts by itself, and its window is that of its scheduled time."""

    def done() -> list[Any]:
        ends = ("COMPLETED", "FAILED", "CRASHED")
        return [r for r in stack.runs("score-batch/city") if r["state_type"] in ends]

    run = until(done, 120)[0]
    # The simulated city ends long before today: the run says so, and names the day before its own.
    assert run["auto_scheduled"] is True
    day = datetime.fromisoformat(run["expected_start_time"]).date()
    assert f"/{day:%Y-%m-%d}" in run["state"]["message"]


def test_drift_starts_one_retraining_for_one_cause(stack: Stack, trained: str) -> None:
    """The event starts a retraining by itself; told again, the same cause starts no training."""
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": "twinloop.drift.detected",
        "resource": {"prefect.resource.id": "twinloop.workload.city"},
        "payload": {"as_of": "2026-02-25T00:00:00Z", "reason": "test", "cause": "check-1"},
    }
    for number, identity in enumerate(("11" * 16, "22" * 16), 1):
        told = event | {"id": str(uuid.UUID(identity))}
        stack.ask("/events", [told])  # type: ignore[arg-type]
        until(partial(stack.has_runs, "retrain-model/city", number), 60)
        for run in stack.runs("retrain-model/city"):
            assert stack.finished(run["id"]) == "COMPLETED"
    address = f"{stack.mlflow}/api/2.0/mlflow/model-versions/search?filter=name%3D%27city%27"
    with urllib.request.urlopen(address, timeout=20) as answer:
        versions = json.load(answer)["model_versions"]
    assert len(versions) == 2


def test_what_a_person_changed_survives_the_next_up(
    environment: dict[str, str], stack: Stack, tmp_path: Path
) -> None:
    """A pause and a schedule set by hand are still there after `down` and `up`."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(stack.home / "data" / "workloads", home / "data" / "workloads")
    mine = environment | {"TWINLOOP_HOME": str(home)}
    process, first = bring_up(home, mine)
    found = first.deployment("score-batch/city")
    first.ask(f"/deployments/{found['id']}/pause_deployment", {})
    schedule = first.deployment("watch-drift/city")
    changed = {"schedule": {"cron": "7 7 * * *", "timezone": "UTC"}}
    at = f"/deployments/{schedule['id']}/schedules/{schedule['schedules'][0]['id']}"
    first.ask(at, changed, "PATCH")
    assert call(mine, "down").returncode == 0
    assert process.wait(5) == 143
    again, second = bring_up(home, mine)
    assert second.deployment("score-batch/city")["paused"] is True
    kept = second.deployment("watch-drift/city")["schedules"]
    assert [s["schedule"]["cron"] for s in kept] == ["7 7 * * *"]
    assert call(mine, "down").returncode == 0
    assert again.wait(5) == 143
    assert "nothing runs here" in call(mine, "down").stdout


def test_second_stack_and_taken_ports_are_refused(stack: Stack, tmp_path: Path) -> None:
    """A stack that runs already, or a taken port, is one clear error, and nothing starts."""
    second = call(stack.environment, "up")
    assert second.returncode == 1
    assert "has a stack already" in second.stderr
    taken = stack.prefect.rsplit(":", 1)[1]
    other = stack.environment | {"TWINLOOP_HOME": str(tmp_path)}
    refused = call(other, "up", "--prefect-port", taken)
    assert refused.returncode == 1
    assert f"port {taken}" in refused.stderr
    assert "Traceback" not in refused.stderr
