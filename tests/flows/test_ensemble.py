"""An ensemble competes, wins where it gains, and is served like any other model."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.reproduce_model import reproduce_model
from flows.score_batch import score_batch
from flows.train_model import train_model
from tasks.checking import check_workload
from tasks.registry import find_champion, load_version
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.workload import Overrides

NOW = datetime(2024, 3, 1, tzinfo=UTC)
FILE = """
name: mixed
task: {task}
source: {{kind: files, path: "{path}"}}
target: y
training: {{folds: 3, candidates: [ensemble, linear, forest], learning_curve: true}}
"""

pytestmark = pytest.mark.usefixtures("prefect")


def write(home: Path, task: str, bump: float = 2.5) -> pd.DataFrame:
    """Write a table that lines explain in part, and trees in another; and its workload."""
    draw = np.random.default_rng(3)
    n_rows = 400
    names = [f"x{i}" for i in range(6)]
    frame = pd.DataFrame(draw.normal(size=(n_rows, len(names))), columns=names)
    *straight, bent = names
    y = frame[straight].sum(axis=1) + bump * (frame[bent].abs() < 0.7)
    y += draw.normal(size=n_rows) * (0.3 if bump else 0.01)
    frame["y"] = y if task == "regression" else (y > y.median()).astype(int)
    frame.to_parquet(home / "mixed.parquet")
    text = FILE.format(task=task, path=home / "mixed.parquet")
    (home / "data" / "workloads" / "mixed.yaml").write_text(text)
    return frame.drop(columns="y")


def test_an_ensemble_of_tuned_members_is_fitted_again_to_the_same_files(home: Path) -> None:
    """Whoever ran may be a member, with the settings it had."""
    write(home, "binary")
    file = home / "data" / "workloads" / "mixed.yaml"
    tuned = "tuning: {candidates: [forest, linear], trials: 6}"
    text = file.read_text().replace("learning_curve: true", tuned)
    file.write_text(text)
    found = train_model("mixed", as_of=NOW)
    assert found.winner == "ensemble"
    winner = found.board.winner
    names = {m.name for m in winner.members}
    assert any(name.endswith("-tuned") for name in names), names
    again = reproduce_model("mixed", found.version)
    assert again.same, again


def test_members_are_served_calibrated_as_they_were_judged(home: Path) -> None:
    """By log loss each has a power that its files keep, and a fit anew comes to the same bytes."""
    write(home, "binary")
    file = home / "data" / "workloads" / "mixed.yaml"
    file.write_text(file.read_text().replace("target: y", "target: y\nmetric: log_loss"))
    found = train_model("mixed", as_of=NOW)
    assert found.winner == "ensemble"
    winner, others = found.board.winner, {c.name: c for c in found.board.candidates}
    powers = {m.name: m.power for m in winner.members}
    assert powers == {name: others[name].power for name in powers}
    # A forest says less than it knows.
    assert powers["forest"] > 1
    assert all(fold.power > 1 for fold in others["forest"].folds)
    champion = find_champion(load_workload("mixed"))
    assert champion is not None
    assert load_version(champion).scorer.predictor.model.powers == tuple(powers.values())
    again = reproduce_model("mixed", found.version)
    assert again.same, again


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_an_ensemble_is_trained_and_served(home: Path, task: str) -> None:
    """It wins by more than luck; plain MLflow loads it, and says what a batch says."""
    import mlflow

    frame = write(home, task)
    found = train_model("mixed", as_of=NOW)
    assert found.winner == "ensemble"
    winner = found.board.winner
    assert {m.name for m in winner.members} == {"linear", "forest"}
    assert sum(m.weight for m in winner.members) == pytest.approx(1)
    others = {c.name: c for c in found.board.candidates}
    assert winner.footprint is not None
    assert winner.fit_seconds == sum(others[m.name].fit_seconds for m in winner.members)
    champion = find_champion(load_workload("mixed"))
    assert champion is not None
    scorer = load_version(champion).scorer
    assert scorer.predictor.model.weights == tuple(m.weight for m in winner.members)
    mlflow_client = client()
    answers = mlflow.pyfunc.load_model("models:/mixed@champion").predict(frame)
    assert score_batch("mixed", as_of=NOW).scored == len(frame)
    parts = (home / "data" / "lake" / "mixed" / "predictions").rglob("*.parquet")
    published = pd.concat([pd.read_parquet(p) for p in parts])
    # Windows are scored by the compiled form: the same but for last bits.
    ours, theirs = np.sort(published["prediction"]), np.sort(answers["prediction"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    run = mlflow_client.get_run(found.run_id)
    assert len(mlflow_client.get_metric_history(run.info.run_id, f"accuracy/curve_{found.metric}"))
    card = Path(mlflow_client.download_artifacts(found.run_id, "model_card.md")).read_text()
    assert "Members: " in card
    children = mlflow_client.search_runs(
        [run.info.experiment_id], f"tags.mlflow.parentRunId = '{found.run_id}'"
    )
    (child,) = (c for c in children if c.data.params.get("candidate") == "ensemble")
    assert child.data.tags["twinloop.kind"] == "candidate"
    assert child.data.metrics[f"accuracy/{found.metric}"] == winner.valid
    assert child.data.metrics["weight/forest"] < 1
    assert child.data.metrics["time/predict_1000_rows_s"] > 0


def test_who_did_not_run_is_no_member(home: Path) -> None:
    """Without time for two there is no ensemble; of one member alone none is entered."""
    write(home, "regression", bump=0.0)
    found = check_workload(load_workload("mixed"), None, NOW)
    assert "ensemble" in found.candidates
    assert found.expected_seconds > 2
    short = train_model("mixed", as_of=NOW, overrides=Overrides(budget_minutes=1e-6))
    assert short.board.skipped == ("forest", "ensemble")
    assert short.winner == "linear"
    plain = train_model("mixed", as_of=NOW)
    assert [c.name for c in plain.board.candidates] == ["linear", "forest", "baseline"]
    assert plain.board.notes == ("no ensemble was entered: all of its weight would be on linear",)
