"""A jury is a sample of all rows ever accepted, and remembers what was said of them."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.evaluation import METRICS
from twinloop.jury import (
    constant,
    from_bytes,
    hear,
    jury_check,
    known_said,
    recorded_predictions,
    row_ids,
    seat,
    to_bytes,
)
from twinloop.paired import Gain
from twinloop.scorer import Predictions
from twinloop.workload import Workload

WHEN = datetime(2024, 1, 1, tzinfo=UTC)
WORKLOAD = Workload.model_validate(
    {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
        "key": ["k"],
    }
)


def rows(first: int, n: int, label: float = 0.0) -> pa.Table:
    """Return rows with keys from a number on."""
    return pa.table({"k": np.arange(first, first + n), "y": np.full(n, label)})


def seated(earlier: pa.Table | None, table: pa.Table, most: int = 50) -> pa.Table:
    """Add rows, of which their key was predicted."""
    said = Predictions(table.column("k").to_numpy().astype(float))
    return seat(earlier, table, row_ids(table, WORKLOAD), said, WHEN, most)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_it_is_the_same_however_rows_arrive(sizes: list[int]) -> None:
    """Added batch by batch or at once: no more than there is room for, and the same rows."""
    starts = np.cumsum([0, *sizes[:-1]])
    jury = None
    for start, n in zip(starts, sizes, strict=True):
        jury = seated(jury, rows(int(start), n))
    assert jury is not None
    assert jury.num_rows == min(sum(sizes), 50)
    assert jury.equals(seated(None, rows(0, sum(sizes))))


def test_every_row_is_as_likely_as_any_other() -> None:
    """Old windows keep their share of the seats as new ones come."""
    jury = None
    for i in range(10):
        jury = seated(jury, rows(i * 1000, 1000), most=2000)
    assert jury is not None
    windows = np.bincount(jury.column("k").to_numpy() // 1000, minlength=10)
    assert windows.sum() == 2000
    # Five standard deviations of a share of a tenth.
    assert np.abs(windows - 200).max() < 5 * np.sqrt(2000 * 0.1 * 0.9)


def test_the_older_record_counts() -> None:
    """A row that comes again with another label does not replace what was accepted."""
    jury = seated(seated(None, rows(0, 5, label=1.0)), rows(0, 5, label=-1.0))
    assert jury.column("y").to_pylist() == [1.0] * 5


def test_it_survives_its_file() -> None:
    """With what was predicted, numbers or classes with their probabilities."""
    table = rows(0, 4)
    shares = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    said = Predictions(np.array([1, 1, 0, 0]), shares)
    jury = from_bytes(to_bytes(seat(None, table, row_ids(table, WORKLOAD), said, WHEN)))
    again, order = recorded_predictions(jury, 2), jury.column("k").to_numpy()
    assert again.value.tolist() == said.value[order].tolist()
    assert again.probability is not None
    assert again.probability.tolist() == shares[order].tolist()
    numbers = from_bytes(to_bytes(seated(None, table)))
    assert recorded_predictions(numbers, 0).value.tolist() == numbers.column("k").to_pylist()


def test_new_columns_join_and_new_types_start_over() -> None:
    """A column that old rows lack is empty there; of another type, the old rows are given up."""
    old = seated(None, rows(0, 3))
    wide = rows(3, 2).append_column("extra", pa.array([1.0, 2.0]))
    joined = seated(old, wide)
    assert joined.num_rows == 5
    assert joined.column("extra").null_count == 3
    other = pa.table({"k": np.arange(2), "y": pa.array(["a", "b"])})
    assert seated(old, other).num_rows == 2


def test_who_answers_has_not_seen_the_rows() -> None:
    """Seen rows are left out of the fit, up to a quarter of it; further seen rows are not asked."""
    jury = seated(None, rows(0, 40))
    train = row_ids(rows(20, 40), WORKLOAD)
    asked, seen = hear(jury, train)
    assert seen.sum() == 10
    assert asked.num_rows == 20 + 10
    left = set(train[~seen].tolist())
    assert not left & set(asked.column("jury.row").to_pylist())
    everything, none = hear(jury, row_ids(rows(100, 40), WORKLOAD))
    assert everything.num_rows == 40
    assert not none.any()


@pytest.mark.parametrize("name", ["rmse", "mae", "rmsle", "r2"])
def test_no_constant_number_is_better(name: str) -> None:
    """It is the best one there is for its metric."""
    y, metric = np.random.default_rng(0).gamma(1.0, 5.0, 300), METRICS[name]
    best = metric.score(y, constant(y, metric, 0))
    for other in np.linspace(0, 20, 200):
        assert metric.gain(metric.score(y, Predictions(np.full(300, other))), best) <= 1e-12


@pytest.mark.parametrize("name", ["log_loss", "accuracy", "roc_auc", "macro_f1"])
def test_a_constant_class_is_what_guessing_gives(name: str) -> None:
    """The most frequent class with the shares of all; a ranking of one half."""
    y, metric = np.array([0] * 30 + [1] * 10), METRICS[name]
    wanted = {"accuracy": 0.75, "roc_auc": 0.5, "macro_f1": 0.75 / 1.75}
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert metric.score(y, constant(y, metric, 2)) == pytest.approx(wanted.get(name, entropy))


def gain(value: float, high: float) -> Gain:
    """Return a gain with its upper end."""
    return Gain(1.0, 1.0 - value, value, 100, 10, value - 0.1, high, 0.01)


def test_it_vetoes_what_lost_more_than_allowed() -> None:
    """Only where even the upper end is below the limit; what cannot be told is open."""
    fails = jury_check(gain(-0.8, -0.6), 1.0, 0.5, "rmse", 0)
    assert (fails.outcome, fails.limit) == ("fail", -0.5)
    assert jury_check(gain(-0.6, -0.4), 1.0, 0.5, "rmse", 0).outcome == "pass"
    assert jury_check(gain(-0.8, -0.6), 0.0, 0.5, "rmse", 0).outcome == "open"
    few = Gain(1.0, 1.0, 0.0, 3, 2)
    assert jury_check(few, 1.0, 0.5, "rmse", 0).outcome == "open"


def test_what_an_ancestor_knows_is_no_head_start() -> None:
    """Of rows it may have been fitted on its own answers stand, numbers and shares alike."""
    known = np.array([True, False, True])
    old, said = np.array([1.0, 2.0, 3.0]), np.array([7.0, 8.0, 9.0])
    assert known_said(Predictions(old), known, Predictions(said)).value.tolist() == [7, 2, 9]
    shares = [np.column_stack([v / 10, 1 - v / 10]) for v in (old, said)]
    codes = [np.array([1, 1, 1]), np.array([0, 0, 0])]
    found = known_said(Predictions(codes[0], shares[0]), known, Predictions(codes[1], shares[1]))
    assert found.value.tolist() == [0, 1, 0]
    assert found.probability is not None
    assert found.probability[:, 0].tolist() == [0.7, 0.2, 0.9]
