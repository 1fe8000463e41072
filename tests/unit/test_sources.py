"""Sources read leniently: what is broken is named with its place, and all else comes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import parsing, sources
from tasks.sources import SourceBatch, Unreadable
from twinloop.errors import ColumnError, SourceError
from twinloop.window import Window
from twinloop.workload import Workload

START = datetime(2024, 1, 1, tzinfo=UTC)
HEAD = b"at,y\n"
Read = Callable[..., tuple[list[tuple[int, Any]], list[Unreadable]]]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Provide an empty folder for the files of a source."""
    return tmp_path


@pytest.fixture
def workload(raw: Path) -> Workload:
    """Provide a workload that reads the files of that folder."""
    return Workload.model_validate(
        {
            "name": "w",
            "task": "regression",
            "source": {"kind": "files", "path": f"{raw}/*"},
            "time": "at",
            "target": "y",
        }
    )


@pytest.fixture
def read(workload: Workload) -> Read:
    """Provide a reader: places and numbers of rows, and what could not be read."""

    def call(window: Window | None = None, **more: Any) -> Any:
        pieces = list(sources.read_pieces(workload, window, 1000, **more))
        rows = [
            (number, y if y is None else int(y))
            for p in pieces
            if isinstance(p, SourceBatch)
            for number, y in zip(p.numbers.tolist(), p.table.column("y").to_pylist(), strict=True)
        ]
        return rows, [p for p in pieces if isinstance(p, Unreadable)]

    return call


def window_of(start: int, end: int) -> Window:
    """Return a window from one hour after the start to another."""
    return Window(start=START + timedelta(hours=start), end=START + timedelta(hours=end))


def lines(*hours: int) -> bytes:
    """Return rows whose number is the hour of their time."""
    return b"".join(b"2024-01-01T%02d:00,%d\n" % (hour, hour) for hour in hours)


@pytest.mark.parametrize(
    ("line", "reason", "text"),
    [
        (b"1", "1 values where 2 were expected", "1"),
        (b"1,2,3", "3 values where 2 were expected", "1,2,3"),
        (b'1,"2', "an unclosed quote", '1,"2'),
        (b"1,\xff", "byte 2 is not UTF-8", "1,\\xff"),
        (b"\0" * 5000, "1 values where 2 were expected", "\0" * 1000),
        (b'1"' * 3000 + b",,", "3 values where 2 were expected", '1"' * 500),
    ],
)
def test_a_broken_row_is_named_with_its_text(
    raw: Path, read: Read, line: bytes, reason: str, text: str
) -> None:
    """It has a place like any other row, and the row after it is the next."""
    (raw / "a.csv").write_bytes(HEAD + lines(0) + line + b"\n\n" + lines(2))
    place = str(raw / "a.csv")
    broken = Unreadable("unreadable_row", place, 1, 1, reason, text)
    assert read() == ([(0, 0), (2, 2)], [broken])


@pytest.mark.parametrize(
    ("content", "rows", "broken"),
    [
        (b'a,"0\n' + lines(1) + b'b"\n' + lines(3), [(1, 1), (3, 3)], [(0, 'a,"0'), (2, 'b"')]),
        (b'a,"0\n' + lines(1) + b'b",2\n', [(1, 1), (2, 2)], [(0, 'a,"0')]),
        (lines(0) + b'a,"1\n\n', [(0, 0)], [(1, 'a,"1')]),
        (lines(0) + b'a,"1', [(0, 0)], [(1, 'a,"1')]),
    ],
)
def test_an_unclosed_quote_takes_no_rows_with_it(
    raw: Path,
    read: Read,
    content: bytes,
    rows: list[tuple[int, int]],
    broken: list[tuple[int, str]],
) -> None:
    """Not where another quote would close it lines later, and not at the end of the file."""
    (raw / "a.csv").write_bytes(HEAD + content)
    found, unreadable = read()
    assert found == rows
    assert [(u.number, u.text) for u in unreadable] == broken


def test_training_hears_of_damage_outside_its_window(raw: Path, workload: Workload) -> None:
    """Whoever wants all rows or none wants a sound source."""
    hours = [0, 1, 8, 9]
    table = pa.table({"at": [START + timedelta(hours=h) for h in hours], "y": hours})
    path = raw / "a.parquet"
    pq.write_table(table, path, row_group_size=2, write_page_checksum=True, use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"row 2 \(the first one is 0\): row group 1: "):
        sources.read_window(workload, window_of(0, 4))
    (piece,) = sources.read_pieces(workload, window_of(0, 4), 10)
    assert isinstance(piece, SourceBatch)


