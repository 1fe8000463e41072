"""Scratch: the folder of a simulated replay, kept so that a killed one can go on.

Each policy has a folder with a lake and an embedded MLflow store of its own. After each tick the
store is copied aside, and only then is the tick written down: what a killed process left of the
next one is newer than that, and is removed.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks import sources, storage
from tasks.provenance import software
from tasks.settings import settings
from twinloop.errors import StorageError
from twinloop.replay import Tick
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

_STORE = Path("store") / "mlflow.db"
_STATE = "state.json"
_KEPT = "kept-"
# What is named by its content and may be shared, and what is copied after each tick.
_PREPARED, _TUNING = "prepared", "tuning"


class Job(Frozen):
    """What the policies of a simulated replay have in common.

    Attributes
    ----------
    sandbox
        Name to load the workload by.
    folder
        Holds a folder for the first training, and one for each policy.
    start
        Moment of the first training, UTC.
    stops
        Where the clock stops, UTC.
    threads
        Cores of each process.
    """

    sandbox: str
    folder: Path
    start: datetime
    stops: tuple[datetime, ...]
    step: timedelta
    threads: int

    @property
    def first(self) -> Path:
        """Folder of the first training, which is the same for every policy."""
        return self.folder / "first"


class State(Frozen):
    """How far a policy has come.

    Attributes
    ----------
    last
        Moment of the newest training that the policy itself asked for, UTC.
    seconds
        Wall time of all ticks.
    """

    last: datetime
    ticks: tuple[Tick, ...] = ()
    seconds: float = 0.0


def job_folder(workload: Workload, policies: Sequence[str], about: Sequence[object]) -> Path:
    """Name the folder of a replay: the same arguments, workload, source and code find it again.

    Folders of other code, or of what the workload was, are of no use to anybody and are removed.

    Parameters
    ----------
    workload
        The sandbox's.
    policies, about
        The arguments.
    """
    home = settings().lake(workload) / "simulations"
    facts = [workload.model_dump_json(), sources.fingerprint(workload), _code(), software()]
    rules, arguments = _digest(facts), _digest([policies, about])
    for other in home.glob("*-*"):
        if other.is_dir() and not other.name.startswith(rules):
            with suppress(Timeout), FileLock(_lock(other), timeout=0):
                clear(other)
    return home / f"{rules}-{arguments}"


def _digest(facts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _code() -> str:
    digest = hashlib.sha256()
    for name in ("flows", "tasks", "twinloop"):
        spec = importlib.util.find_spec(name)
        places = [] if spec is None else spec.submodule_search_locations or []
        for path in sorted(p for place in places for p in Path(place).rglob("*.py")):
            digest.update(f"{name}/{path.name}".encode() + path.read_bytes())
    return digest.hexdigest()


def _lock(folder: Path) -> str:
    return str(folder.with_suffix(".lock"))


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Hold a replay's folder for the length of a block; what was in it is gone on with.

    Raises
    ------
    StorageError
        If another process replays the same.
    """
    with storage.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(_lock(folder), timeout=0):
            yield
    except Timeout as err:
        raise StorageError(
            f"another process replays the same just now, in {str(folder)!r}.", "Wait for it."
        ) from err


