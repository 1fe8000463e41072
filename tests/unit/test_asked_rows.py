"""Rows that histories are asked about are of groups that nobody was fitted on."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from tasks.choosing import asked_rows, compare_histories, group_codes
from twinloop.contract import infer_contract
from twinloop.recipe import Recipe
from twinloop.refresh import History
from twinloop.scorer import learn_target
from twinloop.validation import LabelledRows, label_rows, times_of
from twinloop.workload import Workload

HOUR = 3_600_000_000
WORKLOAD = Workload.model_validate(
    {
        "name": "small",
        "task": "regression",
        "source": {"kind": "bundled", "dataset": "diabetes"},
        "time": "at",
        "group": "who",
        "calendar": [],
        "target": "y",
    }
)


def test_rows_of_known_groups_are_not_asked() -> None:
    """Known is who has a row before the gap; what lies in the gap is fitted by nobody."""
    times, groups = np.arange(8), np.array([0, 1, 2, 3, 0, 2, 3, 4])
    assert asked_rows(times, 4, 8, 0, None).tolist() == [4, 5, 6, 7]
    assert asked_rows(times, 4, 8, 0, groups).tolist() == [7]
    assert asked_rows(times, 4, 8, 2, groups).tolist() == [5, 6, 7]
    assert asked_rows(times, 4, 7, 2, groups).tolist() == [5, 6]


def test_groups_of_any_kind_are_numbered() -> None:
    """Texts and gaps, too; rows without a group are one group."""
    table = pa.table({"who": ["b", "a", None, "b", None]})
    codes = group_codes(table, WORKLOAD)
    assert codes is not None
    assert codes.tolist() == [0, 1, -1, 0, -1]
    assert group_codes(table, WORKLOAD.model_copy(update={"group": None})) is None


def test_histories_are_asked_about_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second row is of someone who was there from the start."""
    n = 24 * 30
    who = np.where(np.arange(n) % 2, -1, np.arange(n))
    at = np.datetime64("2024-01-01", "us") + np.arange(n).astype("timedelta64[h]")
    x = np.random.default_rng(1).normal(size=n)
    columns = {"at": pa.array(at, pa.timestamp("us", "UTC")), "who": who, "x": x, "y": x + 1}
    table = pa.table(columns)
    contract = infer_contract(table, WORKLOAD, "test")
    rows = label_rows(table, contract, learn_target(table, WORKLOAD), WORKLOAD)
    asked: list[np.ndarray] = []

    def ask(
        rows: LabelledRows, recipe: Recipe, threads: int, train: np.ndarray, valid: np.ndarray
    ) -> tuple[np.ndarray, float]:
        asked.append(valid)
        return np.ones(len(valid)), 0.0

    monkeypatch.setattr("tasks.choosing.row_losses", ask)
    times = times_of(table, WORKLOAD)
    assert times is not None
    bounds = [int(times[0]) + i * 24 * HOUR for i in (20, 25, 30)]
    options, recipe = (History(span=timedelta(days=15)),), Recipe(candidate="linear")
    compare_histories(rows, recipe, options, bounds, group_codes(table, WORKLOAD))
    assert all((who[valid] >= 0).all() for valid in asked)
    assert sum(map(len, asked)) == 24 * 10 // 2
