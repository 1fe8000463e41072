"""Sources: the rows of a workload, window by window, typed alike whatever file they lie in."""

import glob
import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.pieces import Chunk, Piece, SourceBatch, Unreadable
from tasks.reading import Files, OneTable, Request
from tasks.selecting import Sieve, Span, build_time, first_instant, instants, select
from tasks.settings import settings
from twinloop.data_keys import BundledSource, FilesSource, SimulatedSource, TimeParts
from twinloop.errors import EmptyWindowError, SourceError, WorkloadError
from twinloop.simulate import simulate_bikes
from twinloop.tables import convert, require_columns
from twinloop.window import Window
from twinloop.workload import Workload

__all__ = [
    "ROW",
    "SourceBatch",
    "Unreadable",
    "fingerprint",
    "no_rows",
    "origin",
    "read_batches",
    "read_pieces",
    "read_window",
    "time_span",
    "with_rows",
]

_READ_ROWS = 65_536
# Arrow has later ones too, and Python cannot write them.
_YEARS = range(1, 10_000)
ROW = "row"


def origin(workload: Workload) -> str:
    """Say where a workload's rows come from, for errors."""
    source = workload.source
    if isinstance(source, FilesSource):
        return f"source {str(_absolute(source.path))!r}"
    name = source.dataset if isinstance(source, BundledSource) else source.generator
    return f"{source.kind} source {name!r}"


