"""Storage: a source reads the same however it is cut into files; the lake is whole or untouched."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import sources, storage
from twinloop.errors import EmptyWindowError, SourceError, StorageError, WorkloadError
from twinloop.window import Window
from twinloop.workload import Workload

START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(hours=4))


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide an empty folder for the files of a source."""
    monkeypatch.setenv("TWINLOOP_HOME", str(tmp_path))
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def workload_of(folder: Path | None = None, **source: Any) -> Workload:
    """Return a workload that reads these files, by default those under home."""
    path = "raw/*" if folder is None else f"{folder}/*"
    return Workload.model_validate(
        {
            "name": "w",
            "task": "regression",
            "source": {"kind": "files", "path": path} | source,
            "time": "at",
            "target": "y",
        }
    )


def rows(hours: list[int | None]) -> pa.Table:
    """Return numbered rows at these hours after the start; None is a time nobody can read."""
    texts = [
        "soon" if hour is None else (START + timedelta(hours=hour)).isoformat() for hour in hours
    ]
    return pa.table({"at": texts, "y": list(range(len(hours)))})


def write(table: pa.Table, path: Path) -> None:
    """Write a table as what the ending of the path says."""
    if path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        pq.write_table(table, path)


def numbers(table: pa.Table) -> list[int]:
    """Return the numbers of the rows, which a CSV file holds as text."""
    return [int(y) for y in table.column("y").to_pylist()]


def read(workload: Workload, window: Window | None, n_rows: int = 100) -> list[int]:
    """Return the numbers of the rows of a window, read a few at a time."""
    batches = list(sources.read_batches(workload, window, n_rows))
    assert all(0 < b.num_rows <= n_rows for b in batches)
    return [y for b in batches for y in numbers(b)]


def neighbours(hours: list[int | None]) -> list[int]:
    """Tell which rows are in the window, one by one: without a time, where the last one was."""
    known = [h for h in hours if h is not None]
    if not known:
        return list(range(len(hours)))
    found, last = [], known[0]
    for i, hour in enumerate(hours):
        last = last if hour is None else hour
        if 0 <= last < 4:
            found.append(i)
    return found


HOURS = st.lists(st.none() | st.integers(-2, 6), min_size=1, max_size=12)


@settings(max_examples=30)
@given(HOURS, st.lists(st.integers(0, 12), max_size=3), st.sampled_from(["csv", "parquet"]))
def test_a_window_is_the_same_however_files_are_cut(
    hours: list[int | None], cuts: list[int], ending: str
) -> None:
    """Rows come in order and each once, and one without a time goes with the one before it."""
    table = rows(hours)
    bounds = [0, *sorted(min(cut, len(hours)) for cut in cuts), len(hours)]
    with tempfile.TemporaryDirectory() as place:
        for i, (a, b) in enumerate(pairwise(bounds)):
            write(table.slice(a, b - a), Path(place) / f"{i}.{ending}")
        workload = workload_of(Path(place))
        assert read(workload, None) == list(range(len(hours)))
        for n_rows in (1, 3, 100):
            assert read(workload, WINDOW, n_rows) == neighbours(hours)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_windows_are_half_open(raw: Path, ending: str) -> None:
    """The first instant belongs to a window, its end to the next; together they are all rows."""
    write(rows([0, 1, 2, 3]), raw / f"a.{ending}")
    two, four = (START + timedelta(hours=h) for h in (2, 4))
    assert read(workload_of(), Window(start=START, end=two)) == [0, 1]
    assert read(workload_of(), Window(start=two, end=four)) == [2, 3]


def test_a_window_without_rows_names_those_there_are(raw: Path) -> None:
    """The error tells from when to when there are rows."""
    write(rows([0, 5]), raw / "a.csv")
    later = Window(start=START + timedelta(days=9), end=START + timedelta(days=10))
    with pytest.raises(EmptyWindowError, match="from 2024-01-01 00:00 to 2024-01-01 05:00 UTC"):
        sources.read_window(workload_of(), later)


def test_a_window_needs_a_time(raw: Path) -> None:
    """Rows without a time have no windows; asked for all, they come."""
    write(rows([0, 5]), raw / "a.csv")
    timeless = workload_of().model_copy(update={"time": None})
    with pytest.raises(WorkloadError, match="has no time column"):
        sources.read_window(timeless, WINDOW)
    assert sources.read_window(timeless, None).num_rows == 2


@pytest.mark.parametrize("hour", [None, "hr"])
def test_time_is_put_together_from_date_and_hour(raw: Path, hour: str | None) -> None:
    """A date and an hour make the time, in place of a column of that name; a gap stays a gap."""
    table = pa.table(
        {"day": ["2024-01-01", "2024-01-02", "never"], "hr": [23, 0, 1], "at": [9, 9, 9]}
    )
    write(table.append_column("y", pa.array([0, 1, 2])), raw / "a.csv")
    workload = workload_of(time_from={"date": "day", "hour": hour})
    (batch,) = sources.read_batches(workload, None, 100)
    wanted = [START + timedelta(hours=23 if hour else 0), START + timedelta(days=1), None]
    assert batch.column("at").to_pylist() == wanted
    assert batch.column("at").type == pa.timestamp("us", "UTC")
    second = Window(start=START + timedelta(days=1), end=START + timedelta(days=2))
    assert read(workload, second) == [1, 2]