@pytest.mark.parametrize("size", [16, 40, 64, 2**20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_rows_are_the_same_however_a_file_is_cut_into_blocks(
    raw: Path, workload: Workload, monkeypatch: pytest.MonkeyPatch, size: int, end: bytes
) -> None:
    """Line ends, values of several lines and broken rows may lie across two blocks."""
    monkeypatch.setattr(parsing, "_BLOCK", size)
    rows = [
        b"a,1",
        b"",
        b'"b\nb",2',
        b"c",
        b"\xef\xbb\xbfd,4",
        b'"e',
        b"f,6",
        b'"\xff\ng",7',
        b"h,8",
    ]
    content = end.join([b"\xef\xbb\xbfat,y", *rows])
    (raw / "a.csv").write_bytes(content)
    pieces = list(sources.read_pieces(workload, None, 2))
    found = {
        n: tuple(row.values())
        for p in pieces
        if isinstance(p, SourceBatch)
        for n, row in zip(p.numbers.tolist(), p.table.to_pylist(), strict=True)
    }
    assert found == {
        0: ("a", "1"),
        1: ("b\nb", "2"),
        3: ("\ufeffd", "4"),
        5: ("f", "6"),
        7: ("h", "8"),
    }
    assert [p.number for p in pieces if isinstance(p, Unreadable)] == [2, 4, 6]


def test_a_row_longer_than_can_be_held_is_one_row(
    raw: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named by its beginning, and reading goes on behind it."""
    monkeypatch.setattr(parsing, "_BLOCK", 100)
    (raw / "a.csv").write_bytes(HEAD + lines(0) + b"9," + b"x" * 950 + b"\n" + lines(2))
    rows, (broken,) = read()
    assert rows == [(0, 0), (2, 2)]
    assert (broken.number, broken.reason) == (1, "longer than 100 bytes")
    assert broken.text.startswith("9,xxx")


def test_broken_rows_go_with_the_row_before_them(raw: Path, read: Read) -> None:
    """The first ones go with the first row that has a time."""
    (raw / "a.csv").write_bytes(HEAD + b"a\n" + lines(0) + b"b\nsoon,7\n" + lines(5) + b"c\n")
    rows, broken = read(window_of(0, 4))
    assert rows == [(1, 0), (3, 7)]
    assert [u.number for u in broken] == [0, 2]
    rows, broken = read(window_of(4, 8))
    assert (rows, [u.text for u in broken]) == ([(4, 5)], ["c"])


@pytest.mark.parametrize("content", [b"", b"PAR1 this is no table", b"PAR1"])
def test_a_broken_file_is_one_piece_of_damage(raw: Path, read: Read, content: bytes) -> None:
    """It is counted by its size, and lies in the windows that the files around it leave open."""
    for name, hours in (("a", range(4)), ("c", range(12, 16))):
        at = [START + timedelta(hours=h) for h in hours]
        pq.write_table(pa.table({"at": at, "y": list(hours)}), raw / f"{name}.parquet")
    size = (raw / "a.parquet").stat().st_size
    (raw / "b.parquet").write_bytes(content.ljust(2 * size) if content else b"")
    rows, (broken,) = read()
    assert [y for _, y in rows] == [*range(4), *range(12, 16)]
    assert (broken.code, broken.number) == ("unreadable_file", None)
    assert broken.rows == (8 if content else 1)
    assert read(window_of(0, 3)) == ([(0, 0), (1, 1), (2, 2)], [])
    assert read(window_of(5, 6)) == ([], [broken])
    assert read(window_of(13, 14)) == ([(1, 13)], [])


def test_a_csv_file_without_header_is_broken(raw: Path, read: Read, workload: Workload) -> None:
    """So is one whose header is no text or has an unclosed quote; one without rows is sound."""
    (raw / "a.csv").write_bytes(HEAD + lines(1, 2, 3))
    (raw / "b.csv").write_bytes(HEAD)
    for name, content in (("c", b""), ("d", b"at,\xff\n"), ("e", b'at,"y\n1,2\n')):
        (raw / f"{name}.csv").write_bytes(content)
    rows, broken = read()
    assert rows == [(0, 1), (1, 2), (2, 3)]
    assert [Path(u.file).stem for u in broken] == ["c", "d", "e"]
    with pytest.raises(SourceError, match=r"c\.csv' as CSV: it is empty"):
        sources.read_window(workload, window_of(0, 9))
    windows = [window_of(-9, 1), window_of(1, 2), window_of(2, 9), window_of(9, 12)]
    assert sources.with_rows(workload, windows) == windows[1:3]


def test_damage_is_told_on_one_line(raw: Path, read: Read, workload: Workload) -> None:
    """Whatever Arrow says; a report of it is a list."""
    write = pa.table({"at": [START], "y": [1]})
    pq.write_table(write, raw / "a.parquet")
    pq.write_table(write, raw / "b.parquet")
    content = bytearray((raw / "a.parquet").read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[footer:-8] = bytes([0x15] * (len(content) - 8 - footer))
    (raw / "a.parquet").write_bytes(content)
    _, (broken,) = read()
    assert "thrift" in broken.reason
    assert "\n" not in broken.reason + str(broken.error())


def test_a_source_of_broken_files_alone_is_refused(raw: Path, read: Read) -> None:
    """Where nothing can be read there is nothing to go on with."""
    (raw / "a.csv").write_bytes(b"")
    (raw / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=r"a\.csv"):
        read()


def test_files_that_disagree_on_a_type_are_refused(raw: Path, read: Read) -> None:
    """A conflict of schemas is no matter of single rows."""
    for name, y in (("a", [1]), ("b", ["one"])):
        pq.write_table(pa.table({"at": [START], "y": y}), raw / f"{name}.parquet")
    with pytest.raises(SourceError, match="does not fit the files before it"):
        read()


def test_a_source_without_its_time_is_refused(raw: Path, read: Read) -> None:
    """Even where there are no rows."""
    (raw / "a.csv").write_bytes(b"when,y\n")
    with pytest.raises(ColumnError, match="no column 'at'"):
        read()


def test_text_that_is_none_breaks_its_row_in_parquet_too(raw: Path, read: Read) -> None:
    """A writer that does not look puts bytes that are no UTF-8 into a column of text."""
    texts = pa.array([b"a", b"\xff", b"c"])
    texts = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    table = pa.table({"at": [START] * 3, "y": [0, 1, 2], "s": texts})
    pq.write_table(table, raw / "a.parquet", store_schema=False)
    for dictionary in ([], ["s"]):
        rows, (broken,) = read(dictionary=dictionary)
        assert rows == [(0, 0), (2, 2)]
        assert (broken.code, broken.number, broken.rows) == ("unreadable_row", 1, 1)
        assert "column 's'" in broken.reason


def test_dictionaries_are_of_one_type_in_all_files(raw: Path, workload: Workload) -> None:
    """Whatever kind of text a file holds, and where it lacks the column; numbers stay numbers."""
    kinds = [pa.string(), pa.large_string()]
    for i, kind in enumerate(kinds):
        table = pa.table({"at": [START] * 3, "y": [0, 1, 2], "s": pa.array(["a", "b", None], kind)})
        pq.write_table(table, raw / f"{i}.parquet")
    pq.write_table(pa.table({"at": [START], "y": [3]}), raw / "2.parquet")
    found = list(sources.read_pieces(workload, None, 2, dictionary=["s", "y", "none"]))
    tables = [p.table for p in found if isinstance(p, SourceBatch)]
    for table in tables:
        assert table.schema.field("s").type == pa.dictionary(pa.int32(), pa.string())
        assert table.schema.field("y").type == pa.int64()
    values = [v for t in tables for v in t.column("s").to_pylist()]
    assert values == ["a", "b", None] * 2 + [None]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_only_the_columns_asked_for_are_read(raw: Path, workload: Workload, name: str) -> None:
    """And the time; a column that no file has is left out."""
    if name == "a.csv":
        (raw / name).write_bytes(b"k,at,y\n1,2024-01-01,3\n")
    else:
        pq.write_table(pa.table({"k": [1], "at": [START], "y": [3]}), raw / name)
    for columns, expected in (((), ["at"]), (("k",), ["k", "at"]), (("gone",), ["at"])):
        (piece,) = sources.read_pieces(workload, window_of(0, 1), 10, columns=columns)
        assert isinstance(piece, SourceBatch)
        assert piece.table.schema.names == expected
        (table,) = sources.read_batches(workload, None, 10, columns=columns)
        assert table.schema.names == expected


@pytest.mark.parametrize("hour", ["1e300", "inf", "-9999999", "99999999999"])
def test_an_hour_beyond_all_days_is_no_time(raw: Path, workload: Workload, hour: str) -> None:
    """The row goes with the one before it, for the contract to name."""
    (raw / "a.csv").write_text(f"day,hr,y\n2024-01-01,1,0\n2024-01-01,{hour},1\n")
    files = {"kind": "files", "path": f"{raw}/*", "time_from": {"date": "day", "hour": "hr"}}
    made = Workload.model_validate(workload.model_dump() | {"source": files})
    (piece,) = sources.read_pieces(made, window_of(0, 4), 10)
    assert isinstance(piece, SourceBatch)
    assert piece.table.column("at").to_pylist() == [START + timedelta(hours=1), None]


def test_a_window_without_rows_is_told_of_a_broken_source_too(
    raw: Path, workload: Workload
) -> None:
    """The error names the times that can be read, and written."""
    micros = [int(START.timestamp() * 1e6), None, 2**62]
    at = pa.array(micros, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"at": at, "y": [0, 1, 2]}), raw / "a.parquet")
    (raw / "b.parquet").write_bytes(b"PAR1")
    error = sources.no_rows(workload, window_of(5, 6))
    assert "from 2024-01-01 00:00 to 2024-01-01 00:00 UTC" in str(error)


def test_a_source_without_files_is_read_alike() -> None:
    """Simulated rows have places too, and say where they come from."""
    made = Workload.model_validate(
        {
            "name": "w",
            "task": "regression",
            "source": {"kind": "simulated", "hours": 50, "start": START},
            "time": "timestamp",
            "target": "rentals",
        }
    )
    pieces = list(sources.read_pieces(made, window_of(10, 40), 20))
    assert all(isinstance(p, SourceBatch) for p in pieces)
    assert {p.file for p in pieces} == {sources.origin(made)}
    assert [n for p in pieces if isinstance(p, SourceBatch) for n in p.numbers] == [*range(10, 40)]
