"""Fuzzed windows: whatever a source holds, each row is scored or quarantined, or all is refused."""

import csv
import io
import math
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import scoring, storage, streaming
from tasks import settings as home_settings
from tasks.published import QUARANTINE, Manifest, read_published
from tests.windows import KINDS, WORKLOAD, fit, make_home, orders, publish
from twinloop.contract import SCORED_ROLES, Contract, check_rows
from twinloop.errors import TwinloopError
from twinloop.tables import convert
from twinloop.window import Window

pytestmark = pytest.mark.slow

FUZZED = WORKLOAD.replace("quarantine_limit: 0.2", "quarantine_limit: 1, explanations: 1").replace(
    "batch_rows: 50, part_rows: 50", "batch_rows: 3, part_rows: 5"
)
CHALLENGER = 2
EXAMPLES = settings(
    max_examples=600,
    deadline=None,
    # What is between two examples, an empty lake, is seen to by each.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FEATURES = ["weight", "kind", "size", "gift", "at", "note"]


def full_orders(n_rows: int = 400) -> pa.Table:
    """Return orders with a column of each kind."""
    draw = np.random.default_rng(7)
    hours = draw.integers(0, 10_000, n_rows) * 3_600_000_000
    table = orders(n_rows, seed=1)
    columns = {
        "gift": pa.array(draw.random(n_rows) < 0.3, mask=draw.random(n_rows) < 0.05),
        "at": pa.array(hours, pa.timestamp("us", "UTC"), mask=draw.random(n_rows) < 0.05),
        "note": pa.array([None, "", "red", "blue"]).take(pa.array(draw.integers(0, 4, n_rows))),
    }
    return pa.table({name: table.column(name) for name in table.schema.names} | columns)


class Shop:
    """A home whose only source file is written anew for each example."""

    def __init__(self, home: Path, contract: Contract) -> None:
        self.home, self.contract = home, contract

    def publish(self, name: str, content: bytes, window: Window | None = None) -> Manifest | None:
        """Score a source of one file; None where it is refused, and then nothing is there."""
        for folder in ("raw", "lake"):
            shutil.rmtree(self.home / "data" / folder, ignore_errors=True)
        (self.home / "data" / "raw").mkdir()
        (self.home / "data" / "raw" / name).write_bytes(content)
        try:
            manifest = publish(challenger=CHALLENGER, window=window)
        except TwinloopError:
            found = (self.home / "data" / "lake").rglob("*")
            assert [p for p in found if p.is_file() and p.suffix != ".lock"] == []
            return None
        self.assert_whole(manifest)
        return manifest

    def assert_whole(self, manifest: Manifest) -> None:
        """Assert that rows add up, keys are unique, and answers are answers."""
        said = read_published(manifest)
        assert manifest.read == manifest.scored + manifest.quarantined
        assert said.num_rows == manifest.scored
        keys = said.column("order").to_pylist()
        assert None not in keys
        assert len(set(keys)) == len(keys)
        assert all(0 <= p <= 1 for p in said.column("probability").to_pylist())
        assert said.column("prediction").null_count == 0
        named = {name.partition(".")[0] for name in said.column("feature_1").to_pylist()}
        assert named <= {"at", *self.contract.features}
        assert all(map(math.isfinite, said.column("contribution_1").to_pylist()))
        folder = manifest.place_of(QUARANTINE)
        bad = [storage.read_parquet(folder / stored.name) for stored in manifest.quarantine]
        assert sum(sum(t.column("quarantine_rows").to_pylist()) for t in bad) == (
            manifest.quarantined
        )
        assert all(all(t.column("quarantine_reason").to_pylist()) for t in bad)

    def quarantined(self, manifest: Manifest) -> list[int]:
        """Return the places of quarantined rows in their file."""
        folder = manifest.place_of(QUARANTINE)
        bad = [storage.read_parquet(folder / stored.name) for stored in manifest.quarantine]
        return sorted(n for t in bad for n in t.column("quarantine_row").to_pylist())


@contextmanager
def opened(workload: str) -> Iterator[Shop]:
    """Open a shop on a disk of memory where there is one, that syncs nothing."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own within
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as patch,
        ThreadPoolExecutor(1) as pool,
    ):
        patch.setenv("TWINLOOP_HOME", folder)
        patch.setenv("TWINLOOP_THREADS", "1")
        # Thousands of windows: settings are read from the environment once, no disk is waited for.
        known = home_settings.settings()
        patch.setattr(home_settings, "Settings", lambda: known)
        patch.setattr(storage, "sync", lambda _: None)
        patch.setattr(streaming, "_pool", lambda: nullcontext(pool))
        home = make_home(Path(folder), full_orders(), workload)
        model = fit(full_orders())
        patch.setattr(scoring, "load_version", lambda *_: model)
        yield Shop(home, model.contract)


@pytest.fixture
def shop() -> Iterator[Shop]:
    """Provide a shop whose rows have no time of their own."""
    with opened(FUZZED) as found:
        yield found


@pytest.fixture
def timed_shop() -> Iterator[Shop]:
    """Provide a shop whose windows are days."""
    with opened(FUZZED.replace("target:", "time: at\ntarget:")) as found:
        yield found


STRANGE_TEXTS = [
    *("", " ", "NULL", "nan", "NaN", "inf", "-inf", "1e999", "9" * 40, "-0", "1_000", "0x1F"),
    *("true", "Yes", "0", "parcel", " parcel", "PARCEL", "palet", "2024-01-01", "9999-12-31"),
    *("0000-00-00", "10000-01-01", "2024-02-30T25:61", "now", "1" * 400, "a,b", 'q"uote', "; :"),
    *("\u0000", "\u200b", "\u202eabc", "e\u0301", "\U0001f4e6", "\ufeff1", "\uffff", "１２", "½"),
    *("two\nlines", "\r", "\t1"),
]
TEXTS = st.none() | st.sampled_from(STRANGE_TEXTS) | st.text(max_size=4)
FLOATS = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 3e38, 4e38, 5e-324, 2.0**63, 1.5])
INTEGERS = st.none() | st.sampled_from([0, 1, -1, 50, 2**53 + 1, 2**63 - 1, -(2**63)])
MOMENTS = st.none() | st.sampled_from(
    [0, 1, 2**62, -(2**62), 2**63 - 1, -(2**63), 253_402_300_800_000_000, -62_135_596_800_000_001]
)
DAYS = st.none() | st.sampled_from([0, 19_000, 2**31 - 1, -(2**31), 2_932_897, -719_163])
DECIMALS = st.none() | st.sampled_from([Decimal(1), Decimal("-0.01"), Decimal("9" * 36 + ".99")])
BYTES = st.none() | st.binary(max_size=3) | st.sampled_from([b"parcel", b"\xff\xfe", b"5"])
# Columns of one Arrow type, whether it fits or not.
STRANGE: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.float64(), FLOATS),
    (pa.float32(), st.none() | st.floats(width=32)),
    (pa.float16(), st.none() | st.floats(width=16)),
    (pa.int64(), INTEGERS),
    (pa.int8(), st.none() | st.integers(-128, 127)),
    (pa.uint64(), st.none() | st.sampled_from([0, 7, 2**63, 2**64 - 1])),
    (pa.decimal128(38, 2), DECIMALS),
    (pa.decimal256(60, 3), DECIMALS),
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.dictionary(pa.int32(), pa.string()), TEXTS),
    (pa.dictionary(pa.int8(), pa.large_string()), TEXTS),
    (pa.dictionary(pa.int32(), pa.int64()), INTEGERS),
    (pa.dictionary(pa.int32(), pa.float64()), FLOATS),
    (pa.bool_(), st.none() | st.booleans()),
    (pa.timestamp("us"), MOMENTS),
    (pa.timestamp("ns"), MOMENTS),
    (pa.timestamp("ms"), MOMENTS),
    (pa.timestamp("us", "Europe/Berlin"), MOMENTS),
    (pa.date32(), DAYS),
    (pa.date64(), st.none() | st.sampled_from([0, 86_400_000 * 19_000, 86_400_000 * 2**31])),
    (pa.time32("s"), st.none() | st.integers(0, 86_399)),
    (pa.time64("us"), st.none() | st.integers(0, 86_399_999_999)),
    (pa.duration("us"), MOMENTS),
    (pa.binary(), BYTES),
    (pa.large_binary(), BYTES),
    (pa.binary(2), st.none() | st.binary(min_size=2, max_size=2)),
    (pa.list_(pa.int64()), st.none() | st.lists(INTEGERS, max_size=2)),
    (pa.list_(pa.string(), 1), st.none() | st.lists(TEXTS, min_size=1, max_size=1)),
    (pa.struct({"a": pa.int64(), "b": pa.string()}), st.none() | st.just({"a": 1, "b": None})),
    (pa.map_(pa.string(), pa.int64()), st.none() | st.just([("a", 1)])),
    (pa.null(), st.none()),
]
FITTING: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "order": (pa.int64(), st.integers(0, 30)),
    "weight": (pa.float64(), st.none() | st.floats(1, 99)),
    "kind": (pa.string(), st.none() | st.sampled_from(KINDS)),
    "size": (pa.float64(), st.floats(-1, 1)),
    "gift": (pa.bool_(), st.none() | st.booleans()),
    "at": (pa.timestamp("us", "UTC"), st.none() | st.integers(0, 10**15)),
    "note": (pa.string(), st.none() | st.sampled_from(["red", "blue", "green"])),
    "paid": (pa.bool_(), st.booleans()),
}
# Some are what a quarantine or a prediction calls its own columns.
MORE = [
    *("extra", "", "ORDER", "a;b:c", "prediction", "probability", "model_version", "feature_1"),
    *("quarantine_reason", "quarantine_file", "quarantine_row", "quarantine_rows"),
    *("quarantine_text", "\U0001f4e6 weight"),
]


@st.composite
def tables(draw: st.DrawFn, strange: bool = True) -> pa.Table:
    """Draw a table of which some columns are strange, lacking or more than was asked for."""
    n_rows = draw(st.integers(1, 8))
    columns = dict(FITTING)
    if strange:
        for name in draw(st.lists(st.sampled_from(list(FITTING)), min_size=1, max_size=2)):
            columns[name] = draw(st.sampled_from(STRANGE))
        for name in draw(st.lists(st.sampled_from(MORE), max_size=1)):
            columns[name] = draw(st.sampled_from(STRANGE))
        if draw(st.integers(0, 9)) == 0:
            columns.pop(draw(st.sampled_from(list(columns))))
    drawn = {
        name: pa.array(draw(st.lists(cells, min_size=n_rows, max_size=n_rows)), kind)
        for name, (kind, cells) in columns.items()
    }
    return pa.table({name: drawn[name] for name in draw(st.permutations(list(drawn)))})


def parquet(table: pa.Table, group: int) -> bytes:
    """Write a table as it is."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group, write_page_checksum=True)
    return sink.getvalue()


@EXAMPLES
@given(tables(), st.integers(1, 9))
def test_columns_of_any_type_are_scored_or_quarantined(
    shop: Shop, table: pa.Table, group: int
) -> None:
    """What is scored is one row of each key among those that keep the contract, in any type."""
    manifest = shop.publish("rows.parquet", parquet(table, group))
    if manifest is None:
        return
    assert manifest.read == table.num_rows
    if any(pa.types.is_fixed_size_list(kind) for kind in table.schema.types):
        return  # Arrow writes them to Parquet and, where one is null, cannot read them
    said = set(read_published(manifest).column("order").to_pylist())
    good = check_rows(table, shop.contract, roles=SCORED_ROLES).good
    assert said == set(good.column("order").to_pylist())


@EXAMPLES
@given(st.data(), st.integers(1, 8), st.integers(1, 9))
def test_rows_are_scored_exactly_where_they_keep_the_contract(
    shop: Shop, data: st.DataObject, n_rows: int, group: int
) -> None:
    """Nulls, infinities, other levels and keys that come twice, held to rules written out here."""
    row: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {
            "order": st.none() | st.integers(0, 5),
            "weight": st.floats(0, 100) | st.sampled_from([None, math.nan, -0.0, 100.1]) | FLOATS,
            "kind": st.sampled_from([*KINDS, None, "", "Parcel", "parcel "]),
            "size": st.floats(-1, 1) | st.sampled_from([None, math.nan, math.inf, 1e300]),
            "gift": st.none() | st.booleans(),
            "at": st.none() | st.integers(-(2**62), 2**62),
            "note": TEXTS,
        }
    )
    rows = data.draw(st.lists(row, min_size=n_rows, max_size=n_rows))
    table = pa.Table.from_pylist(rows, pa.schema({n: FITTING[n][0] for n in rows[0]}))
    size = next(c for c in shop.contract.columns if c.name == "size")
    assert size.minimum is not None
    assert size.maximum is not None
    scored: dict[int, int] = {}
    for i, cells in enumerate(rows):
        weight, long = cells["weight"], cells["size"]
        if (
            cells["order"] is not None
            and (weight is None or math.isnan(weight) or 0 <= weight <= 100)
            and cells["kind"] in (*KINDS, None)
            and long is not None
            and size.minimum <= long <= size.maximum
        ):
            scored.setdefault(cells["order"], i)
    manifest = shop.publish("rows.parquet", parquet(table, group))
    assert manifest is not None
    assert read_published(manifest).column("order").to_pylist() == list(scored)
    assert shop.quarantined(manifest) == sorted(set(range(n_rows)) - set(scored.values()))


