"""Digests: rows and whole tables named by what they hold, whatever their layout."""

import hashlib
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.tables import FARTHEST, PER_UNIT, floats_of, is_bytes, is_null, is_text, ticks
from twinloop.vocabulary import Frozen

# In the place of a missing value's hash.
_MISSING = np.uint64(0xA5A5A5A5DEADBEEF)


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
        return cls.with_hashes(table)[0]

    @classmethod
    def with_hashes(cls, table: pa.Table) -> tuple[Self, np.ndarray]:
        """Digest a table; return the hash of each row too: uint64, shape (n_rows,)."""
        hashes, columns = _row_hashes(table, sorted(table.schema.names))
        # Sums wrap at 64 bits on purpose.
        first, second = hashes.sum(dtype=np.uint64), mix(hashes).sum(dtype=np.uint64)
        found = cls(columns=columns, rows=table.num_rows, sums=(int(first), int(second)))
        return found, hashes

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
        bits, missing, word = _moment_bits(column), is_null(column), "timestamp"
    elif pa.types.is_nested(kind):
        bits, word = _nested_hashes(column)
        missing = is_null(column)
    elif is_bytes(kind):
        values = column.cast(pa.binary()).fill_null(b"").to_numpy()
        bits, missing, word = _object_hashes(values), is_null(column), "bytes"
    elif len(column) and not pa.types.is_null(kind):
        # The same texts come again and again; each is hashed once.
        return _level_hashes(column.cast(pa.string()).combine_chunks().dictionary_encode())
    else:
        bits, missing, word = np.zeros(len(column), np.uint64), np.ones(len(column), bool), "text"
    return (np.where(missing, _MISSING, bits) if missing.any() else bits), word


def _moment_bits(column: pa.ChunkedArray) -> np.ndarray:
    """Return times as microseconds, alike whatever their unit; what is left over is mixed in."""
    found = ticks(column).fill_null(0).to_numpy()
    if column.type.unit == "us":
        return found.view(np.uint64)
    if column.type.unit == "ns":
        whole, rest = np.divmod(found, 1_000)
        left = np.where(rest == 0, np.uint64(0), mix(rest.astype(np.uint64)))
        return whole.view(np.uint64) ^ left
    per = PER_UNIT[column.type.unit]
    fits = (found >= -(FARTHEST // per)) & (found <= FARTHEST // per)
    return np.where(fits, (found * per).view(np.uint64), mix(found.view(np.uint64)))


def _nested_hashes(column: pa.ChunkedArray) -> tuple[np.ndarray, str]:
    """Hash what a column of lists, maps or structs is made of, and put it together row by row."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # a column of no chunks
        array = pa.nulls(0, column.type)
    if pa.types.is_map(array.type):
        pairs = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
        array = pa.ListArray.from_arrays(array.offsets, pairs)
    if pa.types.is_struct(array.type):
        names = [f"{i}:{field.name}" for i, field in enumerate(array.type)]
        rows, kinds = _row_hashes(pa.table(array.flatten(), names), names)
        return rows, f"struct<{kinds}>"
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
    values, word = _column_hashes(pa.chunked_array([array.flatten()]))
    owners = np.repeat(np.arange(len(array)), lengths)
    places = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = mix(lengths.astype(np.uint64) ^ _MISSING)
    np.add.at(rows, owners, mix(values ^ mix(places.astype(np.uint64))))
    return rows, f"list<{word}>"


def _level_hashes(column: pa.DictionaryArray) -> tuple[np.ndarray, str]:
    """Hash each level once, then look it up."""
    if is_text(column.type.value_type):
        levels, word = _text_hashes(column.dictionary), "text"
    else:
        levels, word = _column_hashes(pa.chunked_array([column.dictionary]))
    places = column.indices.fill_null(len(levels)).to_numpy()
    return np.append(levels, _MISSING).take(places), word


def _text_hashes(texts: pa.Array) -> np.ndarray:
    words = texts.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
    return np.where(is_null(texts), _MISSING, _object_hashes(words))


def _object_hashes(values: np.ndarray) -> np.ndarray:
    hashes: np.ndarray = pd.util.hash_array(values, categorize=False)
    return hashes


def mix(bits: np.ndarray) -> np.ndarray:
    """Scramble 64-bit words (the finaliser of SplitMix64, Steele et al. 2014)."""
    words = bits.astype(np.uint64)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
