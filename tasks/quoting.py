"""Quoting: where the rows of a CSV file begin and end, however its quotes are broken."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

# A value that goes on for more lines than this is a quote that somebody forgot to close.
_MOST_LINES = 1000
_QUOTED = rb'"(?:[^"]++|"")*+"'


class Row(NamedTuple):
    """The text of one row, and what is wrong with it, if anything."""

    text: bytes
    fault: str | None


@dataclass(frozen=True)
class Dialect:
    """How the values of a row are told apart.

    Quotes count only where a value begins, and a quote within a quoted value is written twice.
    """

    separator: bytes

    @cached_property
    def _closed(self) -> re.Pattern[bytes]:
        return re.compile(rb"(?:^|(?<=%s))%s" % (self.separator, _QUOTED))

    @cached_property
    def _opened(self) -> re.Pattern[bytes]:
        return re.compile(rb'(?:^|(?<=%s))"' % self.separator)

    @cached_property
    def _tidy(self) -> re.Pattern[bytes]:
        return re.compile(
            rb"(?:^|(?<=%s))%s(?=%s|[\r\n]*\Z)" % (self.separator, _QUOTED, self.separator)
        )

    def closes_quotes(self, text: bytes) -> bool:
        """Tell whether no quoted value goes on beyond the end of the text."""
        return b'"' not in text or self._opened.search(self._closed.sub(b"", text)) is None

    def _is_row(self, text: bytes, values: int) -> bool:
        """Tell whether a text is a row of so many values, all its quotes in their right place."""
        bare = self._tidy.sub(b"", text)
        return b'"' not in bare and bare.count(self.separator) == values - 1

    def rows(self, block: bytes, values: int, final: bool) -> tuple[list[Row], bytes]:
        """Tell the rows of a block of lines apart; empty lines are none.

        A quoted value may go on over several lines. Where one of these is a whole row by itself,
        or there is no end in sight, the quote was never closed: then only the line it is in is
        broken, and the next one is a row again.

        Parameters
        ----------
        values
            How many values a row should have.
        final
            Whether the file ends with the block.

        Returns
        -------
        tuple
            The rows, and the end of the block where a row may go on beyond it.
        """
        lines = block.splitlines(keepends=True)
        rows: list[Row] = []
        at = 0
        while at < len(lines):
            count, fault = 1, _fault(lines[at])
            if not self.closes_quotes(lines[at]):
                found = self._reach(lines[at : at + _MOST_LINES], values)
                if found is None and not final and 0 < at > len(lines) - _MOST_LINES:
                    return rows, b"".join(lines[at:])
                count = found or 1
                fault = _fault(b"".join(lines[at : at + count])) if found else "an unclosed quote"
            text = b"".join(lines[at : at + count])
            at += count
            if text.strip(b"\r\n"):
                rows.append(Row(text, fault))
        return rows, b""

    def _reach(self, lines: list[bytes], values: int) -> int | None:
        """Return how many lines a row takes; 0 if its quote was never closed, None if unknown."""
        text = lines[0]
        for i, line in enumerate(lines[1:], 2):
            if self._is_row(line, values):
                return 0
            text += line
            if b'"' in line and self.closes_quotes(text):
                return i if self._is_row(text, values) else 0
        return None


def _fault(text: bytes) -> str | None:
    try:
        text.decode()
    except UnicodeDecodeError as err:
        return f"byte {err.start} is not UTF-8"
    return None