def written(table: pa.Table) -> bytes:
    """Write a table as CSV, as the standard library does."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(table.schema.names)
    columns = [c.cast(pa.string()).to_pylist() for c in table.columns]
    writer.writerows(
        ["NULL" if cell is None else cell for cell in row] for row in zip(*columns, strict=True)
    )
    return sink.getvalue().encode()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw a content with some bytes gone, changed or more."""
    for _ in range(draw(st.integers(0, 3))):
        at, width = draw(st.integers(0, max(len(content) - 1, 0))), draw(st.integers(0, 6))
        junk = st.sampled_from([b'"', b"\0", b"\xff", b"\r", b"\n", b",", b"nan", b"-", b"9" * 30])
        content = (
            content[:at]
            + draw(st.just(b"") | junk | st.binary(max_size=4))
            + (content[at + width :])
        )
    return content


@EXAMPLES
@given(st.data(), st.lists(st.tuples(*[TEXTS] * 3), min_size=1, max_size=8))
def test_any_csv_is_scored_or_quarantined(
    shop: Shop, data: st.DataObject, cells: list[tuple[str | None, ...]]
) -> None:
    """Whatever the texts and the bytes; without damage every row is counted."""
    n_rows = len(cells)
    columns = {
        name: data.draw(st.lists(values, min_size=n_rows, max_size=n_rows))
        for name, (_, values) in FITTING.items()
    }
    table = pa.table({name: pa.array(columns[name], FITTING[name][0]) for name in columns})
    names = data.draw(st.permutations(list(FITTING)))[:3]
    for name, texts in zip(names, zip(*cells, strict=True), strict=True):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(texts, pa.string()))
    content = written(table)
    changed = data.draw(damaged(content))
    manifest = shop.publish("rows.csv", changed)
    if changed == content:
        assert manifest is not None
        assert manifest.read == n_rows


