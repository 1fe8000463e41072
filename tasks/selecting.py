"""Selecting: the time of each row, and which rows of a source lie in a window."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.pieces import Chunk, Elsewhere, Piece, SourceBatch, Unreadable
from twinloop.data_keys import TimeParts
from twinloop.tables import convert
from twinloop.window import Window

_TIME = pa.timestamp("us", tz="UTC")
_MOST_HOURS = 1e6


@dataclass(frozen=True)
class Span:
    """A window in microseconds since 1970, UTC; `end` is outside."""

    start: int
    end: int

    @classmethod
    def of(cls, window: Window) -> "Span":
        """Count the microseconds of a window."""
        return cls(pa.scalar(window.start, _TIME).value, pa.scalar(window.end, _TIME).value)

    def holds(self, times: np.ndarray | int) -> np.ndarray:
        """Tell which times lie within: bool, of the shape of `times`."""
        return np.logical_and(times >= self.start, times < self.end)

    def may_hold(self, before: int | None, after: int | None) -> bool:
        """Tell whether something between two times, None where there is none, may lie within."""
        known = [t for t in (before, after) if t is not None]
        begins_late = before is not None and min(known) >= self.end
        ends_early = after is not None and max(known) < self.start
        return not begins_late and not ends_early


def instants(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return times as microseconds since 1970, UTC: int64, null where no time can be read."""
    return convert(column, "timestamp").values.cast(pa.int64())


def build_time(table: pa.Table, parts: TimeParts, name: str) -> pa.Table:
    """Put the time of each row together, in place of a column of that name.

    Where the hour is beyond all days, there is no time.
    """
    times = convert(table.column(parts.date), "timestamp").values
    if parts.hour is not None:
        hours = convert(table.column(parts.hour), "number").values.to_pandas()
        hours = hours.where(hours.abs() < _MOST_HOURS)
        moved = times.to_pandas() + pd.to_timedelta(hours, unit="h")
        times = pa.array(moved.dt.tz_convert(None).to_numpy("datetime64[us]")).cast(_TIME)
    kept = table.drop_columns([c for c in (name,) if c in table.schema.names])
    return kept.append_column(name, times)


@dataclass(frozen=True)
class Sieve:
    """Tells by the time alone which rows need not be read.

    Attributes
    ----------
    columns
        Those the time is made of.
    parts
        How it is put together; None where the only column is the time.
    """

    columns: tuple[str, ...]
    parts: TimeParts | None
    span: Span

    def elsewhere(self, tables: Iterable[pa.Table]) -> Elsewhere | None:
        """Return where rows lie if none is in the window, else None.

        If the first row has no time it may belong anywhere: it goes with the row before it.
        """
        first = last = None
        rows = 0
        for table in filter(len, tables):
            rows += len(table)
            name = self.columns[0]
            timed = table if self.parts is None else build_time(table, self.parts, name)
            times = instants(timed.column(name))
            if first is None and not times[0].is_valid:
                return None
            known = times.drop_null().to_numpy()
            if self.span.holds(known).any():
                return None
            if len(known):
                first, last = int(known[0]) if first is None else first, int(known[-1])
        return None if first is None or last is None else Elsewhere(first, last, rows)


def first_instant(pieces: Iterable[Piece], time: str) -> int | None:
    """Return the time of the first row that has one, None where no row has."""
    for piece in pieces:
        if isinstance(piece, Chunk):
            known = instants(piece.batch.table.column(time)).drop_null()
            if len(known):
                return known[0].as_py()
    return None


def select(pieces: Iterable[Piece], time: str, span: Span, first: int) -> Iterator[Piece]:
    """Yield what lies in a window.

    A row whose time cannot be read goes with the row before it, and so does a row that cannot be
    read at all; the first ones go with the first row that has a time. Other damage is let through
    unless the rows before and after it show that it lies elsewhere.

    Parameters
    ----------
    time
        Column with the time of each row.
    first
        Time of the first row that has one, microseconds since 1970, UTC.
    """
    before: int | None = None
    waiting: list[Unreadable] = []
    for piece in pieces:
        if isinstance(piece, Unreadable) and piece.code != "unreadable_row":
            waiting.append(piece)
            continue
        start = first if before is None else before
        if isinstance(piece, Unreadable):
            if span.holds(start):
                yield piece
            continue
        known, times = _times(piece, time, start)
        if known is not None:
            yield from (w for w in waiting if span.may_hold(before, known))
            waiting, before = [], int(times[-1])
        if isinstance(piece, Chunk):
            yield from _cut(piece, times, start, span)
    yield from (w for w in waiting if span.may_hold(before, None))


def _times(piece: Chunk | Elsewhere, time: str, start: int) -> tuple[int | None, np.ndarray]:
    """Return the first time in a piece, if there is any, and the time of each of its rows."""
    if isinstance(piece, Elsewhere):
        return piece.first, np.array([piece.last])
    times = instants(piece.batch.table.column(time))
    known = times.drop_null() if times.null_count else times
    if times.null_count:
        times = pc.fill_null_forward(times).fill_null(start)
    return known[0].as_py() if len(known) else None, times.to_numpy()


def _cut(chunk: Chunk, times: np.ndarray, start: int, span: Span) -> Iterator[Chunk]:
    """Yield the part of a chunk that lies in a span; `start` is the time before its rows."""
    batch = chunk.batch
    unreadable = chunk.unreadable
    if unreadable:
        places = np.searchsorted(batch.numbers, np.array([u.number for u in unreadable]))
        inside = span.holds(np.concatenate([[start], times])[places])
        unreadable = tuple(u for u, is_in in zip(unreadable, inside, strict=True) if is_in)
    mask = span.holds(times)
    if mask.all():
        yield replace(chunk, unreadable=unreadable)
    elif mask.any() or unreadable:
        kept = SourceBatch(batch.table.filter(pa.array(mask)), batch.file, batch.numbers[mask])
        yield Chunk(kept, unreadable)
