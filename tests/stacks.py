"""A stack as a person starts it, for tests to talk to; and a PostgreSQL for it to stand on."""

import base64
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

COMMAND = str(Path(sys.executable).parent / "twinloop")
_BUSY_SECONDS = 15.0
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PREFECT_ACCOUNT = "someone:their password"
MLFLOW_ACCOUNT = "someone:another password"
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
retraining: {cooldown: 1d, search: always}
"""


@dataclass(frozen=True)
class Stack:
    """A stack that runs, and its addresses."""

    home: Path
    prefect: str
    mlflow: str
    environment: dict[str, str]
    process: subprocess.Popen[str] = field(repr=False)

    @property
    def log(self) -> str:
        """What the command has said."""
        return (self.home / "up.log").read_text()

    def ask(self, path: str, body: Any = None, method: str = "", *, known: bool = True) -> Any:
        """Ask Prefect's API; as nobody if not `known`."""
        account = self.environment.get("PREFECT_API_AUTH_STRING", "") if known else ""
        return ask(f"{self.prefect}/api{path}", body, method, account)

    def ask_mlflow(self, path: str, body: Any = None, *, known: bool = True) -> Any:
        """Ask MLflow's API; as nobody if not `known`."""
        names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        account = ":".join(self.environment.get(n, "") for n in names).strip(":") if known else ""
        return ask(f"{self.mlflow}/api/2.0/mlflow{path}", body, "", account)

    def deployment(self, name: str) -> Any:
        """Read a deployment by flow and name."""
        return self.ask(f"/deployments/name/{name}")

    def start(self, name: str, scheduled: str = "", **parameters: Any) -> str:
        """Start a deployment, as its schedule would for a given time; return the flow run's id."""
        found = self.deployment(name)
        state = {"type": "SCHEDULED"}
        if scheduled:
            state["state_details"] = {"scheduled_time": scheduled}  # type: ignore[assignment]
        body = {"parameters": found["parameters"] | parameters, "state": state}
        return str(self.ask(f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def runs(self, deployment: str) -> list[Any]:
        """List the flow runs of a deployment."""
        found = self.deployment(deployment)
        body = {"flow_runs": {"deployment_id": {"any_": [found["id"]]}}}
        return list(self.ask("/flow_runs/filter", body))

    def has_runs(self, deployment: str, number: int) -> bool:
        """Tell whether a deployment has this many flow runs."""
        return len(self.runs(deployment)) == number

    def state(self, run: str) -> str:
        """Read the type of a flow run's state."""
        return str(self.ask(f"/flow_runs/{run}")["state_type"])

    def finished(self, run: str, seconds: float = 120) -> str:
        """Wait for a flow run; return the type of its last state."""
        until(lambda: self.state(run) in ENDS, seconds)
        return self.state(run)

    def mlflow_runs(self, where: str) -> list[Any]:
        """Search the runs of all experiments."""
        known = self.ask_mlflow("/experiments/search", {"max_results": 100})["experiments"]
        body = {"experiment_ids": [e["experiment_id"] for e in known], "filter": where}
        return list(self.ask_mlflow("/runs/search", body).get("runs", []))

    def mlflow_run(self, flow_run: str) -> Any:
        """Read the MLflow run of a flow run; None where there is none."""
        found = self.mlflow_runs(f"tags.`twinloop.prefect_flow_run_id` = '{flow_run}'")
        mine = [r for r in found if tags_of(r)["twinloop.kind"] not in ("candidate", "promotion")]
        return mine[0] if mine else None

    def champion(self) -> str:
        """Return the version that serves."""
        found = self.ask_mlflow("/registered-models/get?name=city")["registered_model"]
        return str({a["alias"]: a["version"] for a in found["aliases"]}["champion"])

    def family(self) -> list[psutil.Process]:
        """List every process of this stack."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def part(self, words: str) -> psutil.Process:
        """Find the process whose command line holds some words."""
        return next(p for p in self.family() if words in " ".join(p.cmdline()))

    def windows(self) -> list[str]:
        """List the windows that are published."""
        found = (self.home / "data" / "lake" / "city" / "predictions").glob("*/manifest.json")
        return sorted(p.parent.name[:8] for p in found)


def tags_of(run: Any) -> dict[str, str]:
    """Return the tags of a MLflow run."""
    return {t["key"]: t["value"] for t in run["data"]["tags"]}


def ask(address: str, body: Any = None, method: str = "", account: str = "") -> Any:
    """Ask an address for JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    if account:
        request.add_header("Authorization", "Basic " + base64.b64encode(account.encode()).decode())
    if method:
        request.method = method
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as err:
            # A Prefect server whose SQLite is locked asks to come again, as its own clients do.
            if err.code != 503 or time.monotonic() > deadline:
                raise
            err.close()
            time.sleep(0.5)


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


def make_home(
    home: Path, workload: str = WORKLOAD, name: str = "city", **variables: str
) -> dict[str, str]:
    """Make a home with one workload; return the environment of a command that works there."""
    (home / "data" / "workloads").mkdir(parents=True)
    (home / "data" / "workloads" / f"{name}.yaml").write_text(workload)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
    return kept | {"TWINLOOP_HOME": str(home)} | variables


def bring_up(environment: dict[str, str], ports: tuple[int, int] | None = None) -> Stack:
    """Start `twinloop up` and wait until it says where its pages are."""
    home = Path(environment["TWINLOOP_HOME"])
    prefect, mlflow = ports or (free_port(), free_port())
    command = [COMMAND, "up", "--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
    log = home / "up.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, text=True
        )
    until(lambda: process.poll() is not None or "Ctrl-C" in log.read_text(), 120)
    assert process.poll() is None, log.read_text()
    addresses = (f"http://127.0.0.1:{prefect}", f"http://127.0.0.1:{mlflow}")
    return Stack(home, *addresses, environment, process)


@contextmanager
def running(environment: dict[str, str]) -> Iterator[Stack]:
    """Run a stack for the length of a block, and see that it stops when asked to."""
    stack = bring_up(environment)
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.process.send_signal(signal.SIGINT)
            assert stack.process.wait(60) == 130


def call(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [COMMAND, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def lacking(what: str) -> None:
    """Skip a test whose tool this machine lacks; on a machine that promised all, fail."""
    if os.environ.get("TWINLOOP_TEST_ALL"):
        pytest.fail(f"this machine was to have {what}")
    pytest.skip(f"no {what} here")


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a real PostgreSQL with a database for Prefect and one for MLflow; yield its address.

    The address is ``user:password@host:port``.
    """
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which("initdb", path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))
    if found is None:
        lacking("PostgreSQL server")
        return
    programs, port = Path(found).parent, free_port()
    # It refuses to run as root.
    user = None
    if os.geteuid() == 0:
        user = next((u.pw_name for u in pwd.getpwall() if u.pw_name in ("postgres", "nobody")), "")
        shutil.chown(folder, user)
    data, password = folder / "data", folder / "password"
    password.write_text("between us")
    password.chmod(0o644)
    initialise = [str(programs / "initdb"), "--no-sync", "--auth=scram-sha-256", "-U", "owner"]
    initialise += ["-D", str(data), f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
    subprocess.run(initialise, check=True, capture_output=True, user=user, cwd=folder)
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
    server = subprocess.Popen(
        [*command, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
        user=user,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    address = f"owner:between%20us@127.0.0.1:{port}"
    try:
        _make_databases(address)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def _make_databases(address: str) -> None:
    import psycopg2

    def connect() -> Any:
        try:
            return psycopg2.connect(f"postgresql://{address}/postgres")
        except psycopg2.OperationalError:
            return None

    connection = until(connect, 30)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in ("prefect", "mlflow"):
            cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
