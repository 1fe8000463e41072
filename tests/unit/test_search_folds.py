"""The folds that tuning searches by are a draw of their own, and never the holdout's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.preparing import Snapshot, prepare_snapshot
from tasks.validating import open_study, search_folds
from twinloop.workload import Workload

TABLES: dict[str, dict[str, Any]] = {
    "kfold": {"source": {"kind": "bundled", "dataset": "diabetes"}},
    "stratified": {
        "source": {"kind": "bundled", "dataset": "breast_cancer"},
        "task": "binary",
    },
    "time": {
        "source": {"kind": "simulated", "hours": 400},
        "time": "timestamp",
        "target": "rentals",
        "key": ["timestamp"],
    },
}


def prepared(split: str) -> tuple[Workload, Snapshot]:
    """Return a workload that is split so, and its rows."""
    base = {"name": "w", "task": "regression", "target": "target", "key": ["row"]}
    keys = base | TABLES[split] | {"training": {"repeats": 1 if split == "time" else 2, "folds": 3}}
    workload = Workload.model_validate(keys)
    assert workload.split == split
    return workload, prepare_snapshot.fn(workload, None)


@pytest.mark.parametrize("split", ["kfold", "stratified"])
def test_by_chance_the_search_has_a_draw_of_its_own(split: str, home: Path) -> None:
    """Its folds are of the training rows, each validated once, and none is one of the board's."""
    workload, snapshot = prepared(split)
    board, folds = open_study(workload, snapshot).split, search_folds(workload, snapshot)
    assert len(folds) == 3
    assert len(board.folds) == 6
    validated = np.concatenate([valid for _, valid in folds])
    np.testing.assert_array_equal(np.sort(validated), np.sort(board.train))
    assert not np.isin(board.holdout, np.concatenate([train for train, _ in folds])).any()
    drawn = {tuple(valid) for _, valid in board.folds}
    assert all(tuple(valid) not in drawn for _, valid in folds)


def test_by_time_there_is_one_way_to_draw(home: Path) -> None:
    """The folds are those of the board: each validates on rows later than it fits."""
    workload, snapshot = prepared("time")
    board, folds = open_study(workload, snapshot).split, search_folds(workload, snapshot)
    for one, two in zip(board.folds, folds, strict=True):
        np.testing.assert_array_equal(one[1], two[1])
