"""A run goes on after the parts that are whole, in their order and of its plan; one at a time."""

import json
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks import storage
from tasks.drafting import Draft, Part, PartBuilder, alone
from tasks.published import PREDICTIONS, QUARANTINE, SHADOW, read_published, window_slug
from tasks.settings import load_workload, settings
from tasks.sources import SourceBatch, Unreadable
from tasks.storage import read_parquet
from tests.windows import loaded, make_home, orders, publish
from twinloop.contract import with_reason
from twinloop.digest import ContentDigest
from twinloop.errors import StorageError
from twinloop.inference import Scored
from twinloop.profile import Binning, ColumnProfile, Counter
from twinloop.shadow import Agreement
from twinloop.window import Window
from twinloop.workload import Workload

PLAN, CHALLENGER = "a" * 64, "7"
PARTS = 4
COUNTER = Counter(Binning(columns=(ColumnProfile(name="n", counts=(0,)),)))
SCHEMA = pa.schema({"order": pa.int64(), "prediction": pa.float64()})


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    """Provide a home without output."""
    monkeypatch.setenv("TWINLOOP_HOME", str(make_home(tmp_path, orders(10))))
    return load_workload("shop")


def write_part(draft: Draft, number: int, challenger: str = CHALLENGER) -> Part:
    """Write a part of three rows, of which one is in quarantine, and a row nobody can read."""
    builder = PartBuilder(number, COUNTER)
    table = pa.table({"order": [10 * number + i for i in range(3)], "kind": ["a", "b", "c"]})
    bad = with_reason(table, np.array([False, True, False]), ["out_of_range:weight"])
    said = pa.table({"order": table.column("order").take([0, 2]), "prediction": [0.1, 0.9]})
    agreement = Agreement(rows=1, equal=1)
    scored = Scored(
        said.cast(SCHEMA),
        bad,
        np.array([1]),
        np.array([1, 0, 1, 0, 0]),
        COUNTER.nothing()[1],
        ContentDigest.of(table),
        said.slice(0, 1) if challenger else None,
        agreement if challenger else None,
    )
    builder.add(SourceBatch(table, "rows.parquet", np.arange(100, 103)), scored, [number])
    builder.add_unreadable(Unreadable("unreadable_row", "x.csv", 5, 1, "why", "1,2,3"))
    return builder.write(draft, SCHEMA, challenger)


def draft_of(shop: Workload, plan: str = PLAN) -> Draft:
    """Open the draft of all rows."""
    return Draft(shop, None, plan, plan)


@pytest.fixture
def written(shop: Workload) -> list[Part]:
    """Write four parts, as a run that is killed after them."""
    draft = draft_of(shop)
    return [write_part(draft, number) for number in range(PARTS)]


def aside(shop: Workload) -> Path:
    """Return where the draft is."""
    (found,) = (settings().lake(shop) / PREDICTIONS / "all").glob(".*")
    return found


def kept(shop: Workload) -> set[str]:
    """Return the files of the draft."""
    return {p.relative_to(aside(shop)).as_posix() for p in aside(shop).rglob("*") if p.is_file()}


def files_of(number: int) -> set[str]:
    """Return the files of a part."""
    parts = {f"{place}/part-{number:05d}.parquet" for place in (PREDICTIONS, QUARANTINE, SHADOW)}
    return {*parts, f"_part-{number:05d}.json"}


def test_whole_parts_are_gone_on_after(shop: Workload, written: list[Part]) -> None:
    """As they were written, however often they are asked for."""
    for _ in range(2):
        assert draft_of(shop).parts(CHALLENGER) == written
    first = written[0]
    assert (first.pieces, first.read, first.predictions.rows, first.quarantined) == (2, 4, 2, 2)
    assert first.reasons == {"out_of_range:weight": 1, "unreadable_row": 1}
    assert first.taken == (0,)
    assert first.agreement == Agreement(rows=1, equal=1)


def damage(name: str) -> Callable[[Path], None]:
    """Return what flips a bit in the middle of a file of the draft."""

    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flip


def gone(name: str) -> Callable[[Path], None]:
    """Return what removes a file of the draft."""
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    """Cut a receipt short."""
    receipt = folder / "_part-00002.json"
    receipt.write_text(receipt.read_text()[:-20])


def renumbered(folder: Path) -> None:
    """Put the receipt of another part in place of one."""
    receipt = folder / "_part-00002.json"
    receipt.write_text((folder / "_part-00003.json").read_text())


def longer(folder: Path) -> None:
    """Let a receipt say what this release does not know."""
    receipt = folder / "_part-00002.json"
    receipt.write_text(json.dumps(json.loads(receipt.read_text()) | {"more": 1}))


@pytest.mark.parametrize(
    "harm",
    [
        gone("_part-00002.json"),
        cut,
        renumbered,
        longer,
        *(damage(f"{place}/part-00002.parquet") for place in (PREDICTIONS, QUARANTINE, SHADOW)),
        *(gone(f"{place}/part-00002.parquet") for place in (PREDICTIONS, QUARANTINE, SHADOW)),
    ],
)
def test_parts_from_a_broken_one_on_are_made_again(
    shop: Workload, written: list[Part], harm: Callable[[Path], None]
) -> None:
    """A part after a gap does not count, sound as it is; what is left of both is cleared away."""
    harm(aside(shop))
    assert draft_of(shop).parts(CHALLENGER) == written[:2]
    assert kept(shop) == files_of(0) | files_of(1)


