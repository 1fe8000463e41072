"""Dirty sources: whatever happens to a file, every row is read as it is or named with its place."""

import csv
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks import sources
from tasks.sources import SourceBatch, Unreadable
from twinloop.errors import SourceError, TwinloopError
from twinloop.window import Window
from twinloop.workload import Workload

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 90
TABLE = pa.table(
    {
        "at": pa.array(
            [START + timedelta(hours=i) for i in range(ROWS)], pa.timestamp("us", "UTC")
        ),
        "y": pa.array(range(ROWS)),
        "level": [None if i % 7 == 0 else "abc"[i % 3] for i in range(ROWS)],
        "note": [f"note {i}" for i in range(ROWS)],
    }
)
Pieces = list[SourceBatch | Unreadable]


@contextmanager
def source(name: str, content: bytes, date: str | None = None) -> Iterator[Workload]:
    """Provide a workload whose source is one file of this content; the time may be in `date`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        yield Workload.model_validate(
            {
                "name": "w",
                "task": "regression",
                "source": {"kind": "files", "path": f"{folder}/*"}
                | ({} if date is None else {"time_from": {"date": date}}),
                "time": "at",
                "target": "y",
            }
        )


def rows_of(pieces: Pieces) -> dict[int, dict[str, object]]:
    """Return the rows that were read by their place; no place comes twice."""
    found: dict[int, dict[str, object]] = {}
    for piece in pieces:
        if isinstance(piece, SourceBatch):
            assert len(piece.numbers) == piece.table.num_rows > 0
            for number, row in zip(piece.numbers.tolist(), piece.table.to_pylist(), strict=True):
                assert number not in found
                found[number] = row
    return found


def unreadable(pieces: Pieces) -> list[int]:
    """Return the places of what could not be read."""
    return [
        number
        for p in pieces
        if isinstance(p, Unreadable) and p.number is not None
        for number in range(p.number, p.number + p.rows)
    ]


def parquet() -> bytes:
    """Return a file of three row groups with checksums, where nothing else would tell of a flip."""
    sink = io.BytesIO()
    pq.write_table(
        TABLE,
        sink,
        row_group_size=30,
        write_page_checksum=True,
        compression="none",
        use_dictionary=["level"],
    )
    return sink.getvalue()


PARQUET = parquet()
FOOTER = len(PARQUET) - 8 - int.from_bytes(PARQUET[-8:-4], "little")

CELLS = st.none() | st.sampled_from(
    ["plain", "with, comma", 'with "quotes"', "two\nlines", "ä", " ", "x"]
)


def csv_lines(cells: list[str | None], end: str = "\n") -> list[bytes]:
    """Write rows of a time, their number and a cell as the standard library does."""
    lines = []
    for i, cell in enumerate(cells):
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator=end)
        writer.writerow(
            [(START + timedelta(hours=i)).isoformat(), i, "NULL" if cell is None else cell]
        )
        lines.append(sink.getvalue().encode())
    return lines


@st.composite
def mutated(draw: st.DrawFn, content: bytes, begin: int, end: int) -> bytes:
    """Draw a content with one piece of damage between two places."""
    at = draw(st.integers(begin, end - 1))
    some = draw(st.binary(min_size=1, max_size=6) | st.sampled_from([b'"', b"\0", b"\xff", b"\r"]))
    width = draw(st.integers(1, 6))
    flipped = bytes([content[at] ^ 1 << draw(st.integers(0, 7))])
    return draw(
        st.sampled_from(
            [
                content[:at],
                content[:at] + flipped + content[at + 1 :],
                content[:at] + some + content[at:],
                content[:at] + content[at + width :],
                content[:at] + bytes(len(content) - at),
                content.replace(b"\n", b""),
                content.replace(b"\n", b"\r\n"),
            ]
        )
    )


@given(st.data(), st.lists(CELLS, min_size=1, max_size=8))
def test_any_csv_is_read_row_by_row_or_refused(
    data: st.DataObject, cells: list[str | None]
) -> None:
    """Each place holds a row or is named once; those who want all rows get all of them or none."""
    content = b"at,y,note\n" + b"".join(csv_lines(cells))
    content = data.draw(mutated(content, 0, len(content)))
    with source("a.csv", content) as workload:
        try:
            pieces = list(sources.read_pieces(workload, None, 3))
        except TwinloopError:
            with pytest.raises(TwinloopError):
                list(sources.read_batches(workload, None, 3))
            return
        found, broken = rows_of(pieces), unreadable(pieces)
        assert sorted([*found, *broken]) == list(range(len(found) + len(broken)))
        if broken:
            with pytest.raises(SourceError, match=f"row {broken[0]} "):
                list(sources.read_batches(workload, None, 3))
        else:
            batches = sources.read_batches(workload, None, 3)
            assert [r for b in batches for r in b.to_pylist()] == list(found.values())


@given(st.data(), st.lists(CELLS, min_size=2, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_a_broken_line_takes_no_other_row_with_it(
    data: st.DataObject, cells: list[str | None], end: str
) -> None:
    """Rows before and after a line that was damaged come unchanged and with their places."""
    lines = csv_lines(cells, end)
    single = [i for i, line in enumerate(lines) if len(line.splitlines()) == 1]
    if not single:
        return
    hit = data.draw(st.sampled_from(single))
    line = lines[hit].rstrip(b"\r\n")
    at = data.draw(st.integers(0, len(line)))
    some = data.draw(st.sampled_from([b'"', b',"', b"\0", b"\xff", b",", b'""', b"\xc3"]))
    cut = data.draw(st.booleans())
    damaged = line[:at] + some + (b"" if cut else line[at:]) + end.encode()
    content = b"at,y,note\n" + b"".join([*lines[:hit], damaged, *lines[hit + 1 :]])
    with source("a.csv", content) as workload:
        pieces = list(sources.read_pieces(workload, None, 3))
    found = rows_of(pieces)
    assert {hit} >= set(unreadable(pieces))
    assert set(found) | set(unreadable(pieces)) == set(range(len(cells)))
    for i, cell in enumerate(cells):
        if i != hit:
            time = (START + timedelta(hours=i)).isoformat()
            assert found[i] == {"at": time, "y": str(i), "note": cell}


@given(mutated(PARQUET, 4, FOOTER))
def test_no_changed_value_of_a_file_with_checksums_is_let_through(content: bytes) -> None:
    """What is read is what was written, in its place, and what is not read is named."""
    with source("a.parquet", content) as workload:
        try:
            pieces = list(sources.read_pieces(workload, None, 20, dictionary=["level"]))
        except SourceError:
            return
    found, written = rows_of(pieces), TABLE.to_pylist()
    assert sorted([*found, *unreadable(pieces)]) == list(range(ROWS))
    assert all(row == written[number] for number, row in found.items())


@given(mutated(PARQUET, FOOTER, len(PARQUET)))
def test_a_damaged_footer_is_no_traceback(content: bytes) -> None:
    """The footer has no checksum: what it says may be wrong, but it is read or refused."""
    with source("a.parquet", content) as workload:
        try:
            rows_of(list(sources.read_pieces(workload, None, 20, dictionary=["level"])))
        except TwinloopError:
            return


TIMES = st.lists(st.sampled_from([None, -1, 0, 3, 4]), min_size=1, max_size=24)


@example([0, 0, None, 4], 2, 1, False).via("a row without a time before others elsewhere")
@example([0, 0, None, 4], 2, 5, True).via("the same where the time is put together")
@given(TIMES, st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_row_groups_left_unread_change_nothing(
    hours: list[int | None], group: int, n_rows: int, in_parts: bool
) -> None:
    """A window holds the same rows whether groups are left out by their time or all are read."""
    at = [None if h is None else START + timedelta(hours=h) for h in hours]
    window = Window(start=START, end=START + timedelta(hours=4))
    table = pa.table({"at": pa.array(at, pa.timestamp("us")), "y": range(len(at))})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group)
    with source("a.parquet", sink.getvalue(), "at" if in_parts else None) as workload:
        whole = [r for b in sources.read_batches(workload, window, 100) for r in b.to_pylist()]
        pieces = list(sources.read_pieces(workload, window, n_rows))
        assert all(len(p.table) <= n_rows for p in pieces if isinstance(p, SourceBatch))
        found = rows_of(pieces)
        assert list(found.values()) == whole
        assert [row["y"] for row in whole] == list(found)
        few = rows_of(list(sources.read_pieces(workload, window, n_rows, columns=())))
        assert list(few) == list(found)
        assert all(set(row) == {"at"} for row in few.values())


@given(st.lists(st.integers(-6, 9), min_size=3, max_size=9), st.data())
def test_damage_is_in_every_window_that_it_may_have_rows_of(
    hours: list[int], data: st.DataObject
) -> None:
    """A group counts unless the rows before and after it, if there are any, lie to one side."""
    hit = data.draw(st.integers(0, len(hours) - 1))
    window = Window(start=START, end=START + timedelta(hours=4))
    table = pa.table({"at": [START + timedelta(hours=h) for h in hours], "y": range(len(hours))})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=1, write_page_checksum=True, compression="none")
    content = bytearray(sink.getvalue())
    column = pq.ParquetFile(sink).metadata.row_group(hit).column(0)
    first = column.dictionary_page_offset or column.data_page_offset
    content[first + column.total_compressed_size - 1] ^= 1
    with source("a.parquet", bytes(content)) as workload:
        pieces = list(sources.read_pieces(workload, window, 5))
    ends = [hours[i] for i in (hit - 1, hit + 1) if 0 <= i < len(hours)]
    late = hit > 0 and min(ends) >= 4
    early = hit < len(hours) - 1 and max(ends) < 0
    assert unreadable(pieces) == ([] if late or early else [hit])
    assert list(rows_of(pieces)) == [i for i, h in enumerate(hours) if i != hit and 0 <= h < 4]
