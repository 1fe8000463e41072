"""Verifying what the ledger says was scored: a window of which no file is left is found, too."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks import scoring, tracking
from tasks.published import Manifest
from tasks.settings import load_workload
from tasks.tracking import tracked_run
from tasks.verifying import verify_published
from tests.windows import loaded, make_home, orders, publish
from twinloop.errors import ServiceError
from twinloop.logplan import Metric
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
        found = publish()
        run.log([Metric("rows/scored", found.scored)])
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