DAY = Window(start=datetime(1970, 1, 1, tzinfo=UTC), end=datetime(1970, 1, 2, tzinfo=UTC))
HOURS = st.sampled_from([h * 3_600_000_000 for h in (-1, 0, 3, 23, 24, 10**6)]) | st.none()
TIMES = [
    (pa.timestamp("us"), HOURS),
    (pa.string(), st.sampled_from(["1970-01-01", "1970-01-01T23:59:59Z", "1970-01-02"]) | TEXTS),
    *[(kind, values) for kind, values in STRANGE if not pa.types.is_fixed_size_list(kind)],
]


@settings(EXAMPLES, max_examples=200)
@given(tables(strange=False), st.data(), st.integers(1, 9))
def test_times_of_any_type_find_their_window(
    timed_shop: Shop, table: pa.Table, data: st.DataObject, group: int
) -> None:
    """Each row of the window is scored or quarantined; times nobody can read are never scored."""
    kind, cells = data.draw(st.sampled_from(TIMES))
    n_rows = table.num_rows
    at = pa.array(data.draw(st.lists(cells, min_size=n_rows, max_size=n_rows)), kind)
    table = table.set_column(table.schema.get_field_index("at"), "at", at)
    manifest = timed_shop.publish("rows.parquet", parquet(table, group), DAY)
    times = convert(at, "timestamp").values.cast(pa.int64()).to_pylist()
    inside = [i for i, t in enumerate(times) if t is not None and 0 <= t < 86_400_000_000]
    if manifest is None:
        assert not inside
        return
    assert len(inside) <= manifest.read <= len(inside) + times.count(None)
    assert set(read_published(manifest).column("order").to_pylist()) <= {
        table.column("order")[i].as_py() for i in inside
    }