def test_csv_files_are_read_alike_whatever_they_look_like(raw: Path) -> None:
    """A column that looks like numbers in one file and words in the next is one column."""
    (raw / "a.csv").write_text("at,y,code\n2024-01-01T00:00,0,007\n")
    (raw / "b.csv").write_text("at,y,code\n2024-01-01T01:00,1,x7\n2024-01-01T02:00,2,\n")
    table = sources.read_window(workload_of(), WINDOW)
    assert table.column("code").to_pylist() == ["007", "x7", None]
    assert numbers(table) == [0, 1, 2]


def test_a_column_that_a_file_lacks_is_null_there(raw: Path) -> None:
    """Columns are matched by name, in whatever order, and integers widen to fractions."""
    write(pa.table({"y": [0], "at": [START]}), raw / "a.parquet")
    write(pa.table({"at": [START], "n": [0.5], "y": [1.0]}), raw / "b.parquet")
    found = sources.read_window(workload_of(), WINDOW).select(["n", "y"]).to_pylist()
    assert found == [{"n": None, "y": 0.0}, {"n": 0.5, "y": 1.0}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "is empty; expected a header and rows"),
        ("a.csv", "at,y,y\n1,2,3\n", "more than one column 'y'"),
        ("a.csv", "at,y\n1,2,3\n", "as CSV"),
        ("a.parquet", "at,y\n1,2\n", "as Parquet"),
        ("a.csv", "when,y\n1,2\n", "no column 'at', which is the time"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    raw: Path, name: str, content: str, words: str
) -> None:
    """The error holds the path and what is wrong with the file."""
    (raw / name).write_text(content)
    with pytest.raises(Exception, match=words) as caught:
        sources.read_window(workload_of(), WINDOW)
    assert str(raw) in str(caught.value)
    assert isinstance(caught.value, SourceError) or "TL220" in str(caught.value)


def test_no_file_is_an_error_that_shows_the_pattern(raw: Path) -> None:
    """A glob that matches nothing is shown whole."""
    with pytest.raises(SourceError, match=r"no file matches '.*/raw/\*'"):
        sources.read_window(workload_of(), None)


def test_the_fingerprint_follows_the_files(raw: Path) -> None:
    """It stays while nothing changes, and changes with a file, its content or the time column."""
    write(rows([0]), raw / "a.csv")
    seen = {sources.fingerprint(workload_of())}
    assert sources.fingerprint(workload_of()) in seen
    seen.add(sources.fingerprint(workload_of().model_copy(update={"time": None})))
    write(rows([0]), raw / "b.csv")
    seen.add(sources.fingerprint(workload_of()))
    write(rows([0, 1]), raw / "b.csv")
    seen.add(sources.fingerprint(workload_of()))
    assert len(seen) == 4


def everything(folder: Path) -> dict[str, str]:
    """Return the files below a folder, hidden ones too, and what they hold."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Where writing fails, the old text stays and nothing lies beside it."""
    path = tmp_path / "deep" / "note.json"
    storage.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        storage.write_text(path, "new \ud800")
    assert everything(tmp_path) == {"deep/note.json": "old"}
    storage.write_text(path, "new")
    assert everything(tmp_path) == {"deep/note.json": "new"}


def test_a_text_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """What the disk refuses is an error with the path, and leaves nothing behind."""
    (tmp_path / "note" / "inner").mkdir(parents=True)
    with pytest.raises(StorageError, match="note"):
        storage.write_text(tmp_path / "note", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


class StopError(Exception):
    """A failure while a folder is filled."""


@contextmanager
def stopped(error: type[BaseException]) -> Iterator[Callable[[], None]]:
    """Expect a failure, and hand out what fails."""

    def fail() -> None:
        raise error("half way")

    with pytest.raises(StorageError if error is OSError else error, match="half way"):
        yield fail


@pytest.mark.parametrize("error", [StopError, OSError, KeyboardInterrupt])
def test_a_folder_left_half_way_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Whatever goes wrong while it is filled, neither it nor what was aside is there."""
    final = tmp_path / "lake" / "snapshot"
    with stopped(error) as fail, storage.new_folder(final) as aside:
        (aside / "rows").write_text("half")
        assert not final.exists()
        fail()
    assert list((tmp_path / "lake").iterdir()) == []


def test_a_folder_appears_whole_and_stays(tmp_path: Path) -> None:
    """It is in place at the end; a second of the same name is dropped for the first."""
    final = tmp_path / "snapshot"
    for text in ("first", "second"):
        with storage.new_folder(final) as aside:
            (aside / "rows").write_text(text)
    assert everything(tmp_path) == {"snapshot/rows": "first"}


def test_a_damaged_file_of_the_lake_is_not_read(tmp_path: Path) -> None:
    """One flipped byte of the data is found by its checksum, and a missing file is named."""
    path = tmp_path / "rows.parquet"
    storage.write_parquet(pa.table({"y": list(range(1000))}), path)
    assert storage.read_parquet(path).num_rows == 1000
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    for bad in (path, tmp_path / "gone.parquet"):
        with pytest.raises(StorageError, match=bad.name):
            storage.read_parquet(bad)
