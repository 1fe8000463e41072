"""After a break a refresh grows the champion's trees on, and what comes of it is a version."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.reproduce_model import reproduce_model
from flows.retrain_model import retrain_model
from flows.train_model import train_model
from tasks.engines import engines_off
from tasks.registry import find_version, load_version
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.errors import ReproductionError
from twinloop.recipe import Recipe
from twinloop.refresh import boosted_rounds

START, DAY = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=1)
BORN, CHANGE, LATER = 60, 65, 95
FILE = """
name: mill
task: regression
source: {{kind: files, path: "{path}"}}
time: at
key: [at]
target: y
calendar: []
training: {{window: 40d, holdout: 7d, folds: 2, candidates: [baseline, {candidate}]}}
monitoring: {{labels_after: 0d}}
retraining: {{histories: own, jury: null{rules}}}
"""


@pytest.fixture(autouse=True)
def _plain() -> Iterator[None]:
    """Call flows as the functions they are: the same steps, and no server to tell of them."""
    with engines_off():
        yield


def mill(home: Path, candidate: str = "xgboost", rules: str = "") -> pd.DataFrame:
    """Write 120 days by the hour, on one of which the target's way changes; return some rows."""
    draw, n = np.random.default_rng(5), 24 * 120
    x = draw.normal(size=(n, 3))
    y = x[:, 0] + np.where(np.arange(n) >= 24 * CHANGE, -1.0, 1.0) * x[:, 1]
    y += draw.normal(0, 0.3, n)
    at = np.datetime64("2024-01-01", "us") + np.arange(n).astype("timedelta64[h]")
    columns = {f"x{i}": x[:, i] for i in range(3)}
    table = pa.table({"at": pa.array(at, pa.timestamp("us", "UTC")), **columns, "y": y})
    pq.write_table(table, home / "mill.parquet")
    text = FILE.format(path=home / "mill.parquet", candidate=candidate, rules=rules)
    (home / "data" / "workloads" / "mill.yaml").write_text(text)
    return pd.DataFrame({"at": at[-50:], **{name: v[-50:] for name, v in columns.items()}})


def last_run(kind: str) -> Any:
    """Return the newest run of a kind."""
    where = f"tags.`twinloop.kind` = '{kind}'"
    return client().search_runs(["1"], where, order_by=["attributes.start_time DESC"])[0]


def test_after_a_break_the_champions_trees_are_grown_on(home: Path) -> None:
    """It is promoted, told with both prices, served by plain MLflow, and fitted again alike."""
    frame = mill(home)
    train_model("mill", as_of=START + BORN * DAY)
    result = retrain_model("mill", START + LATER * DAY)
    assert result is not None
    assert (result.version, result.champion) == ("2", "2")
    run = last_run("retraining")
    assert run.data.tags["twinloop.made_as"] == "continuation"
    reason = run.data.tags["twinloop.made_as_reason"]
    assert "50 trees at 0.03 on the newest 7d after version 1 save" in reason
    assert run.data.metrics["continuation/grown_cpu_s"] > 0
    assert run.data.metrics["continuation/refit_cpu_s"] > 0
    spec = load_workload("mill")
    first, second = (find_version(spec, number) for number in ("1", "2"))
    made = Recipe.model_validate_json(second.recipe).continues
    assert made is not None
    assert (made.version, made.digest) == ("1", first.digest)
    text = mlflow.artifacts.load_text(f"runs:/{second.run_id}/provenance.json")
    words = "refresh of version 1 on 40d, continued by 50 trees at 0.03 on the newest 7d"
    assert json.loads(text)["made_by"] == words
    old, new = (load_version(v).scorer for v in (first, second))
    trees = [boosted_rounds(s.predictor) or 0 for s in (old, new)]
    assert trees[1] == trees[0] + 50
    answers = mlflow.pyfunc.load_model("models:/mill@champion").predict(frame)
    told = new.predict(pa.Table.from_pandas(frame)).value
    assert np.array_equal(answers["prediction"], told)
    assert reproduce_model("mill", "2").same
    # Its heirs are fitted: one generation deep.
    retrain_model("mill", START + (LATER + 20) * DAY)
    assert (
        "v2 is a continuation itself" in last_run("retraining").data.tags["twinloop.made_as_reason"]
    )
    client().delete_model_version("mill", "1")
    with pytest.raises(ReproductionError, match=r"continues version 1 of mill .*no version '1'"):
        reproduce_model("mill", "2")


@pytest.mark.parametrize(
    ("candidate", "rules"), [("linear", ""), ("xgboost", ", continuing: false")]
)
def test_what_is_no_booster_or_not_to_be_grown_is_fitted_anew(
    home: Path, candidate: str, rules: str
) -> None:
    """Nothing is compared, and nothing of a version says that it was continued."""
    mill(home, candidate, rules)
    train_model("mill", as_of=START + BORN * DAY)
    result = retrain_model("mill", START + LATER * DAY)
    assert result is not None
    assert not {"twinloop.made_as", "twinloop.made_as_reason"} & set(
        last_run("retraining").data.tags
    )
    recipe = find_version(load_workload("mill"), result.version).recipe
    assert Recipe.model_validate_json(recipe).continues is None
