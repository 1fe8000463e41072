"""Keys that come twice are found in any number of goes, and one row of each is scored."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import repeats
from tasks.repeats import Repeats, find_repeated
from twinloop.contract import SCORED_ROLES, Contract, check_rows
from twinloop.digest import row_hashes
from twinloop.errors import StorageError

KEY = ("a", "b")
CONTRACT = Contract.model_validate(
    {
        "columns": [
            {"name": "a", "role": "key", "kind": "number", "exact": True, "required": True},
            {"name": "b", "role": "key", "kind": "category", "required": True},
            {"name": "n", "role": "feature", "kind": "number", "minimum": 0, "maximum": 9},
        ]
    }
)
Row = tuple[int | None, str | None, float | None]
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(0, 3),
        st.sampled_from(["x", "y", None]),
        st.sampled_from([1.0, 2.0, -5.0, None]),
    ),
    max_size=40,
)
ENDS = [0, 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]


def table_of(rows: list[Row]) -> pa.Table:
    """Return rows as they came."""
    kinds = {"a": pa.int64(), "b": pa.string(), "n": pa.float64()}
    cells = [dict(zip(kinds, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(cells, pa.schema(kinds))


def batches(rows: list[Row], size: int) -> list[pa.Table]:
    """Cut rows into batches."""
    return [table_of(rows[i : i + size]) for i in range(0, len(rows), size)]


@pytest.fixture
def in_small_goes() -> Iterator[None]:
    """Sort three hashes at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_AT_A_TIME", 3)
        yield


@given(rows=ROWS, size=st.integers(1, 7), at_a_time=st.sampled_from([4, 7, 10**6]))
def test_keys_that_come_twice_are_found(rows: list[Row], size: int, at_a_time: int) -> None:
    """Those that a plain count finds, whole keys only, in whatever goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_AT_A_TIME", at_a_time)
        found = find_repeated(batches(rows, size), CONTRACT, KEY)
    whole = [(a, b) for a, b, _ in rows if a is not None and b is not None]
    twice = sorted({key for key in whole if whole.count(key) > 1})
    hashed = row_hashes(table_of([(a, b, None) for a, b in twice]), list(KEY))
    assert found.tolist() == sorted(hashed.tolist())
    assert found.dtype == np.uint64


@pytest.mark.parametrize("at_a_time", [4, 5, 8, 16, 1000])
@given(drawn=st.lists(st.sampled_from(ENDS) | st.integers(0, 2**64 - 1), max_size=40))
def test_hashes_at_the_ends_of_a_range_are_found(at_a_time: int, drawn: list[int]) -> None:
    """The first and the last there can be, and those where one go ends and the next begins."""
    edges = [i * 2**64 // goes for goes in (2, 3, 5, 10) for i in range(1, goes)]
    hashes = [*drawn, *drawn[::2], *edges, *[e - 1 for e in edges[::2]], *edges[::3], *ENDS[:2]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_AT_A_TIME", at_a_time)
        patch.setattr(repeats, "key_rows", lambda table, *_: check_rows(table, CONTRACT))
        patch.setattr(repeats, "row_hashes", lambda *_: np.array(hashes, np.uint64))
        found = find_repeated([table_of([(1, "x", 1.0)])], CONTRACT, KEY)
    values, counts = np.unique(np.array(hashes, np.uint64), return_counts=True)
    assert found.tolist() == values[counts > 1].tolist()


def naive(rows: list[Row]) -> list[bool]:
    """Tell which rows come after another one of their key that keeps the contract."""
    seen, late = set(), []
    for a, b, n in rows:
        good = a is not None and b is not None and (n is None or 0 <= n <= 9)
        late.append(good and (a, b) in seen)
        if good:
            seen.add((a, b))
    return late


@given(rows=ROWS, size=st.integers(1, 9), data=st.data())
def test_the_first_row_that_keeps_the_contract_is_scored(
    rows: list[Row], size: int, data: st.DataObject
) -> None:
    """Within batches and over them, and where a run goes on after a part of another one."""
    cut = batches(rows, size)
    hashes = find_repeated(cut, CONTRACT, KEY)
    resumed = data.draw(st.integers(0, len(cut)))
    marks, taken = list[bool](), list[int]()
    found = Repeats(CONTRACT, KEY, hashes, [])
    for i, table in enumerate(cut):
        if i == resumed:
            found = Repeats(CONTRACT, KEY, hashes, taken)
        late, took = found.mark(table)
        marks += [False] * len(table) if late is None else late.tolist()
        taken += took
    assert marks == naive(rows)
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(hashes.tolist())
    kept = (
        check_rows(table_of(rows), CONTRACT, roles=SCORED_ROLES).kept if rows else np.empty(0, bool)
    )
    keys = [row[:2] for row, keep, late in zip(rows, kept, marks, strict=True) if keep and not late]
    assert len(set(keys)) == len(keys)


def test_a_window_whose_keys_come_once_is_not_looked_at_again() -> None:
    """Nothing to mark, and nothing taken."""
    table = table_of([(1, "x", 1.0), (2, "x", 1.0), (None, "x", 1.0), (None, "x", 1.0)])
    hashes = find_repeated([table], CONTRACT, KEY)
    assert hashes.tolist() == []
    assert Repeats(CONTRACT, KEY, hashes, []).mark(table) == (None, [])
    assert find_repeated([], CONTRACT, KEY).tolist() == []


@pytest.mark.usefixtures("in_small_goes")
def test_a_disk_that_takes_no_temporary_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error of the disk that names the folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    table = table_of([(i, "x", 1.0) for i in range(20)])
    with pytest.raises(StorageError, match=r"cannot write '.*gone'"):
        find_repeated([table], CONTRACT, KEY)