def test_parts_that_another_challenger_answered_are_made_again(
    shop: Workload, written: list[Part]
) -> None:
    """Or none: their shadows are not what this run would write."""
    for challenger in ("8", ""):
        draft = draft_of(shop)
        for number in range(PARTS):
            write_part(draft, number)
        assert draft.parts(challenger) == []
        assert kept(shop) == set()


def test_parts_of_another_plan_are_cleared_away(shop: Workload, written: list[Part]) -> None:
    """Another version, other rows or settings: nothing of them is left."""
    before = aside(shop)
    draft = draft_of(shop, "b" * 64)
    assert draft.parts(CHALLENGER) == []
    assert not before.exists()
    write_part(draft, 0)
    assert len(draft.parts(CHALLENGER)) == 1


def test_files_without_a_receipt_are_cleared_away(shop: Workload, written: list[Part]) -> None:
    """A kill came between the files of a part and its receipt, or within a file."""
    for name in ("predictions/part-00004.parquet", "predictions/.part-00004.parquet.0a", "x"):
        (aside(shop) / name).write_bytes(b"half")
    assert draft_of(shop).parts(CHALLENGER) == written
    assert kept(shop) == set().union(*map(files_of, range(PARTS)))


def test_what_cannot_be_cleared_away_is_told(
    shop: Workload, written: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error of the disk that names the file."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    gone("_part-00002.json")(aside(shop))
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match=r"cannot write '.*part-0000.*Permission denied"):
        draft_of(shop).parts(CHALLENGER)


def test_a_draft_that_is_discarded_leaves_nothing(shop: Workload, written: list[Part]) -> None:
    """Neither files nor folders."""
    draft_of(shop).discard()
    assert written
    assert not list((settings().lake(shop) / PREDICTIONS).rglob("*"))


def test_rows_of_a_quarantine_may_come_again(shop: Workload) -> None:
    """What was said of them before makes room for what is said now."""
    builder = PartBuilder(0, COUNTER)
    table = pa.table(
        {
            "order": [1, 2],
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            **{
                f"quarantine_{n}": ["old", "old"] for n in ("reason", "file", "row", "rows", "text")
            },
        }
    )
    bad = with_reason(table, np.array([False, True]), ["wrong_type:kind"])
    said = SCHEMA.empty_table()
    digest = ContentDigest.of(table)
    scored = Scored(said, bad, np.array([1]), *COUNTER.nothing(), digest)
    builder.add(SourceBatch(table, "f", np.array([5, 6])), scored, [])
    part = builder.write(draft_of(shop), SCHEMA, "")
    assert part.quarantine is not None
    found = read_parquet(aside(shop) / QUARANTINE / part.quarantine.name)
    assert found.to_pylist() == [
        {
            "order": 2,
            "kind": "b",
            "quarantine_reason": "wrong_type:kind",
            "quarantine_file": "f",
            "quarantine_row": 6,
            "quarantine_rows": 1,
            "quarantine_text": None,
        }
    ]


def hold(home: str, told: "multiprocessing.synchronize.Event") -> None:
    """Hold the lock of all rows for a second, in another process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", home)
        with alone(load_workload("shop"), "all"):
            told.set()
            time.sleep(1.0)


def test_a_second_run_waits_for_the_first(shop: Workload, caplog: pytest.LogCaptureFixture) -> None:
    """In this process or another; it says so, and begins when the first one ends."""
    order: list[str] = []
    entered = threading.Event()

    def first() -> None:
        with alone(shop, "all"):
            entered.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    with caplog.at_level(logging.WARNING, "twinloop.progress"), alone(shop, "all"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert "another run is at all; waiting for its end" in caplog.text


def test_a_lock_ends_with_its_process(shop: Workload) -> None:
    """Killed while it holds the lock, it keeps nobody waiting."""
    context = multiprocessing.get_context("spawn")
    told = context.Event()
    process = context.Process(target=hold, args=(str(settings().root), told))
    process.start()
    assert told.wait(60)
    process.kill()
    process.join()
    began = time.monotonic()
    with alone(shop, "all"):
        assert time.monotonic() - began < 5


def test_other_windows_do_not_wait(shop: Workload) -> None:
    """A lock is one window's."""
    day = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC))
    with alone(shop, "all"), alone(shop, window_slug(day)):
        names = sorted(p.name for p in (settings().lake(shop) / "locks").iterdir())
    assert names == ["score-20240101T000000_20240102T000000.lock", "score-all.lock"]


def test_what_is_published_already_is_kept(shop: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window scored again from a source that only looks changed keeps its files, and tells so."""
    model = loaded()
    monkeypatch.setattr(storage, "sync", lambda _: None)
    monkeypatch.setattr("tasks.scoring.load_version", lambda *_: model)
    before = publish()
    stat = (before.place / "part-00000.parquet").stat()
    (settings().root / "data" / "raw" / "rows.parquet").touch()
    after = publish()
    assert not after.reused
    assert after.fingerprint != before.fingerprint
    assert after.model_copy(update={"fingerprint": "", "plan": ""}) == before.model_copy(
        update={"fingerprint": "", "plan": ""}
    )
    assert (after.place / "part-00000.parquet").stat().st_ino == stat.st_ino
    assert publish().reused
    assert read_published(after).num_rows == after.scored