def clear(folder: Path) -> None:
    """Remove a replay's folder, once all it held is written down elsewhere."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(_lock(folder)).unlink(missing_ok=True)


@contextmanager
def scratch_home(place: Path) -> Iterator[None]:
    """Let lake and store be those of a folder for the length of a block, in this process alone.

    Another process that still works there, its parent killed, is waited for.
    """
    changed = {"TWINLOOP_SCRATCH": str(place), "MLFLOW_TRACKING_URI": None}
    before = {name: os.environ.get(name) for name in changed}
    with storage.writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock(place)):
        try:
            _set(changed)
            yield
        finally:
            _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def make_first(place: Path, sandbox: str) -> None:
    """Make the folder of the first training: an empty store, and a lake whose snapshots are shared.

    What an earlier process left half done is removed.
    """
    shutil.rmtree(place, ignore_errors=True)
    with storage.writing(place):
        (place / "lake" / sandbox).mkdir(parents=True)
        (place.parent / _PREPARED).mkdir(exist_ok=True)
        _share(place, sandbox)
    _copy_database(_empty_store(place.parent.parent), place / _STORE)


def _share(place: Path, sandbox: str) -> None:
    (place / "lake" / sandbox / _PREPARED).symlink_to(place.parent / _PREPARED)


def _empty_store(folder: Path) -> Path:
    """Return a MLflow database without runs, made once: to lay out its tables takes seconds."""
    import mlflow

    database = folder / f"empty-{mlflow.__version__}.db"
    if not database.is_file():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        aside = folder / f".{database.name}.{os.getpid()}"
        store = SqlAlchemyStore(f"sqlite:///{aside}", folder.as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        aside.replace(database)
    return database


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database as of its last transaction, whole or not at all."""
    aside = target.with_name(f".{target.name}")
    with storage.writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(aside)) as new:
            old.backup(new)
        aside.replace(target)


def is_done(place: Path) -> bool:
    """Tell whether the first training has ended."""
    return (place / _STATE).is_file()


def mark_done(place: Path, state: State) -> None:
    """Write down that the first training has ended."""
    storage.write_text(place / _STATE, state.model_dump_json())


def read_state(place: Path) -> State | None:
    """Read how far a policy has come; None where it has not begun."""
    try:
        return State.model_validate_json((place / _STATE).read_bytes())
    except FileNotFoundError:
        return None


def go_on(job: Job, place: Path) -> State:
    """Make a policy's folder ready for its next tick, and return how far it has come."""
    state = read_state(place)
    if state is None:
        return _begin(job, place)
    kept = place / f"{_KEPT}{len(state.ticks)}"
    _remove_newer(place, (place / _STATE).stat().st_mtime_ns)
    _put_back(kept, place, job.sandbox)
    return state


def _begin(job: Job, place: Path) -> State:
    shutil.rmtree(place, ignore_errors=True)
    with storage.writing(place):
        lake = place / "lake" / job.sandbox
        lake.mkdir(parents=True)
        _share(place, job.sandbox)
        _copy_tree(job.first / "lake" / job.sandbox / _TUNING, lake / _TUNING)
    _copy_database(job.first / _STORE, place / _STORE)
    # Models of the first training stay where they are; what follows lies in the policy's folder.
    with closing(sqlite3.connect(place / _STORE)) as database, database:
        ends = (job.first.as_uri(), place.as_uri())
        database.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", ends
        )
    return keep(job, place, State(last=job.start))


def keep(job: Job, place: Path, state: State) -> State:
    """Write down how far a policy has come: all of it, or the tick is done again."""
    number = len(state.ticks)
    kept = place / f"{_KEPT}{number}"
    shutil.rmtree(kept, ignore_errors=True)
    _copy_database(place / _STORE, kept / _STORE.name)
    with storage.writing(kept):
        _copy_tree(place / "lake" / job.sandbox / _TUNING, kept / _TUNING)
    storage.write_text(place / _STATE, state.model_dump_json())
    shutil.rmtree(place / f"{_KEPT}{number - 1}", ignore_errors=True)
    return state


def _put_back(kept: Path, place: Path, sandbox: str) -> None:
    _copy_database(kept / _STORE.name, place / _STORE)
    tuning = place / "lake" / sandbox / _TUNING
    shutil.rmtree(tuning, ignore_errors=True)
    with storage.writing(tuning):
        _copy_tree(kept / _TUNING, tuning)


def _copy_tree(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)


def _remove_newer(place: Path, since: int) -> None:
    """Remove files of lake and store that were written after a time, nanoseconds since 1970."""
    for top in ("lake", "store"):
        # Links are not followed: what is shared stays.
        for folder, _, names in os.walk(place / top):
            for path in (Path(folder) / name for name in names):
                if path.stat(follow_symlinks=False).st_mtime_ns > since:
                    path.unlink()


def hurry_databases() -> None:
    """Let SQLite not wait for the disk, in this process: no power failure is to be survived."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def _hurry(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")
