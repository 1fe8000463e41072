"""A challenger answers a share of what the champion scores, unpublished, and labels judge both."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.score_batch import score_batch
from flows.train_model import train_model
from flows.watch_drift import watch_drift
from tasks.labelling import find_shadow_labels
from tasks.published import SHADOW, read_published, read_shadow
from tasks.registry import CHALLENGER, find_alias, find_champion, load_version
from tasks.settings import load_workload
from tasks.sources import read_window
from tasks.storage import write_parquet
from tasks.tracking import client
from twinloop.contract import check_rows
from twinloop.workload import Overrides

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS, A_DAY = 60, 200
TRAINED = START + timedelta(days=40)
FILE = """
name: shop
task: regression
source: {{kind: files, path: "{path}"}}
time: at
key: [order]
target: paid
metric: rmse
training: {{window: 30d, holdout: 5d, folds: 3, candidates: [{candidate}]}}
inference: {{window: 1d, shadow: 0.3, explanations: 2, part_rows: 60, batch_rows: 60}}
monitoring: {{window: 7d, labels_after: 0d}}
"""

pytestmark = pytest.mark.usefixtures("prefect")


def history() -> pa.Table:
    """Return sixty days of orders; what is paid hangs on weight and kind."""
    draw, n = np.random.default_rng(11), DAYS * A_DAY
    weight, kind = draw.normal(size=n), draw.integers(0, 3, n)
    hours = [START + timedelta(minutes=7.2 * i) for i in range(n)]
    return pa.table(
        {
            "order": np.arange(n),
            "at": pa.array(hours, pa.timestamp("us", "UTC")),
            "weight": weight,
            "kind": pa.array([["parcel", "letter", "pallet"][k] for k in kind]),
            "paid": 10 + 3 * weight + kind + draw.normal(size=n),
        }
    )


def train(home: Path, candidate: str) -> None:
    """Train one candidate on the window before the same day."""
    path = home / "orders.parquet"
    file = home / "data" / "workloads" / "shop.yaml"
    file.write_text(FILE.format(path=path, candidate=candidate), encoding="utf-8")
    train_model("shop", as_of=TRAINED, overrides=Overrides(folds=3))


def change(home: Path, before: str, after: str) -> None:
    """Write the workload otherwise."""
    file = home / "data" / "workloads" / "shop.yaml"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture
def shop(home: Path) -> Path:
    """Provide a shop with a champion, and a challenger that was not promoted."""
    write_parquet(history(), home / "orders.parquet")
    train(home, "linear")
    train(home, "baseline")
    return home


def run_of(run_id: str) -> Any:
    """Return a run's metrics and tags."""
    return client().get_run(run_id).data


def rmse(version: Any, orders: set[int]) -> float:
    """Return the error of a version on some orders, found by other means."""
    loaded = load_version(version)
    rows = check_rows(history(), loaded.contract).good
    rows = rows.filter(pa.array([o in orders for o in rows.column("order").to_pylist()]))
    apart = loaded.scorer.predict(rows).value - rows.column("paid").to_numpy()
    return float(np.sqrt((apart**2).mean()))


def test_a_challenger_answers_unseen_and_is_judged_by_labels(shop: Path) -> None:
    """Its answers lie apart; the run says how they compare, and a watch what both were worth."""
    workload = load_workload("shop")
    champion, challenger = find_champion(workload), find_alias(workload, CHALLENGER)
    assert champion is not None
    assert challenger is not None
    assert (champion.version, challenger.version) == ("1", "2")

    asked: set[int] = set()
    for day in range(1, 8):
        if day == 5:
            # Windows with other columns of explanations are watched together.
            change(shop, "explanations: 2", "explanations: 1")
        manifest = score_batch("shop", as_of=TRAINED + timedelta(days=day))
        assert (manifest.scored, manifest.challenger) == (A_DAY, "2")
        assert len(manifest.shadow) == len(manifest.predictions) > 1
        asked |= set(read_shadow(manifest).column("order").to_pylist())
    assert 0.2 < len(asked) / (7 * A_DAY) < 0.4

    said, heard = read_published(manifest), read_shadow(manifest)
    assert set(said.column("model_version").to_pylist()) == {1}
    assert "feature_1" in said.schema.names
    assert "feature_2" not in said.schema.names
    assert heard.schema.names == ["order", "at", "prediction"]
    assert manifest.place_of(SHADOW).is_relative_to(shop / "data" / "lake" / "shop" / SHADOW)
    assert not [p for p in manifest.place.rglob("*") if SHADOW in p.name]

    by_order = dict(
        zip(*(said.column(n).to_pylist() for n in ("order", "prediction")), strict=True)
    )
    pairs = zip(*(heard.column(n).to_pylist() for n in ("order", "prediction")), strict=True)
    apart = [abs(by_order[order] - value) for order, value in pairs]
    found = run_of(manifest.run_id)
    assert found.tags["twinloop.shadow"] == "2"
    assert found.metrics["shadow/rows"] == heard.num_rows
    assert found.metrics["shadow/refused"] == 0
    assert found.metrics["shadow/equal"] == 0
    assert found.metrics["shadow/difference"] == pytest.approx(np.mean(apart))

    watch_drift("shop", TRAINED + timedelta(days=7))
    experiment = client().get_experiment_by_name("shop")
    assert experiment is not None
    (newest,) = client().search_runs(
        [experiment.experiment_id], "tags.`twinloop.kind` = 'monitoring'"
    )
    metrics = newest.data.metrics
    assert metrics["shadow/labels"] == len(asked)
    assert metrics["shadow/champion_rmse"] == pytest.approx(rmse(champion, asked))
    assert metrics["shadow/challenger_rmse"] == pytest.approx(rmse(challenger, asked))
    assert metrics["shadow/champion_rmse"] < 1.2 < metrics["shadow/challenger_rmse"]


def test_without_labels_there_is_nothing_to_compare(shop: Path) -> None:
    """Answers wait for their truth; other windows have none of this challenger."""
    workload = load_workload("shop")
    manifest = score_batch("shop", as_of=TRAINED + timedelta(days=1))
    assert manifest.window is not None
    assert find_shadow_labels(workload, manifest.window) is not None
    table = history()
    nulls = pa.nulls(table.num_rows, pa.float64())
    at = table.schema.get_field_index("paid")
    write_parquet(table.set_column(at, "paid", nulls), shop / "orders.parquet")
    assert find_shadow_labels(workload, manifest.window) is None
    assert read_window(workload, manifest.window).num_rows == A_DAY


def test_of_no_share_no_challenger_is_asked(shop: Path) -> None:
    """A share of 0 asks none, and writes no folder for it."""
    change(shop, "shadow: 0.3", "shadow: 0")
    manifest = score_batch("shop", as_of=TRAINED + timedelta(days=1))
    assert (manifest.shadow, manifest.challenger, manifest.agreement) == ((), "", None)
    assert not (shop / "data" / "lake" / "shop" / SHADOW).exists()
    assert not [name for name in run_of(manifest.run_id).metrics if name.startswith("shadow/")]
