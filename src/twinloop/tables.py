"""Arrow tables: the kinds a column can have, and typing on read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.errors import ColumnError, nearest
from twinloop.vocabulary import Kind

ARROW_TYPES: dict[Kind, pa.DataType] = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# Microseconds to a unit that is larger.
PER_UNIT = {"day": 86_400_000_000, "s": 1_000_000, "ms": 1_000}
# How many of them there are to either side of 1970.
FARTHEST = 2**63 - 1
# More text than this that looks like numbers is a column of numbers with faults in it.
_MOSTLY = 0.5


@dataclass(frozen=True)
class Typed:
    """A column brought to its kind.

    Attributes
    ----------
    values : pa.Array, shape (n_rows,)
        Of the kind's Arrow type; null where missing or not convertible.
    wrong : np.ndarray of bool, shape (n_rows,)
        True where there was a value that is not of the kind.
    """

    values: pa.Array
    wrong: np.ndarray


def infer_kind(column: pa.ChunkedArray) -> Kind:
    """Tell what kind of column this is, from its type or, where that is text, from its content."""
    column = _plain(column)
    kind = column.type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "timestamp"
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return "number"
    return _kind_of_text(column)


def _kind_of_text(column: pa.ChunkedArray) -> Kind:
    levels = pc.unique(convert(column, "category").values).drop_null()
    if len(levels) == 0:
        return "category"
    if set(pc.utf8_lower(levels).to_pylist()) <= {"true", "false"}:
        return "boolean"
    for kind in ("number", "timestamp"):
        if convert(levels, kind).wrong.mean() < _MOSTLY:
            return kind
    return "category"


def convert(column: pa.Array | pa.ChunkedArray, kind: Kind) -> Typed:
    """Bring a column to a kind, row by row.

    Parameters
    ----------
    column
        Values of any Arrow type, shape (n_rows,).
    kind
        What they should be.

    Returns
    -------
    Typed
        The values, and where there were values of another kind. Naive times are read as UTC.
    """
    if len(column) == 0:
        return Typed(pa.nulls(0, ARROW_TYPES[kind]), np.zeros(0, bool))
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = _plain(array)
    if array.type == ARROW_TYPES[kind] and (kind != "number" or not _has_nan(array)):
        return Typed(array, np.zeros(len(array), bool))
    # A NaN is a missing value like any other.
    missing = pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False)
    values = _CONVERTERS[kind](array)
    wrong = is_null(values) & ~missing
    return Typed(values, wrong)


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Undo dictionary encoding: it is a layout, not a type."""
    if pa.types.is_dictionary(column.type):
        plain = column.type.value_type
        # Arrow cannot decode a column of no chunks.
        return column.cast(plain) if len(column) else pa.chunked_array([], plain)
    return column


def floats_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return numbers, or truths, as float64, shape (n_rows,); null is NaN.

    Without nulls floats are not copied: do not write into them.
    """
    floats = column.cast(pa.float64(), safe=False)
    if floats.null_count:
        # Many times faster than Arrow's own way from nulls to NaN.
        floats = floats.fill_null(np.nan)
    values: np.ndarray = floats.to_numpy()
    return values


def nulls_to_nan(table: pa.Table) -> pa.Table:
    """Return a table whose missing floats are NaN, which mean the same and are read faster."""
    for i, field in enumerate(table.schema):
        if pa.types.is_float64(field.type) and table.column(i).null_count:
            table = table.set_column(i, field, pa.array(floats_of(table.column(i))))
    return table


def _has_nan(array: pa.Array) -> bool:
    return int(np.count_nonzero(np.isnan(floats_of(array)))) > array.null_count


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether values are bytes."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values are text, or all null."""
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _numbers(array: pa.Array) -> pa.Array:
    if is_text(array.type):
        found = pd.to_numeric(array.cast(pa.string()).to_pandas(), errors="coerce")
        return pa.array(found.to_numpy(np.float64, na_value=np.nan), from_pandas=True)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    if not (
        pa.types.is_floating(array.type)
        or pa.types.is_integer(array.type)
        or pa.types.is_decimal(array.type)
    ):
        return pa.nulls(len(array), pa.float64())
    return pc.if_else(pc.is_nan(floats := array.cast(pa.float64(), safe=False)), None, floats)


