"""Bad input: one clear error, nothing half written, no alias moved, a failed run with a bill."""

import json
import re
import shutil
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.score_batch import score_batch
from flows.train_model import train_model
from tasks.registry import find_champion, load_version
from tasks.settings import load_workload
from tasks.storage import read_parquet
from tasks.tracking import client
from twinloop.contract import REASON
from twinloop.errors import (
    ColumnError,
    DuplicateKeyError,
    EmptyWindowError,
    QuarantineError,
    RegistryError,
    ServiceError,
    SourceError,
    StorageError,
    TargetError,
    TwinloopError,
    WorkloadError,
)
from twinloop.window import Window

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 200
SHOP: dict[str, Any] = {
    "name": "shop",
    "task": "regression",
    "source": {"kind": "files", "path": "data/lake/shop/raw/*"},
    "key": ["order"],
    "target": "price",
    "metric": "rmse",
    "training": {"folds": 3, "candidates": ["baseline", "linear"]},
}

pytestmark = pytest.mark.usefixtures("prefect")


def orders(first: int = 0, rows: int = ROWS) -> pd.DataFrame:
    """Make orders of a small shop: the price hangs on weight and colour."""
    rng = np.random.default_rng(first)
    frame = pd.DataFrame(
        {
            "order": np.arange(first, first + rows),
            "at": pd.date_range(START, periods=rows, freq="h").strftime("%Y-%m-%dT%H:%M"),
            "weight": rng.uniform(1, 10, rows).round(3),
            "colour": rng.choice(["red", "green", "blue"], rows),
        }
    )
    frame["price"] = (
        3 * frame["weight"] + (frame["colour"] == "red") + rng.normal(0, 0.1, rows)
    ).round(3)
    return frame


def describe(home: Path, **changes: object) -> None:
    """Write the shop's workload file, with changes; YAML takes JSON."""
    text = json.dumps(SHOP | changes)
    (home / "data" / "workloads" / "shop.yaml").write_text(text, encoding="utf-8")


def raw(home: Path) -> Path:
    """Return the shop's folder of raw files, emptied."""
    folder = home / "data" / "lake" / "shop" / "raw"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def deliver(home: Path, *frames: pd.DataFrame) -> Path:
    """Put orders where the source looks, as Parquet; return the last file."""
    folder = raw(home)
    for i, frame in enumerate(frames):
        frame.to_parquet(folder / f"orders{i}.parquet", index=False)
    return folder / f"orders{len(frames) - 1}.parquet"


