"""Decoding: Parquet files row group by row group, where damage stays within its group."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.pieces import (
    Chunk,
    Elsewhere,
    Piece,
    SourceBatch,
    Unreadable,
    on_one_line,
    unreadable_row,
)
from tasks.selecting import Sieve

_DAMAGE = (pa.ArrowException, OSError, ValueError)


def read_footer(path: Path) -> pq.FileMetaData:
    """Return what a file says about itself.

    Raises
    ------
    pa.ArrowException or OSError
        If it is cut short, or no Parquet file.
    ValueError
        If it contradicts itself.
    """
    footer = pq.read_metadata(path)
    counts = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    if min(counts, default=0) < 0 or sum(counts) != footer.num_rows:
        raise ValueError(f"row groups of {counts} rows do not make {footer.num_rows}")
    return footer


def read_schema(path: Path) -> pa.Schema:
    """Return the columns of a file; raises what `read_footer` does, also for an unknown zone."""
    schema = read_footer(path).schema.to_arrow_schema().remove_metadata()
    for field in schema:
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            try:
                pa.scalar(0, field.type).as_py()
            except KeyError as err:
                raise ValueError(f"column {field.name!r}: no time zone {field.type.tz!r}") from err
    return schema


def read_groups(
    path: Path,
    rows: int,
    columns: list[str],
    dictionary: list[str],
    sieve: Sieve | None,
) -> Iterator[Piece]:
    """Yield the rows of a file in batches that keep to row groups, their checksums verified.

    A bit that was flipped is found where the file was written with checksums of its pages.

    Parameters
    ----------
    rows
        The most rows of a batch.
    columns
        Which to read; those that the file lacks are left out.
    dictionary
        Columns of text to be read as dictionaries.
    sieve
        Row groups whose times all lie outside the window are left unread; None: read all. Their
        times are read, since the footer, where the least and the greatest are, has no checksum.
    """
    footer = read_footer(path)
    schema = footer.schema.to_arrow_schema()
    wanted = [n for n in schema.names if n in columns]
    # Without pre_buffer=False memory grows with the file.
    with pq.ParquetFile(
        path,
        metadata=footer,
        read_dictionary=[n for n in dictionary if n in wanted and holds_text(schema.field(n).type)],
        page_checksum_verification=True,
        pre_buffer=False,
    ) as file:
        place = 0
        for i in range(footer.num_row_groups):
            elsewhere = None if sieve is None else _elsewhere(file, i, rows, sieve)
            if elsewhere is None:
                yield from _read_group(path, file, i, place, rows, wanted or schema.names[:1])
            else:
                yield elsewhere
            place += footer.row_group(i).num_rows


def holds_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds text, in dictionaries or not."""
    if pa.types.is_dictionary(kind):
        return holds_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read_group(
    path: Path, file: pq.ParquetFile, group: int, place: int, rows: int, columns: list[str]
) -> Iterator[Chunk | Unreadable]:
    count = file.metadata.row_group(group).num_rows
    end, reason = place + count, "its pages hold fewer rows than its footer says"
    try:
        for batch in file.iter_batches(rows, [group], columns, use_threads=False):
            yield _checked(pa.Table.from_batches([batch]), str(path), place)
            place += batch.num_rows
    except _DAMAGE as err:
        reason = on_one_line(err)
    if place < end:
        where = f"row group {group}: {reason}"
        yield Unreadable("unreadable_rows", str(path), place, end - place, where, where)


def _checked(table: pa.Table, file: str, place: int) -> Chunk:
    """Set rows aside that are not what their types say: no file's checksum vouches for its writer.

    Text may be no UTF-8, and a dictionary may lack what a row points to; both fail at use only.
    """
    numbers = np.arange(place, place + table.num_rows)
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        pass
    else:
        return Chunk(SourceBatch(table, file, numbers))
    faults = dict[int, str]()
    for name, column in zip(table.schema.names, table.columns, strict=True):
        reason = f"column {name!r}: no valid {column.type}"
        faults = dict.fromkeys(_faulty(column), reason) | faults
    kept = np.delete(np.arange(table.num_rows), sorted(faults))
    bad = [unreadable_row(file, place + i, reason) for i, reason in sorted(faults.items())]
    columns = [_fresh(column.take(pa.array(kept))) for column in table.columns]
    table = pa.table(columns, table.schema)
    return Chunk(SourceBatch(table, file, numbers[kept]), tuple(bad))


def _faulty(column: pa.ChunkedArray) -> list[int]:
    """Return which rows of a column are not of its type, by looking at each if there are any."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return [i for i in range(len(column)) if not _is_valid(column.slice(i, 1))]
    return []


def _is_valid(cell: pa.ChunkedArray) -> bool:
    try:
        _plain(cell).validate(full=True)
    except (pa.ArrowInvalid, pa.lib.ArrowIndexError):
        return False
    return True


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    is_encoded = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if is_encoded else column


def _fresh(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Leave what no row points to out of a dictionary."""
    is_encoded = pa.types.is_dictionary(column.type)
    return _plain(column).cast(column.type) if is_encoded and len(column) else column


def _elsewhere(file: pq.ParquetFile, group: int, rows: int, sieve: Sieve) -> Elsewhere | None:
    if not set(sieve.columns) <= set(file.schema_arrow.names):
        return None
    batches = file.iter_batches(rows, [group], list(sieve.columns), use_threads=False)
    try:
        found = sieve.elsewhere(pa.Table.from_batches([b]) for b in batches)
    except _DAMAGE:
        return None  # whoever reads the group will tell
    whole = found is not None and found.rows == file.metadata.row_group(group).num_rows
    return found if whole else None
