"""The stack: MLflow, Prefect and a worker as services of this machine."""

import ctypes
import logging
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tasks.databases import check_databases, embedded_database, mlflow_database
from tasks.orphans import anything_runs
from tasks.servers import START_SECONDS, STOP_SECONDS, Child, child, end, wait_until_healthy
from tasks.settings import settings
from twinloop.errors import ServiceError
from twinloop.vocabulary import Frozen

WORK_POOL = "twinloop"
_STOP_SECONDS = 40.0
# A child that ended so often within so long is not started once more.
_MAX_ENDS = 2
_ENDS_SECONDS = 300.0
_MEND_SECONDS = 5.0
_MEND_LIMIT_SECONDS = 120.0
_CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_ACCOUNTS = """[mlflow]
default_permission = READ
database_uri = sqlite:///{database}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
_LOG = logging.getLogger("twinloop.progress")


class Addresses(Frozen):
    """Where the two pages are, and the process that keeps them there.

    Attributes
    ----------
    embedded
        Whether MLflow's database is the file under this home.
    """

    prefect: str
    mlflow: str
    pid: int
    started: float
    embedded: bool = False

    @property
    def prefect_api(self) -> str:
        """Address of Prefect's API."""
        return f"{self.prefect}/api"


def _state_file() -> Path:
    return settings().prefect_home / "stack.json"


def running_stack() -> Addresses | None:
    """Return the stack that runs for this home folder, if one does."""
    try:
        found = Addresses.model_validate_json(_state_file().read_text(encoding="utf-8"))
        alive = psutil.Process(found.pid).create_time() == found.started
    except (OSError, ValueError, psutil.Error):
        return None
    return found if alive else None


@contextmanager
def servers(prefect_port: int, mlflow_port: int) -> Iterator[tuple[Addresses, list[Child]]]:
    """Run a Prefect and a MLflow server on loopback, each on a database of its own.

    Parameters
    ----------
    prefect_port, mlflow_port
        Where they listen.

    Raises
    ------
    ServiceError
        If a stack runs here already, a port is taken, a database is another version's, or a
        server does not come up; nothing is left running then.
    """
    running = running_stack()
    if running is not None:
        raise ServiceError(
            f"this home has a stack already: Prefect {running.prefect}, MLflow {running.mlflow}.",
            "Stop it with `twinloop down`.",
        )
    for name, port in (("Prefect", prefect_port), ("MLflow", mlflow_port)):
        _refuse_taken(name, port)
    check_databases()
    home, store = settings().prefect_home, settings().store
    store.mkdir(parents=True, exist_ok=True)
    addresses = Addresses(
        prefect=f"http://127.0.0.1:{prefect_port}",
        mlflow=f"http://127.0.0.1:{mlflow_port}",
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        embedded=mlflow_database() == embedded_database(),
    )
    accounts = _accounts(home)
    with ExitStack() as stack:
        prefect = stack.enter_context(
            child(
                "the Prefect server",
                ["prefect", "server", "start"],
                _prefect_environment(prefect_port),
                home / "prefect-server.log",
            )
        )
        mlflow = stack.enter_context(
            child(
                "the MLflow server",
                _mlflow_command(mlflow_port, with_accounts=bool(accounts)),
                _mlflow_environment(store) | accounts,
                home / "mlflow-server.log",
            )
        )
        wait_until_healthy(f"{addresses.prefect_api}/health", prefect, START_SECONDS)
        wait_until_healthy(f"{addresses.mlflow}/health", mlflow, START_SECONDS)
        _state_file().write_text(addresses.model_dump_json(), encoding="utf-8")
        stack.callback(_state_file().unlink, missing_ok=True)
        _join(addresses)
        _deploy()
        yield addresses, [prefect, mlflow]


def _deploy() -> None:
    """Register the deployments in a process of its own, which takes the memory it needs with it."""
    done = subprocess.run([sys.executable, "-m", "flows.cli", "deploy"], check=False)
    if done.returncode:
        raise ServiceError("the deployments could not be registered, for the reason above.")


def _join(stack: Addresses) -> None:
    os.environ["PREFECT_API_URL"] = stack.prefect_api
    os.environ["MLFLOW_TRACKING_URI"] = stack.mlflow


def join_stack() -> None:
    """Use the servers of the stack that runs here, if one does and none else are named."""
    if os.environ.get("PREFECT_API_URL") or os.environ.get("MLFLOW_TRACKING_URI"):
        return
    running = running_stack()
    if running is not None:
        _join(running)


def _refuse_taken(name: str, port: int) -> None:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as err:
            option = f"--{name.lower()}-port"
            raise ServiceError(
                f"port {port}, where {name} would listen, is taken: {err.strerror}.",
                f"Stop what listens there, or choose another with {option}.",
            ) from err