def _booleans(array: pa.Array) -> pa.Array:
    if pa.types.is_boolean(array.type):
        return array
    if is_text(array.type):
        words = pc.utf8_lower(array.cast(pa.string())).to_pylist()
        return pa.array([None if w is None else _TRUTH.get(w.strip()) for w in words], pa.bool_())
    floats = _numbers(array)
    known = pc.or_(pc.equal(floats, 0.0), pc.equal(floats, 1.0))
    return pc.if_else(known, pc.equal(floats, 1.0), None).cast(pa.bool_())


def _categories(array: pa.Array) -> pa.Array:
    if pa.types.is_floating(array.type):
        array = _numbers(array)
        # Floats beyond 2**53 are no longer the integers they were read from.
        whole = pc.and_(pc.equal(pc.floor(array), array), pc.less(pc.abs(array), 2.0**53))
        digits = pc.if_else(whole, array, None).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(digits, array.cast(pa.string()))
    if is_bytes(array.type):
        words = [_decoded(value) for value in array.to_pylist()]
        return pa.array(words, pa.string())
    if pa.types.is_nested(array.type):
        # Values, but not of this kind.
        return pa.nulls(len(array), pa.string())
    texts = array.cast(pa.string())
    if pa.types.is_temporal(array.type):
        # So Arrow writes what no calendar has.
        lost = pc.starts_with(texts, "<value out of range")
        texts = pc.if_else(lost, None, texts)
    return texts


def _decoded(value: bytes | None) -> str | None:
    """Read bytes as text; None for those that are none."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _timestamps(array: pa.Array) -> pa.Array:
    target = ARROW_TYPES["timestamp"]
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _microseconds(array).cast(target)
    if is_text(array.type):
        texts = array.cast(pa.string())
        # pandas takes "now" and "today" for times: other ones at each reading.
        dated = pc.if_else(pc.match_substring_regex(texts, r"^\s*\d"), texts, None).to_pandas()
        times = pd.to_datetime(dated, errors="coerce", utc=True, format="ISO8601")
        return pa.array(times.to_numpy("datetime64[us]")).cast(target)
    return pa.nulls(len(array), target)


def _microseconds(array: pa.Array) -> pa.Array:
    """Count dates and times in microseconds; null for those that 64 bits cannot count so."""
    tz = getattr(array.type, "tz", None)
    per = PER_UNIT.get(_unit(array.type))
    if per is not None:
        # Arrow refuses all of them for the sake of one, or lets it come round to another year.
        counts, limit = ticks(array), FARTHEST // per
        ends = pc.min_max(counts)
        low, high = ends["min"].as_py(), ends["max"].as_py()
        if low is not None and (low < -limit or high > limit):
            inside = pc.and_(pc.greater_equal(counts, -limit), pc.less_equal(counts, limit))
            array = pc.if_else(inside, array, None)
    return array.cast(pa.timestamp("us", tz=tz), safe=False)


def _unit(kind: pa.DataType) -> str:
    if pa.types.is_date(kind):
        return "day" if pa.types.is_date32(kind) else "ms"
    return kind.unit


def ticks(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return dates and times as the integers they are stored as."""
    return array.cast(pa.int32() if pa.types.is_date32(array.type) else pa.int64())


_CONVERTERS: dict[Kind, Callable[[pa.Array], pa.Array]] = {
    "number": _numbers,
    "boolean": _booleans,
    "category": _categories,
    "timestamp": _timestamps,
}


def require_columns(table: pa.Table | pa.Schema, names: Mapping[str, str], origin: str) -> None:
    """Refuse a table that lacks columns.

    Parameters
    ----------
    table
        The table, or its schema.
    names
        Column to the role it plays, for the error.
    origin
        Where the table comes from, for the error.

    Raises
    ------
    ColumnError
        Naming the first column that is missing and the nearest there is.
    """
    schema = table.schema if isinstance(table, pa.Table) else table
    for name, role in names.items():
        if name not in schema.names:
            raise ColumnError(
                f"{origin}: no column {name!r}, which is {role}. {nearest(name, schema.names)}"
            )


def is_null(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Mark what is null: bool, shape (n_rows,). NaN is not."""
    if column.null_count == 0:
        return np.zeros(len(column), bool)
    nulls: np.ndarray = np.asarray(column.is_null())
    return nulls
