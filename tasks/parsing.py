"""Parsing: CSV files row by row, where a broken row takes no other row with it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from tasks.pieces import Chunk, SourceBatch, Unreadable, unreadable_row
from tasks.quoting import Dialect, Row

# Bytes read at once, and the longest row there can be.
_BLOCK = 2**20
_SAMPLE = 2**16


def read_header(path: Path) -> list[str]:
    """Return the names of the columns.

    Raises
    ------
    ValueError
        If there is no header that can be read; errors of Arrow and of Unicode are of this kind.
    """
    with path.open("rb") as file:
        return _header(file, _dialect(path))


def estimate_rows(path: Path) -> float:
    """Estimate how many rows a file holds, from its size and its first lines."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    lines = _count_lines(sample)
    return path.stat().st_size / len(sample) * lines - 1 if lines else 0.0


def read_rows(path: Path, columns: list[str]) -> Iterator[Chunk | Unreadable]:
    """Yield the rows of a file block by block, every column as text.

    Parameters
    ----------
    columns
        Which to read; those that the file lacks are left out.
    """
    with path.open("rb") as file:
        dialect = _dialect(path)
        names = _header(file, dialect)
        parser = _Parser(str(path), names, [n for n in names if n in columns], dialect)
        rest, place, final = b"", 0, False
        while not final:
            data = file.read(_BLOCK)
            final = len(data) < _BLOCK
            rest += data
            cut = len(rest) if final else 1 + max(rest.rfind(b"\n"), rest.rfind(b"\r"))
            if cut == 0 and not final:
                yield unreadable_row(str(path), place, f"longer than {_BLOCK} bytes", rest)
                place += 1
                rest = _skip_line(file)
                continue
            chunk, count, carried = parser.parse(rest[:cut], place, final)
            rest = carried + rest[cut:]
            place += count
            if chunk is not None:
                yield chunk


def _dialect(path: Path) -> Dialect:
    return Dialect(b"\t" if path.suffix == ".tsv" else b",")


def _header(file: BinaryIO, dialect: Dialect) -> list[str]:
    """Read the names of the columns, and leave the file where its rows begin."""
    first = b"".join(file.readline(_BLOCK).splitlines(keepends=True)[:1])
    if not first.strip():
        raise ValueError("it is empty; expected a header and rows")
    if not dialect.closes_quotes(first):
        raise ValueError(f"an unclosed quote in the header {first[:100]!r}")
    file.seek(len(first))
    parsing = pa_csv.ParseOptions(delimiter=dialect.separator.decode())
    return list(pa_csv.read_csv(pa.BufferReader(first), parse_options=parsing).schema.names)


def _skip_line(file: BinaryIO) -> bytes:
    """Read up to the next end of a line, and return what was read behind it."""
    while data := file.read(_BLOCK):
        end = re.search(rb"[\r\n]", data)
        if end:
            return data[end.start() :]
    return b""


def _count_lines(block: bytes) -> int:
    """Count the lines that are not empty."""
    return sum(map(bool, block.splitlines()))


@dataclass(frozen=True)
class _Parser:
    """Blocks of whole lines to rows; every column is text.

    What a column is shows on all its rows, never on the first block.
    """

    file: str
    names: list[str]
    columns: list[str]
    dialect: Dialect

    def parse(self, block: bytes, place: int, final: bool) -> tuple[Chunk | None, int, bytes]:
        """Parse a block whose first row has this place.

        Returns
        -------
        tuple
            The rows, if there are any; how many; and the end of the block where a row may go on
            beyond it.
        """
        count = _count_lines(block)
        if count and self._is_plain(block):
            table, bad = self._read(block)
            # Then every line is a row: no quote has swallowed the lines after it.
            if table.num_rows + len(bad) == count:
                return self._chunk(table, bad, place), count, b""
        rows, carried = self.dialect.rows(block, len(self.names), final)
        if not rows:
            return None, 0, carried
        good = [i for i, row in enumerate(rows) if row.fault is None]
        table, bad = self._read(b"".join(rows[i].text for i in good))
        if table.num_rows + len(bad) != len(good):
            raise pa.ArrowInvalid(f"the rows from {place} on cannot be told apart")
        bad = {good[i]: row for i, row in bad.items()}
        bad |= {i: row for i, row in enumerate(rows) if row.fault is not None}
        return self._chunk(table, bad, place), len(rows), carried

    def _is_plain(self, block: bytes) -> bool:
        """Tell whether a block is text, and its last line closes its quotes."""
        try:
            block.decode()
        except UnicodeDecodeError:
            return False
        text = block.rstrip(b"\r\n")
        return self.dialect.closes_quotes(text[1 + max(text.rfind(b"\n"), text.rfind(b"\r")) :])

    def _read(self, block: bytes) -> tuple[pa.Table, dict[int, Row]]:
        """Return the rows of as many values as there are names, and the fault of each other row."""
        wanted = self.columns or self.names[:1]
        bad: dict[int, Row] = {}

        def keep(row: pa_csv.InvalidRow) -> str:
            fault = f"{row.actual_columns} values where {row.expected_columns} were expected"
            bad[row.number - 1] = Row(row.text.encode(), fault)
            return "skip"

        # An empty line before the block: Arrow would take a byte order mark off its beginning.
        table = pa_csv.read_csv(
            pa.BufferReader(b"\n" + block),
            pa_csv.ReadOptions(
                use_threads=False, block_size=len(block) + 2, column_names=self.names
            ),
            pa_csv.ParseOptions(
                delimiter=self.dialect.separator.decode(), invalid_row_handler=keep
            ),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.string()),
                include_columns=wanted,
                strings_can_be_null=True,
                check_utf8=False,
            ),
        )
        return table, bad

    def _chunk(self, table: pa.Table, bad: dict[int, Row], place: int) -> Chunk:
        """Give rows their places; the first of the block has this one, `bad` counts from it."""
        numbers = np.delete(np.arange(place, place + table.num_rows + len(bad)), sorted(bad))
        unreadable = [
            unreadable_row(self.file, place + i, row.fault or "", row.text)
            for i, row in sorted(bad.items())
        ]
        return Chunk(SourceBatch(table, self.file, numbers), tuple(unreadable))
