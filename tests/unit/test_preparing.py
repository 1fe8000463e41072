"""Preparing: the same window once, another one anew, and what is damaged again."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.preparing import Snapshot, prepare_snapshot
from twinloop.errors import QuarantineError
from twinloop.workload import Workload

SHOP = Workload.model_validate(
    {
        "name": "shop",
        "task": "regression",
        "source": {"kind": "files", "path": "raw/*"},
        "key": ["id"],
        "target": "y",
    }
)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a home with one file of ten orders."""
    monkeypatch.setenv("TWINLOOP_HOME", str(tmp_path))
    (tmp_path / "raw").mkdir()
    pq.write_table(orders(), tmp_path / "raw" / "a.parquet")
    return tmp_path


def orders(first: int = 0, n_rows: int = 10) -> pa.Table:
    """Return numbered orders."""
    ids = list(range(first, first + n_rows))
    return pa.table({"id": ids, "n": [i / 2 for i in ids], "y": [float(i * i) for i in ids]})


def prepare(workload: Workload = SHOP) -> Snapshot:
    """Prepare all rows there are, without a flow around."""
    run: Callable[..., Snapshot] = prepare_snapshot.fn
    return run(workload, None)


def files(home: Path) -> dict[str, tuple[int, int]]:
    """Return the files of the lake with their times and inodes: a file written anew has others."""
    lake = home / "data" / "lake"
    found = {str(p): p.stat() for p in lake.rglob("*") if p.is_file()}
    return {path: (stat.st_mtime_ns, stat.st_ino) for path, stat in found.items()}


def test_the_same_window_is_prepared_once(shop: Path) -> None:
    """The second time it is looked up: an equal handle, and no file touched."""
    first = prepare()
    before = files(shop)
    second = prepare()
    assert (first.reused, second.reused) == (False, True)
    assert second.model_copy(update={"reused": False}) == first
    assert files(shop) == before
    assert len(before) == 2


def test_what_is_prepared_is_what_was_read(shop: Path) -> None:
    """All rows are in the snapshot, in the order of the key, under the name of their digest."""
    found = prepare()
    assert found.table().to_pydict() == orders().to_pydict()
    assert (found.read, found.rows, found.quarantined, found.dropped) == (10, 10, 0, {})
    assert found.path.name == found.digest
    assert found.path.is_absolute()


def test_a_changed_source_makes_a_new_snapshot(shop: Path) -> None:
    """Other rows have another digest and folder; the old snapshot stays as it was."""
    old = prepare()
    pq.write_table(orders(n_rows=11), shop / "raw" / "a.parquet")
    new = prepare()
    assert (new.reused, new.rows, old.rows) == (False, 11, 10)
    assert new.digest != old.digest
    assert old.table().num_rows == 10


@pytest.mark.parametrize("how", ["touched", "cut in two", "renamed"])
def test_the_same_content_in_other_files_has_the_same_digest(shop: Path, how: str) -> None:
    """Files are no content: what was cut, moved or touched is read again and found the same."""
    old = prepare()
    file = shop / "raw" / "a.parquet"
    if how == "touched":
        os.utime(file, ns=(1, 1))
    elif how == "renamed":
        file.rename(shop / "raw" / "z.parquet")
    else:
        pq.write_table(orders(5, 5), file)
        pq.write_table(orders(0, 5), shop / "raw" / "b.parquet")
    before = files(shop)
    new = prepare()
    assert (new.reused, new.digest, new.path) == (False, old.digest, old.path)
    rows = str(old.path / "rows.parquet")
    assert files(shop)[rows] == before[rows]


def test_other_rules_prepare_anew(shop: Path) -> None:
    """What the preparation hangs on is part of its name; what it does not, is not."""
    prepare()
    assert prepare(SHOP.model_copy(update={"description": "other words", "seed": 1})).reused
    cleaning = SHOP.cleaning.model_copy(update={"outliers": 9.0})
    inference = SHOP.inference.model_copy(update={"quarantine_limit": 0.5})
    assert not prepare(SHOP.model_copy(update={"cleaning": cleaning})).reused
    assert not prepare(SHOP.model_copy(update={"inference": inference})).reused


def damage(path: Path, how: str) -> None:
    """Do to a file what a disk or a person may do."""
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:40] + bytes([content[40] ^ 255]) + content[41:])


@pytest.mark.parametrize("part", ["rows", "index"])
@pytest.mark.parametrize("how", ["gone", "empty", "cut", "flipped"])
def test_what_is_damaged_is_prepared_again(shop: Path, part: str, how: str) -> None:
    """Neither a broken index nor broken rows are used or complained of: they are made again."""
    first = prepare()
    index = next((shop / "data" / "lake").rglob("*.json"))
    damage(first.path / "rows.parquet" if part == "rows" else index, how)
    again = prepare()
    assert not again.reused
    assert again == first
    assert again.table().to_pydict() == orders().to_pydict()
    assert prepare().reused


def test_bad_rows_are_kept_beside(shop: Path) -> None:
    """Rows that break the contract are set aside with their reason, the rest is prepared."""
    mixed = pa.table({"id": range(100), "n": ["x", *map(str, range(99))], "y": range(100)})
    pq.write_table(mixed, shop / "raw" / "a.parquet")
    found = prepare()
    assert (found.read, found.rows, found.quarantined) == (100, 99, 1)
    bad = pq.read_table(found.path / "bad.parquet").to_pylist()
    assert [(b["id"], b["n"], b["quarantine_reason"]) for b in bad] == [(0, "x", "wrong_type:n")]


def test_too_many_bad_rows_leave_nothing(shop: Path) -> None:
    """Above the limit there is an error with share, reason and value, and no snapshot."""
    mixed = pa.table({"id": range(10), "n": ["x", *map(str, range(9))], "y": range(10)})
    pq.write_table(mixed, shop / "raw" / "a.parquet")
    with pytest.raises(QuarantineError, match=r"1 of 10 rows .* wrong_type in column 'n'.*'x'"):
        prepare()
    assert files(shop) == {}


def test_bad_rows_are_counted_by_their_day(shop: Path) -> None:
    """A watch compares with them: those whose time cannot be read are in no day."""
    times = ["1970-01-03 08:00", "1970-01-03 23:59", "1970-01-05", "someday", "1970-01-05"]
    amounts = [-1.0, -1.0, -1.0, 1.0, 1.0]
    rows = orders(n_rows=5).append_column("at", pa.array(times))
    pq.write_table(rows.append_column("price", pa.array(amounts)), shop / "raw" / "a.parquet")
    found = prepare(
        Workload.model_validate(
            SHOP.model_dump(mode="json", exclude_defaults=True)
            | {
                "time": "at",
                "columns": {"price": {"minimum": 0}},
                "inference": {"quarantine_limit": 1},
            }
        )
    )
    assert (found.quarantined, found.bad_days) == (4, {2: 2, 4: 1})
    again = Snapshot.model_validate_json(found.model_dump_json())
    assert again.bad_days == found.bad_days
