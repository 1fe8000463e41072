"""Cleaning leaves rows to learn from, and counts what it left out."""

from typing import Any

import pyarrow as pa
import pytest

from twinloop.cleaning import Cleaned, clean
from twinloop.contract import check_rows, infer_contract
from twinloop.errors import DuplicateKeyError, TargetError
from twinloop.workload import Workload


def cleaned(table: pa.Table, rules: dict[str, Any] | None = None, **more: Any) -> Cleaned:
    """Clean a table that keeps its own contract."""
    workload = Workload.model_validate(
        {
            "name": "w",
            "task": "regression",
            "source": {"kind": "files", "path": "x"},
            "target": "y",
            "cleaning": rules or {},
        }
        | more
    )
    contract = infer_contract(table, workload, "f.csv")
    return clean(check_rows(table, contract).good, contract, workload, "f.csv")


TWICE = pa.table({"k": [2, 1, 2, 2], "n": [1.0, 2.0, 1.0, 9.0], "y": [1.0, 2.0, 1.0, 9.0]})


def test_rows_without_a_label_are_dropped() -> None:
    """Nothing can be learned of them; how many there were is told."""
    found = cleaned(pa.table({"n": [1.0, 2.0], "y": [None, 3.0]}))
    assert found.table.column("y").to_pylist() == [3.0]
    assert found.dropped == {"no_label": 1}


def test_no_label_at_all_is_an_error() -> None:
    """The error names the file and the target."""
    table = pa.table({"n": [1.0, 2.0], "y": [1.0, 2.0]})
    workload = Workload.model_validate(
        {
            "name": "w",
            "task": "regression",
            "source": {"kind": "files", "path": "x"},
            "target": "y",
        }
    )
    contract = infer_contract(table, workload, "f.csv")
    empty = table.set_column(1, "y", pa.nulls(2, pa.float64()))
    with pytest.raises(TargetError, match=r"f\.csv: no row has a value in the target 'y'"):
        clean(empty, contract, workload, "f.csv")


def test_two_rows_of_one_key_are_an_error() -> None:
    """By default a key identifies a row; the error counts, shows the first and the way out."""
    with pytest.raises(DuplicateKeyError, match=r"1 rows repeat .* first {'k': '2'}") as caught:
        cleaned(TWICE, key=("k",))
    assert "cleaning.duplicates" in caught.value.hint


@pytest.mark.parametrize(("rule", "kept"), [("first", [2.0, 1.0]), ("last", [2.0, 9.0])])
def test_one_row_of_a_key_can_be_kept(rule: str, kept: list[float]) -> None:
    """Equal rows are dropped silently, others by the rule; what remains is sorted by key."""
    found = cleaned(TWICE, {"duplicates": rule}, key=("k",))
    assert found.table.column("k").to_pylist() == [1, 2]
    assert found.table.column("y").to_pylist() == kept
    assert found.dropped == {"repeated_row": 1, "duplicate_key": 1}


def test_equal_rows_are_content_where_there_is_no_key() -> None:
    """Without a key two equal rows are two observations."""
    found = cleaned(pa.table({"n": [1.0, 1.0, 2.0], "y": [1.0, 1.0, 2.0]}))
    assert found.table.num_rows == 3
    assert found.dropped == {}


def test_rows_come_out_in_time_order() -> None:
    """Time first, then the key."""
    table = pa.table(
        {
            "t": ["2020-01-03", "2020-01-01", "2020-01-01"],
            "k": [1, 3, 2],
            "n": [1.0, 2.0, 3.0],
            "y": [1.0, 2.0, 3.0],
        }
    )
    assert cleaned(table, time="t", key=("k",)).table.column("y").to_pylist() == [3.0, 2.0, 1.0]


def test_outliers_are_dropped_only_where_asked_for() -> None:
    """Rows beyond the fences go, rows with a missing value stay, and so does the target's tail."""
    n = [*map(float, range(20)), 500.0, None]
    table = pa.table({"n": n, "y": [*([1.0] * 19), 900.0, 3.0, 4.0]})
    found = cleaned(table, {"outliers": 3.0})
    assert found.dropped == {"outlier": 1}
    assert 500.0 not in found.table.column("n").to_pylist()
    assert found.table.column("n").null_count == 1
    assert cleaned(table).table.num_rows == 22