def _prefect_environment(port: int) -> dict[str, str]:
    environment = {
        # The page asks the API where these say; an option on the command line would not reach it.
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        # By default any page a browser has open may use the API, and with it run code.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    password = os.environ.get("PREFECT_API_AUTH_STRING")
    return environment | ({"PREFECT_SERVER_API_AUTH_STRING": password} if password else {})


def _mlflow_command(port: int, *, with_accounts: bool) -> list[str]:
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [*command, "--app-name", "basic-auth"] if with_accounts else command


def _mlflow_environment(store: Path) -> dict[str, str]:
    artifacts = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or str(store / "artifacts")
    return {
        "MLFLOW_BACKEND_STORE_URI": mlflow_database(),
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _accounts(home: Path) -> dict[str, str]:
    """Have MLflow ask for a name and a password, where the environment names those to use."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{n}") for n in ("USERNAME", "PASSWORD"))
    if not user or not password:
        return {}
    accounts = home / "mlflow-accounts.ini"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    accounts.write_text(_ACCOUNTS.format(database=home / "mlflow-accounts.db"), encoding="utf-8")
    return {
        "MLFLOW_AUTH_CONFIG_PATH": os.environ.get("MLFLOW_AUTH_CONFIG_PATH") or str(accounts),
        "MLFLOW_AUTH_ADMIN_USERNAME": user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }


@contextmanager
def worker(limit: int, beside: list[Child]) -> Iterator[Child]:
    """Run a worker that executes up to `limit` flow runs at a time, each in its own process.

    All that this process has started but `beside` ends with it: flow runs outlive a worker that is
    killed.
    """
    command = ["prefect", "worker", "start", "--pool", WORK_POOL, "--type", "process"]
    command += ["--name", f"twinloop-{os.getpid()}", "--limit", str(limit)]
    environment = {
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_LOGGING_LEVEL": "INFO",  # served runs have a page to read logs on
        "TWINLOOP_HOME": str(settings().root),
        # A server that is started again is back within this time; a run waits for it.
        "TWINLOOP_PATIENCE": "60",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    }
    log = settings().prefect_home / "worker.log"
    # Asked to end, Prefect's worker goes on for as long as it likes; it has nothing left to do.
    with child("the worker", command, environment, log, grace=1.0, outlived=True) as found:
        _adopt()
        try:
            yield found
        finally:
            found.stop()
            known = {one.process.pid for one in beside}
            end([p for p in psutil.Process().children() if p.pid not in known], STOP_SECONDS)


def _adopt() -> None:
    """Become the parent of flow runs whose worker is killed, so as to end them when we end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1)


def watch_over(children: list[Child], addresses: Addresses) -> None:
    """Start children again that end by themselves, for as long as that helps.

    Where a flow run's process is gone and records still call something running, they are mended.

    Raises
    ------
    ServiceError
        Naming a child that ends again and again, with its last error.
    """
    ends: dict[str, list[float]] = {one.name: [] for one in children}
    runs: set[int] = set()
    mend_at = math.inf
    while True:
        now = time.monotonic()
        for one in filter(lambda c: c.ended, children):
            ends[one.name] = [t for t in ends[one.name] if now - t < _ENDS_SECONDS] + [now]
            _start_again(one, len(ends[one.name]))
        before, runs = runs, _flow_runs({one.process.pid for one in children})
        if before - runs:
            mend_at = now + _MEND_SECONDS
        if now > mend_at:
            mend_at = math.inf if _mend(addresses) else now + _MEND_SECONDS
        time.sleep(0.5)


def _start_again(one: Child, times: int) -> None:
    if times > _MAX_ENDS:
        raise ServiceError(
            f"{one.last_words()}; that was time {times} in {_ENDS_SECONDS / 60:.0f} minutes.",
            f"Its log: {one.log}. Start again with `twinloop up`: what was missed is made up for.",
        )
    _LOG.warning("%s; it is started again", one.last_words())
    one.start_again()


def _flow_runs(ours: set[int]) -> set[int]:
    """Return the processes that execute flow runs; ended ones whose worker was killed are reaped.

    Those we started ourselves, `ours`, are not: how they ended is still to be asked.
    """
    found = set()
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            inherited = one.ppid() == os.getpid() and one.pid not in ours
            if inherited and one.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(one.pid, os.WNOHANG)
            elif "prefect.engine" in one.cmdline():
                found.add(one.pid)
    return found


def _mend(addresses: Addresses) -> bool:
    """Close orphaned runs where any are recorded as running; tell whether both servers answered.

    It takes a process of its own: what it imports is three times of what this one holds.
    """
    try:
        if not anything_runs(addresses.prefect_api, addresses.mlflow):
            return True
    except OSError:
        return False
    command = [sys.executable, "-m", "tasks.orphans"]
    # What it fails of, like a server that is away, is tried again.
    done = subprocess.run(command, capture_output=True, check=False, timeout=_MEND_LIMIT_SECONDS)
    return done.returncode == 0


def stop_stack() -> Addresses | None:
    """Stop the stack of this home folder and wait until it is gone; None if none runs.

    Raises
    ------
    ServiceError
        If it does not end in time.
    """
    running = running_stack()
    if running is None:
        return None
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        if _has_ended(running.pid):
            return running
        time.sleep(0.1)
    raise ServiceError(f"the stack, process {running.pid}, does not end within {_STOP_SECONDS} s.")


def _has_ended(pid: int) -> bool:
    """Tell whether a process is no more, be it that its parent has not looked yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
