"""Folds and trials side by side: together they use the cores there are, and are billed once."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_info

from tasks import searching, validating
from tasks.engines import engines_off
from tasks.preparing import Snapshot, prepare_snapshot, training_window
from tasks.settings import load_workload, settings
from tasks.tracking import tracked_run
from tasks.tuning import search_settings
from tasks.validating import cross_validate
from twinloop.workload import Overrides, Workload

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def rows(home: Path) -> tuple[Workload, Snapshot]:
    """Return the workload whose rows are few, and a snapshot of them."""
    workload = Overrides(trials=4).apply(load_workload("diabetes"))
    return workload, prepare_snapshot.fn(workload, training_window(workload, NOW))


def openmp_threads() -> int:
    """Return how many threads this one may have work for it."""
    return max(p["num_threads"] for p in threadpool_info() if p["user_api"] == "openmp")


def test_fits_with_several_threads_side_by_side_are_billed_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them together cost no more than the process used, and most of that."""
    monkeypatch.setenv("TWINLOOP_THREADS", "4")
    assert settings().threads == 4
    workload, snapshot = rows(home)
    with engines_off():
        busy = time.process_time()
        found = cross_validate(workload, snapshot, "boosting", home / "work", threads=2)
        busy = time.process_time() - busy
    assert found.footprint is not None
    assert busy / 3 < found.footprint.fit_cpu_seconds < busy


def test_no_fold_takes_more_cores_than_its_share(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions no more than fits: each thread that runs one has a limit of its own."""
    seen: list[int] = []

    def record(module: Any, name: str) -> None:
        inner = getattr(module, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            seen.append(openmp_threads())
            return inner(*args, **kwargs)

        monkeypatch.setattr(module, name, outer)

    record(validating, "validate")
    record(searching, "score_fold")
    monkeypatch.setenv("TWINLOOP_THREADS", "2")
    workload, snapshot = rows(home)
    with engines_off():
        cross_validate(workload, snapshot, "boosting", home / "work")
        n_folds = len(seen)
        with tracked_run(workload, "tuning", window=None, as_of=NOW) as run:
            search_settings(workload, snapshot, "xgboost", None, None, 300.0, run)
    assert n_folds == workload.training.folds
    assert len(seen) > n_folds
    assert set(seen) == {1}
