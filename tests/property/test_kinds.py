"""A column has the kind of its content, however it came, and reading it never fails."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.errors import ColumnError
from twinloop.tables import ARROW_TYPES, convert, infer_kind, require_columns
from twinloop.vocabulary import Kind

SETTINGS = settings(max_examples=60, deadline=None)
KINDS: tuple[Kind, ...] = get_args(Kind)
NOON = datetime(2020, 1, 2, 12, 30, 15, 250, tzinfo=UTC)
ANY_ARRAY = {
    "int8": pa.array([1, None, 0], pa.int8()),
    "uint64": pa.array([2**64 - 1, None], pa.uint64()),
    "float16": pa.array([1.5, None, 2], pa.float16()),
    "float32": pa.array([1.5, float("nan"), None], pa.float32()),
    "infinite": pa.array([float("inf"), -float("inf"), 1e300]),
    "decimal128": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
    "decimal256": pa.array([Decimal("1.50"), None], pa.decimal256(60, 2)),
    "bool": pa.array([True, None]),
    "date32": pa.array([date(2020, 1, 2), None], pa.date32()),
    "date64": pa.array([date(2020, 1, 2), None], pa.date64()),
    "naive": pa.array([NOON.replace(tzinfo=None), None], pa.timestamp("ms")),
    "nanoseconds": pa.array([1_000_000_001, None], pa.timestamp("ns")),
    "zoned": pa.array([NOON, None], pa.timestamp("us", "Europe/Rome")),
    "time": pa.array([1, None], pa.time64("us")),
    "duration": pa.array([1, None], pa.duration("s")),
    "text": pa.array(["a", "", None, "1", "true", "2020-01-02", "inf", "nan", "9" * 400]),
    "large_text": pa.array(["a", None], pa.large_string()),
    "text_view": pa.array(["a", None], pa.string_view()),
    "binary": pa.array([b"\xff", None]),
    "dictionary": pa.array(["a", None, "1"]).dictionary_encode(),
    "dictionary_of_ints": pa.array([1, None]).dictionary_encode(),
    "dictionary_of_times": pa.array([NOON, None]).dictionary_encode(),
    "null": pa.nulls(2),
    "list": pa.array([[1], None]),
    "struct": pa.array([{"a": 1}, None]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(ANY_ARRAY))
def test_any_arrow_type_can_be_brought_to_any_kind(name: str, kind: Kind) -> None:
    """The result has the kind's type; a value is kept, missing, or marked as wrong."""
    array = ANY_ARRAY[name]
    for column in (array, array.slice(0, 0), pa.chunked_array([array, array])):
        typed = convert(column, kind)
        assert typed.values.type == ARROW_TYPES[kind]
        assert len(typed.values) == len(typed.wrong) == len(column)
        kept = typed.values.is_valid().to_pylist()
        missing = column.is_null().to_pylist()
        assert all(k + m + w <= 1 for k, m, w in zip(kept, missing, typed.wrong, strict=True))
    infer_kind(pa.chunked_array([], array.type))


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        ("int8", "number"),
        ("decimal128", "number"),
        ("float16", "number"),
        ("bool", "boolean"),
        ("date32", "timestamp"),
        ("nanoseconds", "timestamp"),
        ("zoned", "timestamp"),
        ("dictionary", "category"),
        ("dictionary_of_ints", "number"),
        ("dictionary_of_times", "timestamp"),
        ("null", "category"),
        ("list", "category"),
        ("binary", "category"),
    ],
)
def test_a_type_tells_its_kind(array: str, kind: Kind) -> None:
    """Numbers of any width are numbers; dictionaries are what they hold."""
    assert infer_kind(pa.chunked_array([ANY_ARRAY[array]])) == kind


def as_text(cells: list[Any]) -> pa.ChunkedArray:
    """Write cells the way a CSV file spells them."""
    texts = [
        None if v is None else v.isoformat() if isinstance(v, datetime) else str(v) for v in cells
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])


