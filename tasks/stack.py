"""The stack: MLflow, Prefect and a worker as services of this machine."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tasks.servers import START_SECONDS, Child, child, wait_until_healthy
from tasks.settings import settings
from twinloop.errors import ServiceError
from twinloop.workload import Frozen

WORK_POOL = "twinloop"
_STOP_SECONDS = 40.0


class Addresses(Frozen):
    """Where the two pages are, and the process that keeps them there."""

    prefect: str
    mlflow: str
    pid: int
    started: float

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
        If a stack runs here already, a port is taken, or a server does not come up; nothing is
        left running then.
    """
    running = running_stack()
    if running is not None:
        raise ServiceError(
            f"this home has a stack already: Prefect {running.prefect}, MLflow {running.mlflow}.",
            "Stop it with `twinloop down`.",
        )
    for name, port in (("Prefect", prefect_port), ("MLflow", mlflow_port)):
        _refuse_taken(name, port)
    home, store = settings().prefect_home, settings().store
    store.mkdir(parents=True, exist_ok=True)
    addresses = Addresses(
        prefect=f"http://127.0.0.1:{prefect_port}",
        mlflow=f"http://127.0.0.1:{mlflow_port}",
        pid=os.getpid(),
        started=psutil.Process().create_time(),
    )
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
                _mlflow_command(store, mlflow_port),
                {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                home / "mlflow-server.log",
            )
        )
        wait_until_healthy(f"{addresses.prefect_api}/health", prefect, START_SECONDS)
        wait_until_healthy(f"{addresses.mlflow}/health", mlflow, START_SECONDS)
        _state_file().write_text(addresses.model_dump_json(), encoding="utf-8")
        stack.callback(_state_file().unlink, missing_ok=True)
        os.environ["PREFECT_API_URL"] = addresses.prefect_api
        os.environ["MLFLOW_TRACKING_URI"] = addresses.mlflow
        yield addresses, [prefect, mlflow]


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
    return {
        # The page asks the API where these say; an option on the command line would not reach it.
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }


def _mlflow_command(store: Path, port: int) -> list[str]:
    return [
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{store / 'mlflow.db'}",
        "--artifacts-destination",
        str(store / "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]


@contextmanager
def worker(limit: int) -> Iterator[Child]:
    """Run a worker that executes up to `limit` flow runs at a time, each in its own process."""
    command = ["prefect", "worker", "start", "--pool", WORK_POOL, "--type", "process"]
    command += ["--name", f"twinloop-{os.getpid()}", "--limit", str(limit)]
    environment = {
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_LOGGING_LEVEL": "INFO",  # served runs have a page to read logs on
        "TWINLOOP_HOME": str(settings().root),
    }
    with child("the worker", command, environment, settings().prefect_home / "worker.log") as found:
        yield found


def watch_over(children: list[Child]) -> None:
    """Wait until a child ends by itself.

    Raises
    ------
    ServiceError
        Naming it, with the end of its log.
    """
    while True:
        for one in children:
            if one.process.poll() is not None:
                raise ServiceError(
                    f"{one.name} ended with status {one.process.returncode}; the end of "
                    f"{str(one.log)!r}:\n{one.last_words()}",
                    "Start again with `twinloop up`: what was missed is made up for.",
                )
        time.sleep(0.5)


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
