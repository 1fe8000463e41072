"""Sources: the rows of a workload, window by window, typed alike whatever file they lie in."""

import glob
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tasks.settings import settings
from twinloop.data_keys import BundledSource, FilesSource, SimulatedSource, TimeParts
from twinloop.errors import EmptyWindowError, SourceError, WorkloadError
from twinloop.simulate import simulate_bikes
from twinloop.tables import convert, require_columns
from twinloop.window import Window
from twinloop.workload import Workload

_READ_ROWS = 65_536
ROW = "row"


def origin(workload: Workload) -> str:
    """Say where a workload's rows come from, for errors."""
    source = workload.source
    if isinstance(source, FilesSource):
        return f"source {str(_absolute(source.path))!r}"
    name = source.dataset if isinstance(source, BundledSource) else source.generator
    return f"{source.kind} source {name!r}"


def fingerprint(workload: Workload) -> str:
    """Tell cheaply whether a source may have changed: names, sizes and times of its files."""
    source = workload.source
    facts = [source.model_dump_json(), str(workload.time)]
    if isinstance(source, FilesSource):
        for path in _files(source):
            stat = path.stat()
            facts.append(f"{path}|{stat.st_size}|{stat.st_mtime_ns}")
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
        raise _empty(workload, window)
    return pa.concat_tables(batches).combine_chunks()


def read_batches(workload: Workload, window: Window | None, rows: int) -> Iterator[pa.Table]:
    """Yield the rows of a window in tables of at most `rows` rows; empty ones are left out.

    A row whose time cannot be read goes with the row before it (the first ones with the first row
    that has a time), so that the contract can name it.
    """
    if window is not None and workload.time is None:
        raise WorkloadError(
            f"window {window} was asked for, but workload {workload.name!r} has no time column.",
            "Set 'time' in the workload, or leave the window out.",
        )
    batches = (_with_time(b, workload) for b in _batches(workload.source, rows))
    for table in batches if window is None else _inside(batches, workload, window):
        if table.num_rows:
            yield table


def has_rows(workload: Workload, window: Window) -> bool:
    """Tell whether any row falls into a window."""
    return next(read_batches(workload, window, _READ_ROWS), None) is not None


def _empty(workload: Workload, window: Window | None) -> EmptyWindowError:
    span = ""
    ends = time_span(workload) if workload.time is not None else None
    if ends is not None:
        first, last = ends
        span = f" Rows there are from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC."
    return EmptyWindowError(
        f"{origin(workload)}: no rows in the window {window or 'of all time'}.{span}",
        "Choose another window with --window START/END or --as-of TIME.",
    )


def time_span(workload: Workload) -> tuple[datetime, datetime] | None:
    """Return the times of the oldest and the newest row, UTC; None where no row has a time."""
    ends = []
    for batch in read_batches(workload, None, _READ_ROWS):
        times = convert(batch.column(workload.time), "timestamp").values.to_pandas().dropna()
        if len(times):
            ends.append((times.min().to_pydatetime(), times.max().to_pydatetime()))
    if not ends:
        return None
    return min(first for first, _ in ends), max(last for _, last in ends)


def _with_time(table: pa.Table, workload: Workload) -> pa.Table:
    source = workload.source
    if workload.time is None:
        return table
    if isinstance(source, FilesSource) and source.time_from is not None:
        table = _build_time(table, source.time_from, workload)
    require_columns(table, {workload.time: "the time"}, origin(workload))
    return table


def _build_time(table: pa.Table, parts: TimeParts, workload: Workload) -> pa.Table:
    named = {c: "part of the time" for c in (parts.date, parts.hour) if c}
    require_columns(table, named, origin(workload))
    times = convert(table.column(parts.date), "timestamp").values
    if parts.hour is not None:
        hours = convert(table.column(parts.hour), "number").values.to_pandas()
        moved = times.to_pandas() + pd.to_timedelta(hours, unit="h")
        instants = moved.dt.tz_convert(None).to_numpy("datetime64[us]")
        times = pa.array(instants).cast(pa.timestamp("us", tz="UTC"))
    kept = table.drop_columns([c for c in (workload.time,) if c in table.schema.names])
    return kept.append_column(workload.time, times)