VALUES: dict[Kind, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "number": (pa.float64(), st.floats(allow_nan=False)),
    "boolean": (pa.bool_(), st.booleans()),
    "category": (pa.string(), st.sampled_from(["clear", "rain", "snow", "today", "N/A", "é"])),
    "timestamp": (
        pa.timestamp("us", "UTC"),
        st.datetimes(timezones=st.just(UTC)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(st.data())
def test_text_and_type_agree(kind: Kind, data: st.DataObject) -> None:
    """The same cells read from Parquet and from CSV have one kind and the same values."""
    arrow, values = VALUES[kind]
    cells = data.draw(st.lists(st.none() | values, min_size=1, max_size=8).filter(any_value))
    typed = pa.chunked_array([pa.array(cells, arrow)])
    text = as_text(cells)
    assert infer_kind(typed) == infer_kind(text) == kind
    assert convert(typed, kind).values.equals(convert(text, kind).values)
    assert not convert(text, kind).wrong.any()


def any_value(cells: list[Any]) -> bool:
    """Tell whether a cell is not null."""
    return any(v is not None for v in cells)


@SETTINGS
@given(st.lists(st.none() | st.integers(-(2**53) + 1, 2**53 - 1), min_size=1).filter(any_value))
def test_whole_numbers_are_the_same_levels_in_any_type(cells: list[int | None]) -> None:
    """3, 3.0 and "3" are one level: nulls turn integers to floats on the way through pandas."""
    integers = convert(pa.array(cells, pa.int64()), "category").values
    floats = convert(pa.array(cells, pa.float64()), "category").values
    texts = convert(as_text(cells), "category").values
    assert integers.equals(floats)
    assert integers.equals(texts)


@SETTINGS
@given(st.lists(st.floats(), min_size=1, max_size=4))
def test_a_level_does_not_hang_on_its_neighbours(cells: list[float]) -> None:
    """A float is spelled alike whether it comes alone or among others."""
    together = convert(pa.array(cells, pa.float64()), "category").values.to_pylist()
    alone = [convert(pa.array([v], pa.float64()), "category").values[0].as_py() for v in cells]
    assert together == alone


@SETTINGS
@given(st.lists(st.none() | st.floats(), min_size=1, max_size=8))
def test_typing_twice_is_typing_once(cells: list[float | None]) -> None:
    """A typed column stays as it is."""
    for kind in KINDS:
        once = convert(pa.array(cells, pa.float64()), kind)
        twice = convert(once.values, kind)
        assert twice.values.equals(once.values)
        assert not twice.wrong.any()


def test_faults_in_a_column_of_numbers_are_marked() -> None:
    """Some words among numbers leave it a column of numbers, with faults in it."""
    column = pa.chunked_array([["1", "2.5", "n/a", None, " 4 "]])
    assert infer_kind(column) == "number"
    typed = convert(column, "number")
    assert typed.values.to_pylist() == [1.0, 2.5, None, None, 4.0]
    assert typed.wrong.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("word", ["now", "today", "NaT", "2020-13-01", "12:30", ""])
def test_words_are_no_times(word: str) -> None:
    """What pandas would read as the moment of reading, or not at all, is wrong."""
    typed = convert(pa.array([word, "2020-01-02"]), "timestamp")
    assert typed.wrong.tolist() == [True, False]


def test_naive_times_are_utc_and_zones_are_converted() -> None:
    """One instant in three spellings is one value."""
    texts = ["2020-01-02T12:00:00", "2020-01-02T12:00:00Z", "2020-01-02 14:00:00+02:00"]
    values = convert(pa.array(texts), "timestamp").values.to_pylist()
    assert values == [datetime(2020, 1, 2, 12, tzinfo=UTC)] * 3


def test_nan_is_missing_and_not_wrong() -> None:
    """No row is at fault for a missing value, in whichever way it is missing."""
    array = pa.array(np.array([np.nan, 1.0]), from_pandas=False)
    for kind in KINDS[:3]:
        typed = convert(array, kind)
        assert typed.values[0].as_py() is None
        assert not typed.wrong[0]


def test_a_missing_column_is_named_with_the_nearest() -> None:
    """The error says which column, for what, and what there is instead."""
    with pytest.raises(ColumnError, match=r"f\.csv: no column 'tmp', which is a role. .*'temp'"):
        require_columns(pa.schema({"temp": pa.int8()}), {"tmp": "a role"}, "f.csv")
