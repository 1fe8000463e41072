"""Arrow tables: the kinds a column can have, typing on read, and the digest of content."""

import hashlib
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
    # A NaN is a missing value like any other.
    missing = pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False)
    values = _CONVERTERS[kind](array)
    wrong = values.is_null().to_numpy(zero_copy_only=False) & ~missing
    return Typed(values, wrong)


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Undo dictionary encoding: it is a layout, not a type."""
    if pa.types.is_dictionary(column.type):
        plain = column.type.value_type
        # Arrow cannot decode a column of no chunks.
        return column.cast(plain) if len(column) else pa.chunked_array([], plain)
    return column


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _numbers(array: pa.Array) -> pa.Array:
    if _is_text(array.type):
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
    if _is_text(array.type):
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
    try:
        return array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        # Lists, structs and bytes that are no text: values, but not of this kind.
        return pa.nulls(len(array), pa.string())


def _timestamps(array: pa.Array) -> pa.Array:
    target = ARROW_TYPES["timestamp"]
    if pa.types.is_timestamp(array.type):
        return array.cast(pa.timestamp("us", tz=array.type.tz), safe=False).cast(target)
    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("us")).cast(target)
    if _is_text(array.type):
        texts = array.cast(pa.string())
        # pandas takes "now" and "today" for times: other ones at each reading.
        dated = pc.if_else(pc.match_substring_regex(texts, r"^\s*\d"), texts, None).to_pandas()
        times = pd.to_datetime(dated, errors="coerce", utc=True, format="ISO8601")
        return pa.array(times.to_numpy("datetime64[us]")).cast(target)
    return pa.nulls(len(array), target)


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


class ContentDigest:
    """The digest of content, built batch by batch.

    All rows and all columns count; the order of rows and columns, batches, chunks, dictionaries and
    files do not: hashes of rows are added up (an additive multiset hash, Clarke et al. 2003), which
    finds accidents and makes no claim against an adversary.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._sums = (0, 0)
        self._schema: tuple[tuple[str, str], ...] | None = None

    def update(self, table: pa.Table) -> None:
        """Add the rows of a table; every table must have the same columns.

        Raises
        ------
        ValueError
            If the columns differ from those of the tables before.
        """
        hashes, schema = _row_hashes(table, sorted(table.schema.names))
        if self._schema not in (None, schema):
            raise ValueError(f"columns {schema} differ from {self._schema} of the rows before")
        self._schema = schema
        self._rows += table.num_rows
        # Sums wrap at 64 bits on purpose.
        first, second = self._sums
        self._sums = (
            (first + int(hashes.sum(dtype=np.uint64))) % 2**64,
            (second + int(mix(hashes).sum(dtype=np.uint64))) % 2**64,
        )

    def hexdigest(self) -> str:
        """Return 64 hexadecimal digits: SHA-256 over names, types, count and sums."""
        return hashlib.sha256(repr((self._schema, self._rows, self._sums)).encode()).hexdigest()


def content_digest(table: pa.Table) -> str:
    """Name a table by its full content; see `ContentDigest`."""
    digest = ContentDigest()
    digest.update(table)
    return digest.hexdigest()


def row_hashes(table: pa.Table, names: list[str]) -> np.ndarray:
    """Hash each row by the content of some columns: uint64, shape (n_rows,)."""
    return _row_hashes(table, names)[0]


def _row_hashes(
    table: pa.Table, names: list[str]
) -> tuple[np.ndarray, tuple[tuple[str, str], ...]]:
    rows = np.zeros(table.num_rows, np.uint64)
    schema = []
    for name in names:
        hashes, kind = _column_hashes(table.column(name))
        schema.append((name, kind))
        # Odd multiplier: a bijection on 64 bits, so that swapped columns do not cancel out.
        rows = rows * np.uint64(0x9E3779B97F4A7C15) + mix(hashes)
    return mix(rows), tuple(schema)


def _column_hashes(column: pa.ChunkedArray) -> tuple[np.ndarray, str]:
    column = _plain(column)
    kind = column.type
    missing = pc.is_null(column, nan_is_null=True).to_numpy()
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        if pa.types.is_floating(kind):
            values = column.cast(pa.float64()).fill_null(np.nan).to_numpy() + 0.0  # -0.0 is 0.0
            values = np.where(np.isnan(values), np.nan, values)
        else:
            values = column.cast(pa.int64(), safe=False).fill_null(0).to_numpy()
        word = "bool" if pa.types.is_boolean(kind) else str(values.dtype)
        bits = np.ascontiguousarray(values).view(np.uint64)
    elif pa.types.is_timestamp(kind):
        bits = (
            column.cast(ARROW_TYPES["timestamp"])
            .cast(pa.int64())
            .fill_null(0)
            .to_numpy()
            .view(np.uint64)
        )
        word = "timestamp"
    else:
        texts = column.cast(pa.string()).to_pandas().fillna("").to_numpy(object)
        bits, word = pd.util.hash_array(texts, categorize=True), "text"
    return np.where(missing, np.uint64(0xA5A5A5A5DEADBEEF), bits), word


def mix(bits: np.ndarray) -> np.ndarray:
    """Scramble 64-bit words (the finaliser of SplitMix64, Steele et al. 2014)."""
    words = bits.astype(np.uint64)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
