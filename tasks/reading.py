"""Reading: the files of a source as one stream of rows of one schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import decoding, parsing
from tasks.pieces import Chunk, Piece, SourceBatch, Unreadable, cannot_read, is_csv, on_one_line
from tasks.selecting import Sieve
from twinloop.errors import SourceError

_TEXTS = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Request:
    """What is wanted of a source.

    Attributes
    ----------
    rows
        The most rows of a batch.
    columns
        Which to read; None: all.
    dictionary
        Columns of text that come as dictionaries.
    sieve
        What it shows to lie outside a window need not be read; None: read all.
    """

    rows: int
    columns: tuple[str, ...] | None = None
    dictionary: tuple[str, ...] = ()
    sieve: Sieve | None = None


@dataclass(frozen=True)
class Files:
    """The files of a source, looked at but not read yet.

    Attributes
    ----------
    paths
        All of them, in the order in which they are read.
    schema
        Of every batch: a column that a file lacks is null there, and whole numbers and fractions
        make fractions.
    broken
        Files that cannot be read at all, by their path.
    """

    paths: list[Path]
    schema: pa.Schema
    broken: dict[Path, Unreadable]

    @classmethod
    def survey(cls, paths: list[Path]) -> "Files":
        """Look at the head or foot of each file.

        Raises
        ------
        SourceError
            If no file can be read, or one has a column of another type than the files before it.
        """
        schema, faults = pa.schema([]), {}
        for path in paths:
            try:
                found = _schema(path)
            except (pa.ArrowException, OSError, ValueError) as err:
                faults[path] = on_one_line(err)
            else:
                schema = _unite(schema, found, path)
        broken = _describe(paths, faults)
        if len(broken) == len(paths):
            raise broken[paths[0]].error()
        return cls(paths, schema, broken)

    def pieces(self, request: Request) -> Iterator[Piece]:
        """Yield all files, one after the other."""
        schema = _wanted_schema(self.schema, request)
        dictionary = [f.name for f in schema if f.type == _TEXTS]
        for path in self.paths:
            if path in self.broken:
                yield self.broken[path]
                continue
            with _reading(path):
                for piece in _read(path, request, schema.names, dictionary):
                    yield _conform(piece, schema) if isinstance(piece, Chunk) else piece


@dataclass(frozen=True)
class OneTable:
    """A source that is one table in memory, of a name."""

    table: pa.Table
    name: str

    @property
    def schema(self) -> pa.Schema:
        """Of every batch."""
        return self.table.schema

    @property
    def broken(self) -> dict[Path, Unreadable]:
        """Nothing: what is in memory can be read."""
        return {}

    def pieces(self, request: Request) -> Iterator[Piece]:
        """Yield the table in batches."""
        schema = _wanted_schema(self.schema, request)
        for start in range(0, self.table.num_rows, request.rows):
            table = self.table.slice(start, request.rows)
            numbers = np.arange(start, start + table.num_rows)
            yield _conform(Chunk(SourceBatch(table, self.name, numbers)), schema)


def _schema(path: Path) -> pa.Schema:
    if is_csv(str(path)):
        return pa.schema([(name, pa.string()) for name in parsing.read_header(path)])
    return decoding.read_schema(path)


def _unite(common: pa.Schema, schema: pa.Schema, path: Path) -> pa.Schema:
    twice = sorted({n for n in schema.names if schema.names.count(n) > 1})
    if twice:
        raise SourceError(
            f"{str(path)!r} has more than one column {', '.join(map(repr, twice))}.",
            "Give each column a name of its own.",
        )
    try:
        return pa.unify_schemas([common, schema], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as err:
        raise SourceError(
            f"{str(path)!r} does not fit the files before it: {err}",
            "Write the files with one schema, or take it out of source.path.",
        ) from err


def _describe(paths: list[Path], faults: dict[Path, str]) -> dict[Path, Unreadable]:
    """Describe broken files, with as many rows as the others hold in as many bytes."""
    if not faults:
        return {}
    sound = [p for p in paths if p not in faults]
    size, rows = sum(p.stat().st_size for p in sound), sum(map(_rows, sound))
    return {
        path: Unreadable(
            "unreadable_file",
            str(path),
            None,
            max(1, round(_size(path) * rows / size)) if size else 1,
            reason,
            reason,
        )
        for path, reason in faults.items()
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _rows(path: Path) -> float:
    if is_csv(str(path)):
        return parsing.estimate_rows(path)
    return decoding.read_footer(path).num_rows


def _wanted_schema(schema: pa.Schema, request: Request) -> pa.Schema:
    fields = [f for f in schema if request.columns is None or f.name in request.columns]
    return pa.schema(
        [
            f.with_type(_TEXTS)
            if f.name in request.dictionary and decoding.holds_text(f.type)
            else f
            for f in fields
        ]
    )


def _read(path: Path, request: Request, names: list[str], dictionary: list[str]) -> Iterator[Piece]:
    if is_csv(str(path)):
        return parsing.read_rows(path, names)
    return decoding.read_groups(path, request.rows, names, dictionary, request.sieve)


def _conform(chunk: Chunk, schema: pa.Schema) -> Chunk:
    """Give rows all columns of a schema, in its order and of its types."""
    table = chunk.batch.table
    if not table.schema.equals(schema):
        present = set(table.schema.names)
        columns = [
            table.column(f.name).cast(f.type) if f.name in present else pa.nulls(len(table), f.type)
            for f in schema
        ]
        table = pa.table(columns, schema)
    table = table.replace_schema_metadata(None)
    return replace(chunk, batch=replace(chunk.batch, table=table))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as err:
        raise cannot_read(str(path), on_one_line(err)) from err
