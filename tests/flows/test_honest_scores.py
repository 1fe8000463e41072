"""A training says how far its scores can be trusted, and serves what the holdout judged."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.train_model import train_model
from tasks.registry import load_version, versions
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.rule import Rule
from twinloop.workload import Overrides

NOW = datetime(2024, 3, 1, tzinfo=UTC)
N_ROWS = 1200
FILE = """
name: rare
task: binary
source: {{kind: files, path: "{path}"}}
time: at
target: y
metric: macro_f1
slices: [plan, at.weekday, n]
training: {{candidates: [linear], folds: 4, refit: train, learning_curve: {curve}}}
"""

EVERY = ("linear", "kernel", "forest", "boosting", "xgboost", "ensemble")

pytestmark = pytest.mark.usefixtures("prefect")


def history(seed: int = 0) -> pd.DataFrame:
    """Return fifty days of a rare class; one plan's rows are noise."""
    draw = np.random.default_rng(seed)
    n, plan = draw.normal(size=N_ROWS), np.where(np.arange(N_ROWS) % 3 == 0, "noise", "clear")
    odds = np.where(plan == "clear", 3 * n - 3, -1.5)
    return pd.DataFrame(
        {
            "at": pd.date_range("2024-01-01", periods=N_ROWS, freq="1h", tz="UTC"),
            "n": n,
            "plan": plan,
            "y": draw.random(N_ROWS) < 1 / (1 + np.exp(-odds)),
        }
    )


def trained(home: Path, table: pd.DataFrame, *, curve: bool = False) -> tuple[Any, Rule]:
    """Train on a table; return the MLflow run, and the rule of the version it registered."""
    path = home / "rare.parquet"
    table.to_parquet(path)
    file = home / "data" / "workloads" / "rare.yaml"
    file.write_text(FILE.format(path=path, curve=str(curve).lower()))
    run_id = train_model("rare", as_of=NOW, overrides=Overrides(folds=4)).run_id
    newest = versions(load_workload("rare"))[0]
    assert newest.run_id == run_id
    return client().get_run(run_id), load_version(newest).scorer.rule


def test_a_training_tells_how_far_to_trust_it(home: Path) -> None:
    """Intervals, calibration, threshold, slices and the curve are in the run."""
    run, rule = trained(home, history(), curve=True)
    found = run.data.metrics
    assert 0 < found["accuracy/cv_low_macro_f1"] < found["accuracy/cv_macro_f1"]
    assert found["accuracy/cv_macro_f1"] < found["accuracy/cv_high_macro_f1"] <= 1
    assert found["calibration/threshold"] == rule.threshold < 0.5
    assert run.data.params["calibration"] == rule.calibration.method
    assert {"calibration/brier", "calibration/error", "calibration/bins"} <= set(found)
    assert found["slices/shown"] >= 8
    steps = {
        m.step for m in client().get_metric_history(run.info.run_id, "accuracy/curve_macro_f1")
    }
    assert len(steps) == 4
    plots = {a.path for a in client().list_artifacts(run.info.run_id, "plots")}
    wanted = ("leaderboard", "calibration", "slices", "learning_curve")
    assert {f"plots/{name}.png" for name in wanted} <= plots


def test_what_serves_follows_the_threshold(home: Path) -> None:
    """A frame asked through plain MLflow is given the second class where it is likely enough."""
    import mlflow

    _, rule = trained(home, history())
    client()
    model = mlflow.pyfunc.load_model("models:/rare@champion")
    frame = history(1).drop(columns="y")
    answers = model.predict(frame.assign(at=frame["at"].dt.tz_localize(None)))
    above = answers["probability"] > rule.threshold
    assert (answers["prediction"] == above).all()
    between = answers["probability"].between(rule.threshold, 0.5)
    assert between.any()


def test_a_shuffled_target_teaches_nothing(home: Path) -> None:
    """However much is tried on it: folds, search, ensemble, calibration and threshold see noise.

    By luck the holdout of 240 rows may seem to know a little of it, not more.
    """
    table = history()
    table["y"] = np.random.default_rng(5).permutation(table["y"])
    file = FILE.replace("macro_f1", "roc_auc").replace("[linear]", f"[{', '.join(EVERY)}]")
    path = home / "rare.parquet"
    table.to_parquet(path)
    text = file.format(path=path, curve="false").replace("folds: 4", "folds: 4, choice: best")
    (home / "data" / "workloads" / "rare.yaml").write_text(text)
    result = train_model("rare", as_of=NOW, overrides=Overrides(trials=8))
    names = {c.name for c in result.board.candidates}
    assert {"linear", "forest", "boosting", "xgboost", "xgboost-tuned"} <= names
    assert result.board.choice is not None
    assert result.board.choice.nothing_learned
    found = client().get_run(result.run_id).data.metrics
    # Chance is 0.5, give or take 0.04 in 240 rows of which a tenth to a third are of one class.
    assert abs(found["accuracy/roc_auc"] - 0.5) < 0.13
    # The best of nine by four folds flatters itself a little.
    assert found["accuracy/cv_roc_auc"] < 0.6


def test_the_holdout_teaches_nothing(home: Path) -> None:
    """With other labels in the holdout, calibration and threshold are the very same."""
    table = history()
    _, before = trained(home, table)
    last = table["at"] >= table["at"].max() - pd.Timedelta(days=9)
    _, after = trained(home, table.assign(y=table["y"] ^ last))
    assert after == before
    first = table["at"] < table["at"].min() + pd.Timedelta(days=30)
    _, other = trained(home, table.assign(y=table["y"] ^ (first & (table.index % 4 == 0))))
    assert other != before
