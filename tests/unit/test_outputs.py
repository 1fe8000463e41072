"""What a window's output hangs on: each change makes another one, and nothing else does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import scoring
from tasks.published import read_published, window_slug
from tasks.registry import Loaded, ServedVersion
from tasks.verifying import verify_published
from tests.windows import WORKLOAD, dirty_orders, loaded, make_home, orders, publish
from twinloop.candidates import Predictor
from twinloop.errors import RegistryError
from twinloop.window import Window


class Registry:
    """Stands for MLflow: every version is one model, unless it is said otherwise."""

    def __init__(self) -> None:
        self.models: dict[str, Loaded] = {}

    def load(self, version: ServedVersion, *_: Any) -> Loaded:
        """Return a version."""
        return self.models.get(version.version, loaded())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a home with a few hundred orders."""
    monkeypatch.setenv("TWINLOOP_HOME", str(tmp_path))
    return make_home(tmp_path, orders(300))


@pytest.fixture
def registry(home: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Provide a registry to put other models in."""
    found = Registry()
    monkeypatch.setattr(scoring, "load_version", found.load)
    return found


def rewrite(home: Path, old: str, new: str) -> None:
    """Change the workload's file."""
    file = home / "data" / "workloads" / "shop.yaml"
    file.write_text(WORKLOAD.replace(old, new), encoding="utf-8")


def test_what_cannot_be_read_is_part_of_the_output(home: Path, registry: Registry) -> None:
    """A broken file that comes, or goes, is in the next output, or is not; the others stay."""
    first = publish()
    broken = home / "data" / "raw" / "z.parquet"
    broken.write_bytes((home / "data" / "raw" / "rows.parquet").read_bytes()[:500])
    second = publish()
    assert first.quarantined == 0
    assert second.quarantined > 0
    assert second.folder != first.folder
    broken.unlink()
    third = publish()
    assert (third.read, third.quarantined, third.folder) == (300, 0, first.folder)


def test_rows_in_another_order_are_another_output(home: Path, registry: Registry) -> None:
    """Its files have other bytes."""
    first = publish()
    table = orders(300)
    path = home / "data" / "raw" / "rows.parquet"
    pq.write_table(table.take(np.arange(300)[::-1]), path, write_page_checksum=True)
    second = publish()
    assert second.input_digest == first.input_digest
    assert second.folder != first.folder
    assert read_published(second).column("order").to_pylist() == list(range(299, -1, -1))


def test_a_part_of_another_share_in_shadow_is_made_again(
    home: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed goes on only with what it would have made itself."""
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "_refuse", stop)
        with pytest.raises(KeyboardInterrupt):
            publish(challenger=2)
    rewrite(home, "part_rows: 50", "part_rows: 50, shadow: 1.0")
    found = publish(challenger=2)
    assert [stored.rows for stored in found.shadow] == [50] * 6
    assert found.agreement is not None
    assert found.agreement.rows == 300


def stop(*_: object) -> None:
    """Stand for a kill after the last part."""
    raise KeyboardInterrupt


def spoiled(predict: Any) -> Loaded:
    """Return the model with another way to answer."""
    model = loaded()
    predictor = Predictor("ensemble", SimpleNamespace(predict=predict, members=()), 2)
    return replace(model, scorer=replace(model.scorer, predictor=predictor))


def test_a_challenger_that_fails_stops_nothing(
    home: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows count as refused, and the champion's predictions are as without it."""

    def fail(_: np.ndarray) -> np.ndarray:
        raise ValueError("no")

    registry.models["2"] = spoiled(fail)
    found = publish(challenger=2)
    assert found.scored == 300
    assert found.agreement is not None
    assert found.agreement.rows == 0
    assert found.agreement.refused > 10


def test_no_answer_is_no_prediction(home: Path, registry: Registry) -> None:
    """Rows that a model answers with what is no number are in quarantine."""

    def silent(X: np.ndarray) -> np.ndarray:
        said = np.full((len(X), 2), 0.5)
        said[::10] = np.nan
        return said

    registry.models["1"] = spoiled(silent)
    found = publish()
    assert (found.scored, found.quarantined) == (270, 30)
    bad = pa.concat_tables(
        [pq.read_table(found.quarantine_place / f.name) for f in found.quarantine]
    )
    assert set(bad.column("quarantine_reason").to_pylist()) == {"no_answer"}
    assert np.isfinite(read_published(found).column("probability").to_numpy()).all()


def test_a_version_of_another_key_is_refused(home: Path, registry: Registry) -> None:
    """What tells rows apart was learned with the model."""
    rewrite(home, "key: [order]", "key: [order, size]")
    with pytest.raises(RegistryError, match=r"trained with key \['order'\].*now says") as caught:
        publish()
    assert "twinloop train shop" in str(caught.value)


def test_windows_of_parts_of_a_second_have_their_own_folders() -> None:
    """Whole seconds are written as ever."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    ends = [start + timedelta(seconds=s) for s in (0, 0.1, 0.3, 1)]
    slugs = {window_slug(Window(start=a, end=b)) for a, b in pairwise(ends)}
    assert len(slugs) == 3
    assert window_slug(Window(start=start, end=ends[3])) == "20240101T000000_20240101T000001"


def test_output_without_a_challenger_takes_over_from_a_damaged_one(
    home: Path, registry: Registry
) -> None:
    """Nothing of the old one is left beside it."""
    first = publish(challenger=2)
    (first.place_of("shadow") / first.shadow[0].name).write_bytes(b"damaged")
    assert len(verify_published(scoring_workload()).faults) == 1
    second = publish()
    assert not second.reused
    assert verify_published(scoring_workload()).faults == ()


def scoring_workload() -> Any:
    """Return the workload of the home."""
    from tasks.settings import load_workload

    return load_workload("shop")


def test_a_key_that_always_repeats_is_looked_up_quickly(home: Path, registry: Registry) -> None:
    """Where each key comes twice, the first of each is scored, in their order."""
    table = orders(300)
    twice = pa.concat_tables([table, table])
    pq.write_table(twice, home / "data" / "raw" / "rows.parquet", write_page_checksum=True)
    rewrite(home, "quarantine_limit: 0.2", "quarantine_limit: 0.5")
    found = publish()
    assert (found.read, found.scored, found.quarantined) == (600, 300, 300)
    assert read_published(found).column("order").to_pylist() == list(range(300))


def test_dirty_rows_end_where_they_belong(home: Path, registry: Registry) -> None:
    """Scored and quarantined rows are all rows."""
    pq.write_table(dirty_orders(), home / "data" / "raw" / "rows.parquet", write_page_checksum=True)
    found = publish()
    assert found.read == found.scored + found.quarantined == 1000
