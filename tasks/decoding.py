"""Decoding: Parquet files row group by row group, where damage stays within its group."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.pieces import Chunk, Elsewhere, Piece, SourceBatch, Unreadable
from tasks.selecting import Span, instants


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


def read_groups(
    path: Path,
    rows: int,
    columns: list[str],
    dictionary: list[str],
    time: str | None,
    span: Span | None,
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
    time, span
        Row groups are left unread where the footer says that all their times lie outside the span;
        neither is needed where all are to be read.
    """
    footer = read_footer(path)
    schema = footer.schema.to_arrow_schema()
    wanted = [n for n in schema.names if n in columns]
    # Without pre_buffer=False memory grows with the file.
    with pq.ParquetFile(
        path,
        metadata=footer,
        read_dictionary=[n for n in dictionary if n in wanted and is_text(schema.field(n).type)],
        page_checksum_verification=True,
        pre_buffer=False,
    ) as file:
        place = 0
        for i in range(footer.num_row_groups):
            group = footer.row_group(i)
            instant = None
            if time is not None and span is not None and time in schema.names:
                instant = _instant_elsewhere(group, schema.field(time), span)
            if instant is None:
                yield from _read_group(path, file, i, place, rows, wanted or schema.names[:1])
            else:
                yield Elsewhere(instant)
            place += group.num_rows


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds text, in dictionaries or not."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read_group(
    path: Path, file: pq.ParquetFile, group: int, place: int, rows: int, columns: list[str]
) -> Iterator[Chunk | Unreadable]:
    count = file.metadata.row_group(group).num_rows
    end, reason = place + count, "its pages hold fewer rows than its footer says"
    try:
        for batch in file.iter_batches(rows, [group], columns, use_threads=False):
            numbers = np.arange(place, place + batch.num_rows)
            yield Chunk(SourceBatch(pa.Table.from_batches([batch]), str(path), numbers))
            place += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as err:
        reason = str(err)
    if place < end:
        where = f"row group {group}: {reason}"
        yield Unreadable("unreadable_rows", str(path), place, end - place, where, where)


def _instant_elsewhere(group: pq.RowGroupMetaData, field: pa.Field, span: Span) -> int | None:
    """Return a time of a row group where all its rows lie on one side of a span, else None.

    Every row must have a time: one without goes with the row before it, which is not read then.
    """
    if not pa.types.is_timestamp(field.type):
        return None
    chunks = (group.column(i) for i in range(group.num_columns))
    facts = next(c.statistics for c in chunks if c.path_in_schema == field.name)
    if facts is None or not facts.has_min_max or not facts.has_null_count or facts.null_count:
        return None
    if facts.physical_type != "INT64":
        return None
    ends = pa.array([facts.min_raw, facts.max_raw], pa.int64()).cast(field.type)
    first, last = instants(ends).to_pylist()
    return first if first <= last and (last < span.start or first >= span.end) else None
