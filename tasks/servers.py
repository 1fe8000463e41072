"""Servers: one real local Prefect server for the length of a command."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.settings import settings
from twinloop.errors import ServiceError

_START_SECONDS = 120.0
_RECORDS_SECONDS = 15.0
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, linux/prctl.h

# What a single command needs no server services for; task runs are recorded all the same.
_QUIET_SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


def set_environment(home: Path) -> None:
    """Keep Prefect in our folder, offline and quiet; before it is imported."""
    quiet = {
        "DO_NOT_TRACK": "true",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        # Read when Prefect is imported: what a command prints is its own.
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # Waiting OpenMP threads spin by default: on a busy machine training takes 15 times as long.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


@contextmanager
def prefect_server() -> Iterator[None]:
    """Have a Prefect server for the length of a block: the one configured, or a child of our own.

    The child starts while this process goes on importing. It ends only once it has all records.

    Raises
    ------
    ServiceError
        If a configured server does not answer, or a child does not come up.
    """
    home = settings().prefect_home
    set_environment(home)
    if os.environ.get("PREFECT_API_URL"):
        url = os.environ["PREFECT_API_URL"]
        _wait_for(url, None, 5.0)
        with _in_process(url):
            yield
        return
    with _child(home) as (process, url, log):
        _import_prefect()
        _wait_for(url, (process, log), _START_SECONDS)
        with _in_process(url):
            from tasks.metering import exclude

            exclude(process.pid)
            try:
                yield
            finally:
                _wait_for_records(url)


@contextmanager
def _child(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = _free_port()
    log = home / "server.log"
    environment = (
        os.environ
        | _QUIET_SERVER
        | {
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(port),
        }
    )
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; we stop the server in order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - only one thread runs yet
        )
    try:
        yield process, f"http://127.0.0.1:{port}/api", log
    finally:
        _stop(process)


def _die_with_parent() -> None:
    """Ask Linux to end the server when this process is killed."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _wait_for(url: str, child: tuple[subprocess.Popen[bytes], Path] | None, seconds: float) -> None:
    import urllib.request

    deadline = time.monotonic() + seconds
    reason = ""
    while time.monotonic() < deadline:
        if child is not None and child[0].poll() is not None:
            tail = child[1].read_text(errors="replace")[-2000:].strip()
            raise ServiceError(
                f"the local Prefect server ended with status {child[0].returncode} while starting; "
                f"the end of {str(child[1])!r}:\n{tail}"
            )
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):  # noqa: S310 - our own address
                return
        except OSError as err:
            reason = str(err)
        time.sleep(0.1)
    hint = "Start it, or unset PREFECT_API_URL to use a local one." if child is None else ""
    raise ServiceError(f"the Prefect server at {url} does not answer: {reason}.", hint)


def _import_prefect() -> None:
    """Import what takes seconds while the child takes its own to start."""
    import prefect  # noqa: F401


@contextmanager
def _in_process(url: str) -> Iterator[None]:
    """Point this process at a server."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    # The heartbeat costs every flow a second at its end, and this process outlives all of its runs.
    changes = {
        PREFECT_API_URL: url,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(changes):
        yield


def _wait_for_records(url: str) -> None:
    """Wait until the server has all logs and all records of task runs: they travel behind us."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=_RECORDS_SECONDS)
    EventsWorker.drain_all(timeout=_RECORDS_SECONDS)
    deadline = time.monotonic() + _RECORDS_SECONDS
    before = (-1, -1)
    while time.monotonic() < deadline:
        now = (_count(url, {}), _count(url, {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}))
        if now == before and now[1] == 0:
            return
        before = now
        time.sleep(0.3)


def _count(url: str, task_runs: dict[str, Any]) -> int:
    import json
    import urllib.request

    body = json.dumps({"task_runs": task_runs}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/task_runs/count", body, headers)  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own address
        return int(json.load(answer))
