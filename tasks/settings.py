"""Settings: where this installation keeps things, read from the environment when asked for."""

import os
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from twinloop.errors import WorkloadError, nearest
from twinloop.window import as_utc
from twinloop.workload import Workload
from twinloop.workload_file import parse_prices, parse_workload

_NAMES = ("TWINLOOP_", "MLFLOW_TRACKING_URI", "HOME")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_FEW_ROWS = 20_000


class Settings(BaseSettings):
    """Where things are, from variables that start with ``TWINLOOP_``.

    Attributes
    ----------
    home
        Folder with ``data/`` and ``mlflow/``; default the current folder.
    workload_file
        One more workload file, known by the name it gives itself.
    patience
        Seconds to wait for a MLflow server that does not answer; default not to wait.
    threads
        Cores one estimator may use; default those this process may run on.
    tracking_uri
        MLflow's address, from ``MLFLOW_TRACKING_URI``; default SQLite under `home`.
    mlflow_page
        Where a browser finds MLflow, if not at its address.
    scratch
        Folder for lake and store in place of those under `home`; simulated replays set it.
    """

    model_config = SettingsConfigDict(env_prefix="TWINLOOP_", frozen=True)

    home: Path = Field(default_factory=Path.cwd)
    workload_file: Path | None = None
    threads: int = Field(default_factory=_cores, ge=1)
    patience: float = Field(0.0, ge=0)
    tracking_uri: str | None = Field(None, validation_alias="MLFLOW_TRACKING_URI")
    mlflow_page: str | None = None
    scratch: Path | None = None

    @property
    def root(self) -> Path:
        """The home folder, absolute."""
        return self.home.expanduser().resolve()

    @property
    def workloads(self) -> Path:
        """Folder of the workload files."""
        return self.root / "data" / "workloads"

    @property
    def prices(self) -> Path:
        """File of the prices that all workloads share; it need not be there."""
        return self.root / "data" / "prices.yaml"

    @property
    def store(self) -> Path:
        """Folder of the embedded MLflow store."""
        return (self.scratch or self.root / "mlflow") / "store"

    @property
    def mlflow_uri(self) -> str:
        """Address of MLflow: given, or SQLite under the home folder; always absolute."""
        return self.tracking_uri or f"sqlite:///{self.store / 'mlflow.db'}"

    @property
    def prefect_home(self) -> Path:
        """Folder of the embedded Prefect server."""
        return self.root / ".prefect"

    @property
    def lakes(self) -> Path:
        """Folder of all workloads' data."""
        return (self.scratch or self.root / "data") / "lake"

    def lake(self, workload: Workload) -> Path:
        """Return the folder of a workload's data."""
        return self.lakes / workload.id


def settings() -> Settings:
    """Read the settings from the environment as it is now."""
    named = {n: v for n, v in os.environ.items() if n.upper().startswith(_NAMES)}
    return _settings(tuple(sorted(named.items())), str(Path.cwd()))


@lru_cache(maxsize=16)
def _settings(_: tuple[tuple[str, str], ...], __: str) -> Settings:
    # Asked for many times a second; the same environment and folder give the same.
    return Settings()


def threads_for(rows: int) -> int:
    """Return how many cores the fit of so many rows is given: of few, one.

    Threads that wait for each other burn CPU time, on a busy machine ten times what the work takes;
    of few rows there is nothing to win by it.
    """
    return 1 if rows < _FEW_ROWS else settings().threads


def read_workload(path: Path) -> Workload:
    """Read a workload file; ``${NAME}`` in it is filled from the environment.

    Prices it does not give are those of ``data/prices.yaml``, where there is one.

    Raises
    ------
    WorkloadError
        If there is no such file or it does not describe a workload.
    """
    shared = settings().prices
    prices = read_prices(shared) if shared.is_file() else {}
    return parse_workload(_text_of(path, "workload"), str(path), os.environ, prices)


def read_prices(path: Path) -> dict[str, Any]:
    """Read a file of prices: those it gives, under the keys of a workload's ``prices``.

    Raises
    ------
    WorkloadError
        If there is no such file, or it holds anything but prices.
    """
    return parse_prices(_text_of(path, "prices"), str(path), os.environ)


def _text_of(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise WorkloadError(f"cannot read the {what} file {str(path)!r}: {err}.") from err


def load_workload(ref: str) -> Workload:
    """Find a workload by name.

    Parameters
    ----------
    ref
        The name, or ``<name>-<sandbox>`` for the copy a replay works in.

    Raises
    ------
    WorkloadError
        If no file of that name is known, naming the nearest.
    """
    here = settings()
    name, _, sandbox = ref.partition("-")
    if here.workload_file is not None:
        own = read_workload(here.workload_file)
        if own.name == name:
            return own.model_copy(update={"sandbox": sandbox})
    path = here.workloads / f"{name}.yaml"
    if not path.is_file():
        known = [p.stem for p in here.workloads.glob("*.yaml")]
        raise WorkloadError(
            f"no workload {name!r} in {str(here.workloads)!r}. {nearest(name, known)}",
            "Give the path of a YAML file, or set TWINLOOP_HOME to the project's folder.",
        )
    found = read_workload(path)
    if found.name != name:
        raise WorkloadError(f"{path} calls itself {found.name!r}; file and name must agree.")
    return found.model_copy(update={"sandbox": sandbox})


def all_workloads() -> tuple[list[Workload], list[str]]:
    """Read every workload file there is.

    Returns
    -------
    tuple of list of Workload and list of str
        Those that make sense, and why the others do not.
    """
    found, refused = [], []
    for path in sorted(settings().workloads.glob("*.yaml")):
        try:
            found.append(load_workload(path.stem))
        except WorkloadError as err:
            refused.append(str(err))
    return found, refused


def moment_of(as_of: datetime | None) -> datetime:
    """Return the moment a run is meant for, UTC: given, else its scheduled time, else now."""
    from prefect.runtime import flow_run

    scheduled: datetime | None = flow_run.scheduled_start_time
    if as_of is not None:
        return as_utc(as_of)
    # Whole seconds: this moment stands in the names of runs.
    return as_utc(scheduled or datetime.now(UTC)).replace(microsecond=0)
