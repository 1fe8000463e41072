"""Columns of any Arrow type: what can be of a kind is, row by row, and all of it has a digest."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from twinloop.digest import content_digest, row_hashes
from twinloop.tables import ARROW_TYPES, convert

FARTHEST_DAY = 106_751_991
NESTED: list[tuple[pa.DataType, list[Any]]] = [
    (pa.list_(pa.int64()), [[1], None, [], [1, None], [None, 1], [None], [1, 1]]),
    (pa.large_list(pa.string()), [["a"], None, [], ["a", "b"], ["b", "a"], ["ab"]]),
    (pa.list_(pa.int64(), 2), [[1, 2], [2, 1], None, [1, None]]),
    (pa.list_(pa.list_(pa.int64())), [[[1], [2]], [[1, 2]], [[1, 2], []], None, [None]]),
    (
        pa.struct({"a": pa.int64(), "b": pa.string()}),
        [{"a": 1, "b": None}, None, {"a": 1, "b": "x"}, {"a": None, "b": "x"}],
    ),
    (pa.map_(pa.string(), pa.int64()), [[("a", 1)], None, [], [("a", 2)], [("a", 1), ("b", 2)]]),
    (pa.binary(), [b"a", b"\xff", None, b"", b"\x00"]),
    (pa.binary(2), [b"ab", None, b"\x00\x01"]),
    (pa.date32(), [0, None, 2**31 - 1, -(2**31)]),
    (pa.timestamp("ns"), [1000, 1001, -1, None, 2**63 - 1]),
    (pa.timestamp("s"), [1, 2**62, -(2**63), None]),
    (pa.decimal128(38, 2), [1, None, 2]),
    (pa.duration("us"), [2**62, None, 0]),
]


def hashes(array: pa.Array) -> list[int]:
    """Return the hash of each row."""
    return row_hashes(pa.table({"x": array}), ["x"]).tolist()


@pytest.mark.parametrize(("kind", "values"), NESTED, ids=lambda v: str(v)[:20])
def test_rows_of_any_type_have_hashes_of_their_own(kind: pa.DataType, values: list[Any]) -> None:
    """Another value is another hash, and the same one wherever the row stands."""
    array = pa.array(values, kind)
    found = hashes(array)
    assert len(set(found)) == len(values)
    for i in range(len(values)):
        assert hashes(array.slice(i)) == found[i:]
        assert hashes(array.slice(i, 1)) == [found[i]]
    back = array.take(pa.array(np.arange(len(values))[::-1]))
    assert hashes(back) == found[::-1]
    assert content_digest(pa.table({"x": back})) == content_digest(pa.table({"x": array}))
    assert hashes(array.slice(0, 0)) == []


def test_times_are_hashed_alike_in_any_unit() -> None:
    """What a table holds does not hang on how finely it counts."""
    seconds = [0, 1, -1, 86_400, None]
    found = []
    for unit, per in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        ticks = [None if s is None else s * per for s in seconds]
        found.append(hashes(pa.array(ticks, pa.timestamp(unit))))
        found.append(hashes(pa.array(ticks, pa.timestamp(unit, "UTC"))))
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("kind", ARROW_TYPES)
@pytest.mark.parametrize(("type_", "values"), NESTED, ids=lambda v: str(v)[:20])
def test_values_of_another_kind_are_wrong_one_by_one(
    kind: Any, type_: pa.DataType, values: list[Any]
) -> None:
    """A null is missing and not wrong; a row is typed alike, whatever stands beside it."""
    array = pa.array(values, type_)
    found = convert(array, kind)
    assert found.values.type == ARROW_TYPES[kind]
    known = found.values.is_valid().to_numpy(zero_copy_only=False)
    assert (known | found.wrong).tolist() == array.is_valid().to_pylist()
    assert not (known & found.wrong).any()
    for i in range(len(values)):
        alone = convert(array.slice(i, 1), kind)
        assert alone.values[0] == found.values[i]
        assert alone.wrong[0] == found.wrong[i]


@pytest.mark.parametrize(
    ("type_", "last"),
    [
        (pa.date32(), FARTHEST_DAY),
        (pa.timestamp("s"), 9_223_372_036_854),
        (pa.timestamp("ms", "Europe/Berlin"), 9_223_372_036_854_775),
    ],
)
def test_times_beyond_all_counting_are_wrong(type_: pa.DataType, last: int) -> None:
    """They do not come round to another year, and take no other row with them."""
    near = [0, None, last, -last]
    ends = 2**31 if pa.types.is_date32(type_) else 2**63
    far = [ends - 1, -ends, last + 1, -last - 1]
    found = convert(pa.array([*near, *far], type_), "timestamp")
    assert found.wrong.tolist() == [False] * 4 + [True] * 4
    assert found.values.is_valid().to_pylist() == [True, False, True, True, *[False] * 4]
    ticks = found.values.cast(pa.int64()).to_pylist()
    assert ticks[2] == -ticks[3] > 2**62


def test_bytes_that_are_no_text_take_no_other_row_with_them() -> None:
    """Text among them is a level like any other."""
    found = convert(pa.array([b"parcel", b"\xff", None], pa.binary()), "category")
    assert found.values.to_pylist() == ["parcel", None, None]
    assert found.wrong.tolist() == [False, True, False]