def fingerprint(workload: Workload) -> str:
    """Tell cheaply whether a source may have changed: names, sizes, times and places of its files.

    Raises
    ------
    SourceError
        If there is no file, or one goes away meanwhile.
    """
    source = workload.source
    facts = [source.model_dump_json(), str(workload.time)]
    if isinstance(source, FilesSource):
        for path in _files(source):
            try:
                stat = path.stat()
            except OSError as err:
                raise SourceError(f"cannot read {str(path)!r}: {err}", "Run it again.") from err
            # A copy that keeps the time of what it replaces has another place, or change of state.
            times = f"{stat.st_mtime_ns}|{stat.st_ctime_ns}"
            facts.append(f"{path}|{stat.st_size}|{stat.st_ino}|{times}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def read_window(workload: Workload, window: Window | None) -> pa.Table:
    """Read all rows of a window into memory.

    Raises
    ------
    SourceError
        If a file is missing, corrupt, or has a column of another type than the files before it.
    EmptyWindowError
        If no row falls into the window.
    """
    batches = list(read_batches(workload, window, _READ_ROWS))
    if not batches:
        raise no_rows(workload, window)
    return pa.concat_tables(batches).combine_chunks()


def read_batches(
    workload: Workload,
    window: Window | None,
    rows: int,
    columns: Collection[str] | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of a window in tables of at most `rows` rows; empty ones are left out.

    A row whose time cannot be read goes with the row before it (the first ones with the first row
    that has a time), so that the contract can name it.

    Parameters
    ----------
    columns
        Which to read, and what the time is made of; None: all.

    Raises
    ------
    SourceError
        At the first row of any window that cannot be read.
    """
    for piece in _read(workload, window, Request(rows, _needed(workload, columns)), strict=True):
        if isinstance(piece, SourceBatch):
            yield piece.table


def read_pieces(
    workload: Workload,
    window: Window | None,
    rows: int,
    dictionary: Collection[str] = (),
    columns: Collection[str] | None = None,
) -> Iterator[SourceBatch | Unreadable]:
    """Yield the rows of a window, and what cannot be read of it, in bounded memory.

    The rows are those of `read_batches`. A row that cannot be read goes with the row before it. A
    damaged row group or file is in every window that it may have rows of: in all but those that
    the rows before and after it show to be elsewhere.

    Parameters
    ----------
    rows
        The most rows of a batch.
    dictionary
        Columns to be read as dictionaries with int32 indices, in all batches, where they are text.
    columns
        Which to read, and what the time is made of; None: all. Those that no file has are left out.

    Raises
    ------
    SourceError
        If there is no file, none can be read, or one has a column of another type than the files
        before it.
    ColumnError
        If there is no time column.
    """
    request = Request(rows, _needed(workload, columns), tuple(dictionary))
    yield from _read(workload, window, request, strict=False)


def with_rows(workload: Workload, windows: list[Window]) -> list[Window]:
    """Return those windows that any row falls into, whose time can be read; in one pass."""
    if not windows:
        return []
    span = Window(start=min(w.start for w in windows), end=max(w.end for w in windows))
    left, found = {w: Span.of(w) for w in windows}, set()
    for piece in read_pieces(workload, span, _READ_ROWS, columns=()):
        if isinstance(piece, SourceBatch):
            times = instants(piece.table.column(workload.time)).drop_null().to_numpy()
            found |= {w for w, inside in left.items() if inside.holds(times).any()}
    return [w for w in windows if w in found]


def no_rows(workload: Workload, window: Window | None) -> EmptyWindowError:
    """Return the error for a window without rows, which tells which there are."""
    span = ""
    ends = _ends(read_pieces(workload, None, _READ_ROWS, columns=()), workload)
    if ends is not None:
        first, last = ends
        span = f" Rows there are from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC."
    return EmptyWindowError(
        f"{origin(workload)}: no rows in the window {window or 'of all time'}.{span}",
        "Choose another window with --window START/END or --as-of TIME.",
    )


def time_span(workload: Workload) -> tuple[datetime, datetime] | None:
    """Return the times of the oldest and the newest row, UTC; None where no row has a time."""
    return _ends(_read(workload, None, Request(_READ_ROWS), strict=True), workload)


def _ends(
    pieces: Iterable[SourceBatch | Unreadable], workload: Workload
) -> tuple[datetime, datetime] | None:
    if workload.time is None:
        return None
    ends = []
    for piece in pieces:
        if isinstance(piece, SourceBatch):
            times = convert(piece.table.column(workload.time), "timestamp").values
            times = times.filter(pc.is_in(pc.year(times), pa.array(_YEARS, pa.int64())))
            if len(times):
                ends.append(pc.min_max(times).as_py())
    if not ends:
        return None
    return min(e["min"] for e in ends), max(e["max"] for e in ends)


def _read(
    workload: Workload, window: Window | None, request: Request, strict: bool
) -> Iterator[SourceBatch | Unreadable]:
    """Yield what lies in a window; where no row at all has a time, every row there is."""
    if window is not None and workload.time is None:
        raise WorkloadError(
            f"window {window} was asked for, but workload {workload.name!r} has no time column.",
            "Set 'time' in the workload, or leave the window out.",
        )
    source = _open(workload)
    if strict and source.broken:
        raise next(iter(source.broken.values())).error()
    require_columns(source.schema, _time_columns(workload), origin(workload))
    time, span, first = workload.time, None, None
    if window is not None and time is not None:
        span = Span.of(window)
        # The first rows may need it; nearly always it is in the first batch.
        times = _pieces(workload, source, Request(request.rows, _needed(workload, ())))
        first = first_instant(times, time)
        if not strict and first is not None:
            # Whoever wants all rows or none is to hear of damage outside the window too.
            sieve = Sieve(tuple(_time_columns(workload)), _time_parts(workload), span)
            request = replace(request, sieve=sieve)
    pieces = _pieces(workload, source, request)
    if strict:
        pieces = _refusing(pieces)
    if time is not None and span is not None and first is not None:
        pieces = select(pieces, time, span, first)
    return _flat(pieces, request.rows)


def _open(workload: Workload) -> Files | OneTable:
    source = workload.source
    if isinstance(source, FilesSource):
        return Files.survey(_files(source))
    table = _bundled(source) if isinstance(source, BundledSource) else _simulated(source)
    return OneTable(table, origin(workload))


def _time_columns(workload: Workload) -> dict[str, str]:
    """Return the columns that hold the time, and what they are to it."""
    parts = _time_parts(workload)
    if parts is not None:
        return {c: "part of the time" for c in (parts.date, parts.hour) if c}
    return {} if workload.time is None else {workload.time: "the time"}


def _time_parts(workload: Workload) -> TimeParts | None:
    source = workload.source
    return source.time_from if workload.time and isinstance(source, FilesSource) else None


def _needed(workload: Workload, columns: Collection[str] | None) -> tuple[str, ...] | None:
    return None if columns is None else (*columns, *_time_columns(workload))


def _pieces(workload: Workload, source: Files | OneTable, request: Request) -> Iterator[Piece]:
    """Yield a whole source, each row with its time."""
    parts = _time_parts(workload)
    for piece in source.pieces(request):
        if parts is not None and workload.time is not None and isinstance(piece, Chunk):
            table = build_time(piece.batch.table, parts, workload.time)
            yield replace(piece, batch=replace(piece.batch, table=table))
        else:
            yield piece


def _refusing(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Stop at the first row that cannot be read."""
    for piece in pieces:
        damage = (piece,) if isinstance(piece, Unreadable) else getattr(piece, "unreadable", ())
        for unreadable in damage:
            raise unreadable.error()
        yield piece


def _flat(pieces: Iterable[Piece], rows: int) -> Iterator[SourceBatch | Unreadable]:
    """Take chunks apart: batches of at most so many rows, and what lies broken among them."""
    for piece in pieces:
        if isinstance(piece, Unreadable):
            yield piece
        elif isinstance(piece, Chunk):
            batch = piece.batch
            for start in range(0, batch.table.num_rows, rows):
                table, numbers = batch.table.slice(start, rows), batch.numbers[start : start + rows]
                yield SourceBatch(table, batch.file, numbers)
            yield from piece.unreadable


def _absolute(path: str) -> Path:
    return settings().root / Path(path).expanduser()


def _files(source: FilesSource) -> list[Path]:
    pattern = str(_absolute(source.path))
    found = [Path(p) for p in sorted(glob.glob(pattern, recursive=True)) if Path(p).is_file()]  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not found:
        raise SourceError(
            f"no file matches {pattern!r}.", "Check source.path; relative paths start at home."
        )
    return found


def _bundled(source: BundledSource) -> pa.Table:
    from sklearn import datasets

    frame = getattr(datasets, f"load_{source.dataset}")(as_frame=True).frame
    table = pa.Table.from_pandas(frame, preserve_index=False)
    names = [n.replace(" ", "_") for n in table.schema.names]
    return table.rename_columns(names).append_column(ROW, pa.array(np.arange(len(frame))))


@lru_cache(maxsize=2)
def _simulated(source: SimulatedSource) -> pa.Table:
    return simulate_bikes(
        seed=source.seed, hours=source.hours, start=source.start, drift=source.drift
    )
