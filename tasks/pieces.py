"""Pieces: what reading a source hands on, rows and what could not be read."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from twinloop.errors import SourceError

Damage = Literal["unreadable_row", "unreadable_rows", "unreadable_file"]
_LONGEST_TEXT, _LONGEST_QUOTE = 1000, 100


@dataclass(frozen=True)
class SourceBatch:
    """Rows that were read.

    Attributes
    ----------
    table
        The rows, shape (n_rows, n_columns).
    file
        Path of the file they lie in; for tables that lie in none, what the source is called.
    numbers : np.ndarray of int64, shape (n_rows,)
        Place of each row in its file; 0 is the first row of data.
    """

    table: pa.Table
    file: str
    numbers: np.ndarray


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rows that are there and could not be read.

    Attributes
    ----------
    code
        Whether it is one row, a damaged row group of a Parquet file, or a whole file.
    file
        Path of the file.
    number
        Place of the first row in its file; 0 is the first row of data; None for a whole file.
    rows
        How many rows; of a whole file an estimate from its size.
    reason
        What is wrong with it.
    text
        The row as it is written, at most 1,000 characters; the reason where there is no text.
    """

    code: Damage
    file: str
    number: int | None
    rows: int
    reason: str
    text: str

    def error(self) -> SourceError:
        """Return the error for those who want all rows or none."""
        place = "" if self.number is None else f"row {self.number} (the first one is 0): "
        text = "" if self.text == self.reason else f": {self.text[:_LONGEST_QUOTE]!r}"
        return cannot_read(self.file, f"{place}{self.reason}{text}")


def cannot_read(file: str, reason: str) -> SourceError:
    """Return the error for a file that cannot be read, or not all of it."""
    return SourceError(
        f"cannot read {file!r} as {'CSV' if is_csv(file) else 'Parquet'}: {reason}",
        "Is it complete and of that format? Restore it, or take it out of source.path.",
    )


def on_one_line(error: Exception) -> str:
    """Return what an error says, which with Arrow may end in a new line."""
    return " ".join(str(error).split())


def unreadable_row(file: str, number: int, reason: str, text: bytes = b"") -> Unreadable:
    """Describe one row that could not be read; bytes that are no text are shown in escapes."""
    if not text:
        return Unreadable("unreadable_row", file, number, 1, reason, reason)
    shown = text[: 4 * _LONGEST_TEXT].decode("utf-8", "backslashreplace").rstrip("\r\n")
    return Unreadable("unreadable_row", file, number, 1, reason, shown[:_LONGEST_TEXT])


@dataclass(frozen=True)
class Chunk:
    """Rows as they lie in a file, and rows among them that could not be read."""

    batch: SourceBatch
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True)
class Elsewhere:
    """Rows left unread, since all lie outside the window.

    Attributes
    ----------
    first, last
        Times of the first and of the last row that has one, microseconds since 1970, UTC.
    rows
        How many.
    """

    first: int
    last: int
    rows: int


Piece = Chunk | Unreadable | Elsewhere


def is_csv(path: str) -> bool:
    """Tell whether a file is read as CSV, by the ending of its name."""
    return path.endswith((".csv", ".tsv", ".txt"))