@pytest.fixture(scope="module")
def trained(prefect: None, migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a home whose shop has a champion and a scored table; tests work on copies."""
    home = tmp_path_factory.mktemp("trained")
    (home / "mlflow" / "store").mkdir(parents=True)
    (home / "data" / "workloads").mkdir(parents=True)
    shutil.copy(migrated_store, home / "mlflow" / "store" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", str(home))
        describe(home)
        deliver(home, orders())
        train_model("shop")
        score_batch("shop")
    return home


@pytest.fixture
def shop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a copy of the trained home."""
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    monkeypatch.setenv("TWINLOOP_HOME", str(home))
    return home


def outputs(home: Path) -> dict[str, bytes]:
    """Read everything in the lake that Twinloop wrote for others to see.

    Locks are empty; hidden folders hold what a later run goes on with.
    """
    lake = home / "data" / "lake"
    found = {p.relative_to(lake): p for p in sorted(lake.rglob("*")) if p.is_file()}
    return {
        str(name): path.read_bytes()
        for name, path in found.items()
        if not {"raw", "locks"} & {*name.parts} and not any(n[0] == "." for n in name.parts)
    }


def serving() -> str:
    """Return the number of the shop's champion."""
    found = find_champion(load_workload("shop"))
    return found.version if found else ""


def runs() -> list[Any]:
    """List all runs of the shop, the newest first."""
    found = client().get_experiment_by_name("shop")
    return [] if found is None else list(client().search_runs([found.experiment_id]))


def assert_failed_with_bill(error: TwinloopError, kind: str) -> None:
    """Assert that the newest run of a kind failed with this error, and says what it cost."""
    run = next(r for r in runs() if r.data.tags["twinloop.kind"] == kind)
    assert run.info.status == "FAILED"
    assert run.data.tags["twinloop.error"] == str(error)
    assert run.data.metrics["cost/money"] > 0
    assert run.data.metrics["time/wall_s"] > 0


def refuse(
    home: Path, call: Callable[[], object], expected: type[TwinloopError], *words: str
) -> TwinloopError:
    """Call what must be refused: one error with these words, and all else as it was.

    Whole snapshots, named by their content, may stay.
    """
    before, champion = outputs(home), serving()
    with pytest.raises(TwinloopError) as caught:
        call()
    error = caught.value
    assert type(error) is expected, error
    assert str(error).startswith(f"[{expected.code}] ")
    assert "\n" not in str(error)
    for word in words:
        assert word in str(error)
    after = outputs(home)
    new = {name for name in after if "/prepared/" not in name and name not in before}
    assert new == set()
    assert {n: after.get(n) for n in before} == before
    assert [p for p in (home / "data" / "lake").rglob(".*") if p.is_file()] == []
    assert serving() == champion
    return error


def train() -> object:
    return train_model("shop")


def score() -> object:
    return score_batch("shop")


LOOPS = pytest.mark.parametrize(
    ("call", "kind"), [(train, "training"), (score, "inference")], ids=["train", "score"]
)
Call = Callable[[], object]


@LOOPS
def test_missing_file(shop: Path, call: Call, kind: str) -> None:
    """A source that matches no file is refused, with the path that was looked at."""
    raw(shop)
    error = refuse(shop, call, SourceError, "no file matches", "lake/shop/raw/*", "source.path")
    assert_failed_with_bill(error, kind)


@LOOPS
@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "flipped"])
def test_damaged_parquet(shop: Path, call: Call, kind: str, damage: str) -> None:
    """A Parquet file that is no longer whole is refused by name, whichever way it broke."""
    from tasks.storage import write_parquet

    path = deliver(shop, orders())
    write_parquet(read_parquet(path), path)
    content = path.read_bytes()
    middle = len(content) // 3
    broken = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "garbage": b"PAR1 this is no table",
        "flipped": content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :],
    }
    path.write_bytes(broken[damage])
    if (damage, kind) == ("flipped", "inference"):
        # The file has rows, but all of them are in the damaged row group.
        words = (f"{ROWS} of {ROWS} rows (100.0%)", "unreadable_rows", "CRC checksum")
        error = refuse(shop, call, QuarantineError, *words)
    else:
        error = refuse(shop, call, SourceError, "cannot read", "orders0.parquet", "Restore it")
    assert_failed_with_bill(error, kind)


@LOOPS
def test_files_that_disagree_on_a_type(shop: Path, call: Call, kind: str) -> None:
    """A column that is a number in one file and text in the next is refused by name."""
    deliver(shop, orders(), orders(ROWS).astype({"weight": "str"}))
    error = refuse(shop, call, SourceError, "weight", "double", "string", "one schema")
    assert_failed_with_bill(error, kind)


def test_files_may_differ_in_what_arrow_can_unite(shop: Path) -> None:
    """Whole numbers in one file and fractions in the next are one column, in both loops."""
    deliver(shop, orders(), orders(ROWS).assign(weight=lambda d: d["weight"].astype("int64")))
    train_model("shop")
    assert score_batch("shop").scored == 2 * ROWS


@pytest.mark.parametrize(
    ("flow", "kind"),
    [(train_model, "training"), (score_batch, "inference")],
    ids=["train", "score"],
)
def test_empty_window(shop: Path, flow: Callable[..., object], kind: str) -> None:
    """A window without rows is refused, and it is said from when to when there are rows."""
    describe(shop, time="at")
    past = Window.model_validate("1999-01-01/1999-02-01")
    words = ("no rows in the window 1999-01-01/1999-02-01", "2024-01-01 00:00", "--window")
    error = refuse(shop, lambda: flow("shop", past), EmptyWindowError, *words)
    assert_failed_with_bill(error, kind)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "prize"}, ("'prize'", "the target", "Did you mean 'price'?")),
        ({"key": ["ordre"]}, ("'ordre'", "the key", "Did you mean 'order'?")),
        ({"time": "moment"}, ("'moment'", "the time", "Known:", "colour")),
        ({"group": "color"}, ("'color'", "the group", "Did you mean 'colour'?")),
        ({"ignore": ["colours"]}, ("'colours'", "'ignore'", "Did you mean 'colour'?")),
        ({"columns": {"wieght": {"minimum": 0}}}, ("'wieght'", "'columns'", "'weight'")),
    ],
    ids=["target", "key", "time", "group", "ignore", "columns"],
)
def test_missing_column(shop: Path, changes: dict[str, object], words: tuple[str, ...]) -> None:
    """A column that is named but not there is refused, with its role and the nearest there is."""
    describe(shop, **changes)
    error = refuse(shop, train, ColumnError, "raw", "no column", *words)
    assert_failed_with_bill(error, "training")


