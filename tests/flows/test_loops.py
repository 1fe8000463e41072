"""Both loops, flow by flow, against a real Prefect server and a real MLflow store."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.retrain_model import retrain_model
from flows.score_batch import score_batch
from flows.train_model import train_model
from flows.watch_drift import watch_drift
from tasks.settings import load_workload
from tasks.storage import read_parquet
from tasks.tracking import client
from twinloop.workload import Overrides

START = datetime(2011, 7, 1, tzinfo=UTC)
QUICK = Overrides(candidates=("baseline", "linear"), folds=3)

pytestmark = pytest.mark.usefixtures("prefect")


def test_first_version_serves_and_scores_its_window(home: Path) -> None:
    """A first training makes a champion, and the champion scores every row of the window."""
    trained = train_model("bikes", as_of=START, overrides=QUICK)
    manifest = score_batch("bikes", as_of=START + timedelta(days=1))
    assert (trained.verdict.outcome, trained.champion) == ("promote", "1")
    assert (manifest.read, manifest.scored, manifest.quarantined) == (24, 24, 0)
    table = read_parquet(manifest.place / "part-00000.parquet")
    assert table.schema.names == ["timestamp", "prediction", "model_version", "model_run_id"]


def test_rerun_of_a_window_gives_the_same_bytes(home: Path) -> None:
    """Scoring a window again, from nothing, writes the very same file."""
    train_model("bikes", as_of=START, overrides=QUICK)
    first = score_batch("bikes", as_of=START + timedelta(days=1))
    part = first.place / "part-00000.parquet"
    before = part.read_bytes()
    (first.place.parent / "manifest.json").unlink()
    shutil.rmtree(first.place)
    again = score_batch("bikes", as_of=START + timedelta(days=1))
    assert not again.reused
    assert part.read_bytes() == before


def test_retraining_waits_for_the_cooldown(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A retraining within the cooldown of the last training does nothing, and says so."""
    caplog.set_level("INFO", "twinloop.progress")
    train_model("bikes", as_of=START, overrides=QUICK)
    assert retrain_model("bikes", START + timedelta(days=2)) is None
    assert "cooling down for another 5d" in caplog.messages
    runs = client().search_runs(["1"], "tags.`twinloop.kind` = 'retraining'")
    assert runs[0].data.tags["twinloop.verdict"] == "cooling down for another 5d"


def test_watch_reports_what_was_scored(home: Path) -> None:
    """A watch after two scored weeks compares every column, labels included."""
    train_model("bikes", as_of=START, overrides=QUICK)
    for day in range(1, 15):
        score_batch("bikes", as_of=START + timedelta(days=day))
    decision = watch_drift("bikes", START + timedelta(days=14))
    assert {f.column for f in decision.features} >= {"temperature", "prediction", "timestamp.hour"}
    assert decision.harm is not None
    assert decision.harm.n_blocks == 13
    assert load_workload("bikes").monitoring.labels_after == timedelta(days=1)