def _inside(tables: Iterable[pa.Table], workload: Workload, window: Window) -> Iterator[pa.Table]:
    """Yield the rows of a window; where no row at all has a time, every one of them."""
    last, early = None, []
    for table in tables:
        if table.num_rows == 0:
            continue
        times = convert(table.column(workload.time), "timestamp").values.to_pandas()
        if last is None:
            if times.isna().all():
                early.append(table)
                continue
            last = times.dropna().iloc[0]
            if window.start <= last < window.end:
                yield from early
            early = []
        times = times.ffill().fillna(last)
        last = times.iloc[-1]
        mask = ((times >= window.start) & (times < window.end)).to_numpy(bool)
        yield table if mask.all() else table.filter(pa.array(mask))
    yield from early


def _batches(
    source: FilesSource | BundledSource | SimulatedSource, rows: int
) -> Iterator[pa.Table]:
    if isinstance(source, FilesSource):
        paths = _files(source)
        schema = _common_schema(paths)
        for path in paths:
            yield from _file_batches(path, rows, schema)
        return
    table = _bundled(source) if isinstance(source, BundledSource) else _simulated(source)
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


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


def _common_schema(paths: list[Path]) -> pa.Schema:
    """Unite the schemas of all files, so that every batch of a source has the same columns.

    Whole numbers and fractions make fractions; a column that a file lacks is null there.
    """
    common = pa.schema([])
    for path in paths:
        with _reading(path):
            schema = _csv_schema(path) if _is_csv(path) else pq.read_schema(path)
        twice = sorted({n for n in schema.names if schema.names.count(n) > 1})
        if twice:
            raise SourceError(
                f"{str(path)!r} has more than one column {', '.join(map(repr, twice))}.",
                "Give each column a name of its own.",
            )
        try:
            common = pa.unify_schemas(
                [common, schema.remove_metadata()], promote_options="permissive"
            )
        except (pa.ArrowInvalid, pa.ArrowTypeError) as err:
            raise SourceError(
                f"{str(path)!r} does not fit the files before it: {err}",
                "Write the files with one schema, or take it out of source.path.",
            ) from err
    return common


def _is_csv(path: Path) -> bool:
    return path.suffix in (".csv", ".tsv", ".txt")


def _file_batches(path: Path, rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
    with _reading(path):
        if _is_csv(path):
            for table in _csv_batches(path):
                for start in range(0, table.num_rows, rows):
                    yield _conform(table.slice(start, rows), schema)
            return
        # Without pre_buffer=False memory grows with the file.
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield _conform(pa.Table.from_batches([batch]), schema)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table all columns of a schema, in its order and of its types."""
    if table.schema.equals(schema):
        return table.replace_schema_metadata(None)
    present = set(table.schema.names)
    return pa.table(
        [
            table.column(f.name).cast(f.type) if f.name in present else pa.nulls(len(table), f.type)
            for f in schema
        ],
        schema,
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as err:
        raise SourceError(
            f"cannot read {str(path)!r} as {'CSV' if _is_csv(path) else 'Parquet'}: {err}",
            "Is it complete and of that format? Restore it, or take it out of source.path.",
        ) from err


def _csv_schema(path: Path) -> pa.Schema:
    """Read every column as text: what it is shows on all its rows, never on the first block."""
    with path.open("rb") as file:
        first = file.readline()
    if not first.strip():
        raise SourceError(f"{str(path)!r} is empty; expected a header and rows.")
    header = pa_csv.read_csv(pa.BufferReader(first), parse_options=_csv_parsing(path)).schema
    return pa.schema([(name, pa.string()) for name in header.names])


def _csv_parsing(path: Path) -> pa_csv.ParseOptions:
    return pa_csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",")


def _csv_batches(path: Path) -> Iterator[pa.Table]:
    parsing = _csv_parsing(path)
    converting = pa_csv.ConvertOptions(column_types=_csv_schema(path), strings_can_be_null=True)
    with pa_csv.open_csv(path, parse_options=parsing, convert_options=converting) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


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
