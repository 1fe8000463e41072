"""Servers: one real local Prefect server for the length of a command."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tasks.databases import PREFECT_DATABASE_VARIABLES, check_databases
from tasks.settings import settings
from twinloop.errors import ServiceError

START_SECONDS = 120.0
_ANSWER_SECONDS = 5.0
STOP_SECONDS = 10.0
_RECORDS_SECONDS = 15.0
_AN_ERROR = re.compile(r"[\w.]*(Error|Exception|Exit)\b.*: ")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def set_environment(home: Path) -> None:
    """Keep Prefect in our folder, offline and quiet; before it is imported."""
    quiet = {
        "DO_NOT_TRACK": "true",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        # Read when Prefect is imported: what a command prints is its own.
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # Waiting OpenMP threads spin for long: on a busy machine training took 15 times as long.
        # Not spinning at all takes twice as long on an idle one; this many turns do well on both.
        "GOMP_SPINCOUNT": "10000",
        # By default Matplotlib keeps its list of fonts under the user's home.
        "MPLCONFIGDIR": str(home / "matplotlib"),
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


class Child:
    """A server this process starts, stops and starts again; its log says what it has to say.

    Parameters
    ----------
    name
        For messages.
    command
        Module and arguments.
    environment
        Variables beside our own. Secrets go here: a command line can be read by anybody.
    log
        The file it writes to; what was there is kept.
    grace
        Seconds it has to end once what it started has ended.
    outlived
        Whether what it started goes on without it, should it be killed.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        log: Path,
        grace: float = STOP_SECONDS,
        *,
        outlived: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self._grace = grace
        self._outlived = outlived
        self._command = command
        self._environment = environment
        self.start()

    def start(self) -> None:
        """Start it."""
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("ab") as out:
            self._said_before = out.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | self._environment,
                start_new_session=True,  # Ctrl-C is for us; we stop the server in order
                preexec_fn=_dying_with_parent(),  # noqa: PLW1509 - one call of the kernel
            )

    def start_again(self) -> None:
        """Start it anew after it has ended."""
        if not self._outlived:
            end(_session(self.process.pid), STOP_SECONDS)
        self.start()

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.process.poll() is not None

    def last_words(self) -> str:
        """Say how it ended and why: the last error in its log, or the end of it."""
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            said = log.read().decode(errors="replace")
        errors = [line.strip() for line in said.splitlines() if _AN_ERROR.match(line)]
        reason = errors[-1] if errors else said[-2000:].strip() or "it said nothing"
        return f"{self.name} ended with status {self.process.returncode}: {reason}"

    def stop(self) -> None:
        """End all it started, and then itself."""
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            end(first.children(recursive=True), STOP_SECONDS)
            end([first], self._grace)
        self.process.wait()


@contextmanager
def child(
    name: str,
    command: list[str],
    environment: dict[str, str],
    log: Path,
    **manners: Any,
) -> Iterator[Child]:
    """Run a `Child` for the length of a block; it ends with this process, however that ends."""
    found = Child(name, command, environment, log, **manners)
    try:
        yield found
    finally:
        found.stop()


def _session(leader: int) -> list[psutil.Process]:
    """Return what is left of a session whose leader was killed: it may still hold a port."""
    found = []
    for one in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(one.pid) == leader:
                found.append(one)
    return found


def end(processes: list[psutil.Process], seconds: float) -> None:
    """Ask processes to end, and make those end that have not within some seconds."""
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    _, left = psutil.wait_procs(processes, timeout=seconds)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def _dying_with_parent() -> Callable[[], object] | None:
    """Return what asks Linux to end a child when this process is killed."""
    if sys.platform != "linux":
        return None
    return partial(ctypes.CDLL(None).prctl, _DIE_WITH_PARENT, signal.SIGTERM)


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
        with _in_process(configured_server()):
            yield
        return
    check_databases()
    port = free_port()
    command = ["prefect", "server", "start"]
    environment = _embedded_server(home, port)
    url = f"http://127.0.0.1:{port}/api"
    with child("the local Prefect server", command, environment, home / "server.log") as server:
        _import_prefect()
        wait_until_healthy(f"{url}/health", server, START_SECONDS)
        with _in_process(url):
            from tasks.metering import exclude

            exclude(server.process.pid)
            try:
                yield
            finally:
                _wait_for_records(url)


def configured_server() -> str:
    """Return the address of the Prefect server that others started, once it lets us in.

    Raises
    ------
    ServiceError
        If none is configured, it does not answer, or it does not know us.
    """
    import httpx

    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise ServiceError(
            "no Prefect server is named.", "Set PREFECT_API_URL, or start one with `twinloop up`."
        )
    wait_until_healthy(f"{url}/health", None, _ANSWER_SECONDS)
    password = os.environ.get("PREFECT_API_AUTH_STRING", "")
    user, _, secret = password.partition(":")
    answer = httpx.get(f"{url}/admin/version", auth=(user, secret) if password else None)
    if answer.status_code in (401, 403):
        raise ServiceError(
            f"Prefect at {url} does not let us in ({answer.status_code}).",
            "Set PREFECT_API_AUTH_STRING to user:password as the server has it.",
        )
    return url


def _embedded_server(home: Path, port: int) -> dict[str, str]:
    """Return the environment of a server for one command, which needs few of its services."""
    environment = {
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # By default a connection idle for 5 s is closed, and the next request retried after 2 s:
        # every training would pay that.
        "PREFECT_SERVER_API_KEEPALIVE_TIMEOUT": "3600",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    }
    if not any(os.environ.get(name) for name in PREFECT_DATABASE_VARIABLES):
        # With several connections to SQLite a flow that starts while records of the last one are
        # written is refused, and asks again 2 s later. Prefect takes one connection where it reads
        # ":memory:" in an address; the file is prefect.db all the same.
        environment[PREFECT_DATABASE_VARIABLES[0]] = (
            f"sqlite+aiosqlite:///{home / 'prefect.db'}?one_connection=:memory:"
        )
    return environment


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def wait_until_healthy(address: str, server: Child | None, seconds: float) -> None:
    """Wait until an address answers.

    Parameters
    ----------
    address
        Where a server says that it is well.
    server
        The child behind it, whose end is the end of waiting; None for one that others started.
    seconds
        How long at most.

    Raises
    ------
    ServiceError
        With the end of the child's log, if it has ended; or if there is no answer in time.
    """
    import urllib.request

    deadline = time.monotonic() + seconds
    reason = ""
    while time.monotonic() < deadline:
        if server is not None and server.ended:
            raise ServiceError(server.last_words(), f"It did not come up; its log: {server.log}")
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310 - a configured address
                return
        except OSError as err:
            reason = str(err)
        time.sleep(0.1)
    hint = "" if server else "Start it, or unset PREFECT_API_URL to use a local one."
    raise ServiceError(f"no answer from {address}: {reason}.", hint)


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