def test_column_gone_at_scoring(shop: Path) -> None:
    """A feature the champion learned from and that is gone is refused by name and place."""
    deliver(shop, orders(ROWS).drop(columns="weight"))
    error = refuse(shop, score, ColumnError, "lake/shop/raw", "'weight'", "feature")
    assert_failed_with_bill(error, "inference")


UNUSABLE: dict[str, tuple[str, list[object], type[TwinloopError], tuple[str, ...]]] = {
    "one class": ("grade", ["dear"] * ROWS, TargetError, ("'grade'", "one class", "'dear'")),
    "words": ("price", ["dear", "cheap"] * (ROWS // 2), TargetError, ("'price'", "needs numbers")),
    "null target": ("price", [None] * ROWS, ColumnError, ("'price' (target)", "but nulls")),
    "null feature": ("weight", [None] * ROWS, ColumnError, ("'weight' (feature)", "but nulls")),
    "keys": ("order", [7] * ROWS, DuplicateKeyError, ("199 rows", "'7'", "cleaning.duplicates")),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_column(shop: Path, case: str) -> None:
    """A column that nothing can be learned from, or by, is refused by name."""
    column, values, expected, words = UNUSABLE[case]
    if column == "grade":
        describe(shop, target="grade", task="binary", metric="log_loss")
    frame = orders()
    frame[column] = pd.Series(values, dtype=object)
    deliver(shop, frame)
    error = refuse(shop, train, expected, *words)
    assert_failed_with_bill(error, "training")


@LOOPS
def test_csv_that_changes_half_way(shop: Path, call: Call, kind: str) -> None:
    """A CSV column of numbers that turns to text half way is refused, with one of the values."""
    frame = orders(ROWS).astype({"weight": "str"})
    frame.loc[ROWS // 2 :, "weight"] = "broken scales"
    frame.to_csv(raw(shop) / "orders.csv", index=False)
    words = ("100 of 200 rows", "wrong_type", "'weight'", "'broken scales'", "quarantine_limit")
    error = refuse(shop, call, QuarantineError, *words)
    assert_failed_with_bill(error, kind)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(SHOP | {"metric": "roc_auc"}), ("'roc_auc'", "'regression'", "rmse")),
        (json.dumps(SHOP | {"targt": "price"}), ("'targt'", "Did you mean 'target'?")),
        (json.dumps(SHOP)[:-1] + ', "target": "weight"}', ("target", "line 1")),
        (json.dumps(SHOP | {"name": "shoop"}), ("'shoop'", "must agree")),
    ],
    ids=["metric", "unknown key", "key twice", "name"],
)
def test_workload_file_that_makes_no_sense(shop: Path, text: str, words: tuple[str, ...]) -> None:
    """A workload file is refused when it is read, by its path, before any run is opened."""
    before = len(runs())
    path = shop / "data" / "workloads" / "shop.yaml"
    good = path.read_text(encoding="utf-8")

    def call() -> None:
        path.write_text(text, encoding="utf-8")
        try:
            train()
        finally:
            path.write_text(good, encoding="utf-8")

    refuse(shop, call, WorkloadError, "shop.yaml", *words)
    assert len(runs()) == before


@LOOPS
def test_mlflow_out_of_reach(
    shop: Path, call: Call, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an MLflow that answers nothing runs, and that is said within seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    before, start = outputs(shop), time.monotonic()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(ServiceError, match=re.escape(address)) as caught:
        call()
    assert time.monotonic() - start < 20
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert outputs(shop) == before


def test_lake_that_cannot_be_written(home: Path) -> None:
    """A lake that is no folder is a storage error that names it, in a run that failed."""
    (home / "data" / "lake").write_text("not a folder")
    with pytest.raises(StorageError, match="data/lake/diabetes") as caught:
        train_model("diabetes")
    run = client().search_runs(["1"])[0]
    assert (run.info.status, run.data.tags["twinloop.error"]) == ("FAILED", str(caught.value))
    assert run.data.metrics["cost/money"] > 0


@pytest.mark.parametrize(
    ("part", "call", "kind"),
    [
        ("predictions", score, "inference"),
        ("quarantine", score, "inference"),
        ("prepared", train, "training"),
        ("work", train, "training"),
    ],
)
def test_part_of_the_lake_that_cannot_be_written(
    shop: Path, part: str, call: Call, kind: str
) -> None:
    """Where a folder cannot be made the run stops with a storage error that names it."""
    frame = orders(ROWS)
    frame.loc[0, "weight"] = -1e6
    deliver(shop, frame)
    place = shop / "data" / "lake" / "shop" / part
    shutil.rmtree(place, ignore_errors=True)
    place.write_text("not a folder")
    error = refuse(shop, call, StorageError, f"shop/{part}")
    assert_failed_with_bill(error, kind)


def test_snapshot_that_cannot_be_put_in_place(shop: Path) -> None:
    """A snapshot that is written but cannot get its name leaves nothing behind."""
    prepared = shop / "data" / "lake" / "shop" / "prepared"
    (snapshot,) = (p for p in prepared.iterdir() if p.name != "index")
    shutil.rmtree(prepared)
    prepared.mkdir()
    (prepared / snapshot.name).write_text("in the way")
    error = refuse(shop, train, StorageError, snapshot.name)
    assert_failed_with_bill(error, "training")
    assert [p.name for p in prepared.iterdir()] == [snapshot.name]


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_model_is_not_served(shop: Path, damage: str) -> None:
    """A version whose files are not those that were registered scores nothing."""
    deliver(shop, orders(ROWS))
    version = find_champion(load_workload("shop"))
    assert version is not None
    file = model_file(version.source)
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        flipped = bytes([content[-9] ^ 1]) + content[-8:]
        file.write_bytes(content[:-9] + (flipped if damage == "flipped" else b""))
    load_version.cache_clear()  # this process has it in memory since its training
    try:
        error = refuse(shop, score, RegistryError, "shop v1", "--rollback")
    finally:
        file.write_bytes(content)
    assert_failed_with_bill(error, "inference")


def model_file(source: str) -> Path:
    """Find a file of a registered version on disk."""
    place = client().get_logged_model(source.removeprefix("models:/")).artifact_location
    return Path(place.removeprefix("file://")) / "data" / "served" / "scorer.json"


def test_few_bad_rows_are_set_aside(shop: Path) -> None:
    """Bad rows within the limit are kept with the reason; every row read is in one place."""
    frame = orders(ROWS)
    weights, numbers = frame["weight"].astype("str").tolist(), frame["order"].astype("str").tolist()
    weights[:2], numbers[2:5] = ["heavy", "1e9"], ["", "203", "203"]
    frame.assign(weight=weights, order=numbers).to_csv(raw(shop) / "orders.csv", index=False)
    manifest = score_batch("shop")
    kept = read_parquet(manifest.quarantine_place / "part-00000.parquet").to_pylist()
    scored = read_parquet(manifest.place / "part-00000.parquet")
    assert {(row["order"], row[REASON]) for row in kept} == {
        ("200", "wrong_type:weight"),
        ("201", "out_of_range:weight"),
        (None, "missing_required:order"),
        ("203", "duplicate_key:order"),
    }
    assert (manifest.read, manifest.scored, manifest.quarantined) == (ROWS, scored.num_rows, 4)
    assert manifest.read == manifest.scored + manifest.quarantined


def test_too_many_bad_rows_publish_nothing(shop: Path) -> None:
    """More bad rows than the workload allows fail the run; none of the good ones is published."""
    frame = orders(ROWS)
    frame.loc[:10, "weight"] = -1e6
    deliver(shop, frame)
    words = ("11 of 200 rows (5.5%)", "5.0% allowed", "out_of_range", "'weight'", "-1000000.0")
    error = refuse(shop, score, QuarantineError, *words)
    assert_failed_with_bill(error, "inference")
