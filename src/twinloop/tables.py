"""Arrow tables: the kinds a column can have, typing on read, and the digest of content."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.errors import ColumnError, nearest
from twinloop.vocabulary import Frozen, Kind

ARROW_TYPES: dict[Kind, pa.DataType] = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# In the place of a missing value's hash.
_MISSING = np.uint64(0xA5A5A5A5DEADBEEF)
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


class ContentDigest(Frozen):
    """The digest of content, built batch by batch.

    All rows and all columns count; the order of rows and columns, batches, chunks, dictionaries and
    files do not: hashes of rows are added up (an additive multiset hash, Clarke et al. 2003), which
    finds accidents and makes no claim against an adversary.

    Attributes
    ----------
    columns
        Names and types of the columns, by name; None before the first table.
    sums
        Of the hashes of rows, and of the hashes of these; modulo 2**64.
    """

    columns: tuple[tuple[str, str], ...] | None = None
    rows: int = 0
    sums: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """Digest a table."""
        hashes, columns = _row_hashes(table, sorted(table.schema.names))
        # Sums wrap at 64 bits on purpose.
        first, second = hashes.sum(dtype=np.uint64), mix(hashes).sum(dtype=np.uint64)
        return cls(columns=columns, rows=table.num_rows, sums=(int(first), int(second)))

    def merge(self, other: Self) -> Self:
        """Return the digest of both tables together.

        Raises
        ------
        ValueError
            If the other has other columns.
        """
        if self.columns is None:
            return other
        if other.columns not in (None, self.columns):
            raise ValueError(f"columns {other.columns} differ from {self.columns} of the others")
        first, second = ((a + b) % 2**64 for a, b in zip(self.sums, other.sums, strict=True))
        rows = self.rows + other.rows
        return self.model_copy(update={"rows": rows, "sums": (first, second)})

    def hexdigest(self) -> str:
        """Return 64 hexadecimal digits: SHA-256 over names, types, count and sums."""
        return hashlib.sha256(repr((self.columns, self.rows, self.sums)).encode()).hexdigest()


def content_digest(table: pa.Table) -> str:
    """Name a table by its full content; see `ContentDigest`."""
    return ContentDigest.of(table).hexdigest()


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
        rows *= np.uint64(0x9E3779B97F4A7C15)
        rows += mix(hashes)
    return mix(rows), tuple(schema)


def _column_hashes(column: pa.ChunkedArray) -> tuple[np.ndarray, str]:
    kind = column.type
    if pa.types.is_dictionary(kind) and len(column):
        return _level_hashes(column.combine_chunks())
    if pa.types.is_floating(kind):
        floats = floats_of(column) + 0.0  # -0.0 is 0.0
        missing = np.isnan(floats)
        bits, word = floats.view(np.uint64), "float64"
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        values = column.cast(pa.int64(), safe=False).fill_null(0).to_numpy()
        word = "bool" if pa.types.is_boolean(kind) else "int64"
        bits, missing = values.view(np.uint64), is_null(column)
    elif pa.types.is_timestamp(kind):
        times = column.cast(ARROW_TYPES["timestamp"]).cast(pa.int64()).fill_null(0)
        bits, missing, word = times.to_numpy().view(np.uint64), is_null(column), "timestamp"
    elif len(column) and not pa.types.is_null(kind):
        # The same texts come again and again; each is hashed once.
        return _level_hashes(column.cast(pa.string()).combine_chunks().dictionary_encode())
    else:
        bits, missing, word = np.zeros(len(column), np.uint64), np.ones(len(column), bool), "text"
    return (np.where(missing, _MISSING, bits) if missing.any() else bits), word


def _level_hashes(column: pa.DictionaryArray) -> tuple[np.ndarray, str]:
    """Hash each level once, then look it up."""
    if _is_text(column.type.value_type):
        levels, word = _text_hashes(column.dictionary), "text"
    else:
        levels, word = _column_hashes(pa.chunked_array([column.dictionary]))
    places = column.indices.fill_null(len(levels)).to_numpy()
    return np.append(levels, _MISSING).take(places), word


def _text_hashes(texts: pa.Array) -> np.ndarray:
    words = texts.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
    hashes = pd.util.hash_array(words, categorize=False)
    return np.where(is_null(texts), _MISSING, hashes)


def is_null(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Mark what is null: bool, shape (n_rows,). NaN is not."""
    if column.null_count == 0:
        return np.zeros(len(column), bool)
    nulls: np.ndarray = np.asarray(column.is_null())
    return nulls


def mix(bits: np.ndarray) -> np.ndarray:
    """Scramble 64-bit words (the finaliser of SplitMix64, Steele et al. 2014)."""
    words = bits.astype(np.uint64)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
