"""Verifying what the ledger says was scored: a window of which no file is left is found, too."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from tasks import scoring, tracking
from tasks.published import Manifest
from tasks.scoring import score_rows
from tasks.settings import load_workload
from tasks.tracking import tracked_run
from tasks.verifying import verify_published
from tests.windows import WORKLOAD, fit, loaded, make_home, orders, publish, version
from twinloop.errors import ServiceError
from twinloop.window import Window

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def scored(tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Score all rows in a run of the ledger; one that failed has published nothing."""
    home = make_home(tmp_path / "home", orders(200))
    store = home / "mlflow" / "store"
    store.mkdir(parents=True)
    shutil.copy(migrated_store, store / "mlflow.db")
    monkeypatch.setenv("TWINLOOP_HOME", str(home))
    model = loaded()
    monkeypatch.setattr(scoring, "load_version", lambda *_: model)
    spec = load_workload("shop")
    with tracked_run(spec, "inference", window=None, as_of=NOW) as run:
        found = score_rows.fn(spec, version(), None, run)
    day = Window(start=NOW, end=NOW + timedelta(days=1))
    failing = tracked_run(spec, "inference", window=day, as_of=NOW)
    with pytest.raises(ConnectionError), failing:
        raise ConnectionError
    return found


def test_what_is_there_is_whole(scored: Manifest) -> None:
    """Neither the window that is published nor the one that never was is a fault."""
    found = verify_published(load_workload("shop"))
    assert (found.faults, found.unasked, found.rows) == ((), "", 200)


def test_a_window_that_is_wholly_gone_is_a_fault(scored: Manifest) -> None:
    """No file is left to tell of it; the ledger does, and scoring again mends it."""
    shutil.rmtree(scored.place.parent)
    (fault,) = verify_published(load_workload("shop")).faults
    assert fault.path.parent == scored.place.parent
    assert fault.fault.endswith("scored 200 rows of it")
    assert publish().scored == 200
    assert verify_published(load_workload("shop")).faults == ()


def test_a_window_is_a_fault_once(scored: Manifest) -> None:
    """One of which something is left is told by that."""
    (scored.place.parent / "manifest.json").unlink()
    assert len(verify_published(load_workload("shop")).faults) == 1


def test_files_are_verified_where_the_ledger_does_not_answer(
    scored: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is said that windows which are gone could not be told."""
    away = ServiceError("MLflow at http://away does not answer.")

    def refuse() -> None:
        raise away

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://away")
    monkeypatch.setattr(tracking, "client", refuse)
    shutil.rmtree(scored.place.parent)
    found = verify_published(load_workload("shop"))
    assert (found.faults, found.unasked) == ((), away.message)


DAYS = [
    Window(start=NOW + i * timedelta(days=1), end=NOW + (i + 1) * timedelta(days=1))
    for i in range(5)
]


@pytest.fixture
def days(tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Score five days, each in a run of the ledger; return what lies of each."""
    rows = orders(200)
    times = [NOW + timedelta(hours=i % 120) for i in range(200)]
    rows = rows.append_column("at", pa.array(times, pa.timestamp("us", "UTC")))
    home = make_home(tmp_path / "home", rows, f"{WORKLOAD}time: at\n")
    store = home / "mlflow" / "store"
    store.mkdir(parents=True)
    shutil.copy(migrated_store, store / "mlflow.db")
    monkeypatch.setenv("TWINLOOP_HOME", str(home))
    model = fit(rows)
    monkeypatch.setattr(scoring, "load_version", lambda *_: model)
    spec = load_workload("shop")
    found = []
    for day in DAYS:
        with tracked_run(spec, "inference", window=day, as_of=NOW) as run:
            found.append(score_rows.fn(spec, version(), day, run).place.parent)
    return found


def gone() -> list[str]:
    """Verify; return the names of the windows that are gone."""
    return [f.path.parent.name for f in verify_published(load_workload("shop")).faults]


def forget_where() -> None:
    """Take from all runs where they published, as if an older release had made them."""
    mlflow_client = tracking.client()
    found = mlflow_client.get_experiment_by_name("shop")
    assert found is not None
    for run in mlflow_client.search_runs([found.experiment_id]):
        mlflow_client.delete_tag(run.info.run_id, "twinloop.lake")


@pytest.mark.parametrize("told", [True, False])
def test_old_windows_that_were_removed_are_no_faults(days: list[Path], told: bool) -> None:
    """Only what is newer than the oldest that lies here is missed; nothing where none does."""
    assert gone() == []
    if not told:
        forget_where()
    shutil.rmtree(days[0])
    assert gone() == []
    shutil.rmtree(days[2])
    assert gone() == [days[2].name]
    shutil.rmtree(days[4])  # the newest: runs that do not say where may be another home's
    assert gone() == [days[i].name for i in ((2, 4) if told else (2,))]
    for i in (1, 3):
        shutil.rmtree(days[i])
    assert gone() == []


def test_windows_of_another_home_are_not_missed(
    days: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines share one MLflow, each with files of its own."""
    other, home = tmp_path / "other", tmp_path / "home"
    shutil.copytree(home, other)  # the same files, of which no run there has told
    store = f"sqlite:///{home / 'mlflow' / 'store' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("TWINLOOP_HOME", str(other))
    for i in (1, 4):
        shutil.rmtree(other / days[i].relative_to(home))
    assert gone() == []
    monkeypatch.setenv("TWINLOOP_HOME", str(home))
    assert gone() == []
    shutil.rmtree(days[4])
    assert gone() == [days[4].name]


def test_all_rows_of_another_home_are_not_missed(
    scored: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that has published nothing has nothing to miss."""
    home = tmp_path / "home"
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow' / 'store' / 'mlflow.db'}"
    )
    other = make_home(tmp_path / "other", orders(200))
    (other / "data" / "lake" / "shop").mkdir(parents=True)
    monkeypatch.setenv("TWINLOOP_HOME", str(other))
    assert gone() == []
