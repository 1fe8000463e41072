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
from mlflow.exceptions import MlflowException
from xgboost.core import XGBoostError

from flows.reproduce_model import reproduce_model
from flows.retrain_model import retrain_model
from flows.train_model import train_model
from tasks.choosing import row_losses
from tasks.engines import engines_off
from tasks.registry import ServedVersion, find_version, load_version
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.decision import NEW_LABELS
from twinloop.errors import ReproductionError, SourceError
from twinloop.jury import from_bytes
from twinloop.recipe import Recipe
from twinloop.refresh import boosted_rounds
from twinloop.results import TrainingResult
from twinloop.validation import LabelledRows
from twinloop.workload import Workload

START, DAY = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=1)
BORN, CHANGE, LATER = 60, 65, 95
FILE = """
name: mill
task: {task}
source: {{kind: files, path: "{path}"}}
time: at
key: [at]
target: {target}
{group}
ignore: [{ignore}]
calendar: []
training: {{window: 40d, holdout: 7d, folds: 2, candidates: [baseline, {candidate}]{training}}}
monitoring: {{labels_after: 0d}}
retraining: {{histories: own, jury: {jury}{rules}}}
"""
USUAL = {
    "task": "regression",
    "target": "y",
    "group": "",
    "ignore": "crew, high",
    "candidate": "xgboost",
    "training": "",
    "jury": "null",
    "rules": "",
}


@pytest.fixture(autouse=True)
def _plain() -> Iterator[None]:
    """Call flows as the functions they are: the same steps, and no server to tell of them."""
    with engines_off():
        yield


def mill(home: Path, **other: str) -> pd.DataFrame:
    """Write 120 days by the hour, on one of which the target's way changes; return some rows."""
    draw, n = np.random.default_rng(5), 24 * 120
    x = draw.normal(size=(n, 3))
    y = x[:, 0] + np.where(np.arange(n) >= 24 * CHANGE, -1.0, 1.0) * x[:, 1]
    y += draw.normal(0, 0.3, n)
    at = np.datetime64("2024-01-01", "us") + np.arange(n).astype("timedelta64[h]")
    columns = {f"x{i}": x[:, i] for i in range(3)}
    table = pa.table({"at": pa.array(at, pa.timestamp("us", "UTC")), **columns, "y": y})
    # Crews that last nine hours, and a guard that is there each night.
    crews = np.where(np.arange(n) % 24 < 6, -1, np.arange(n) // 9)
    table = table.append_column("crew", pa.array(crews)).append_column("high", pa.array(y > 0))
    pq.write_table(table, home / "mill.parquet")
    text = FILE.format(path=home / "mill.parquet", **USUAL | other)
    (home / "data" / "workloads" / "mill.yaml").write_text(text)
    return pd.DataFrame({"at": at[-50:], **{name: v[-50:] for name, v in columns.items()}})


def last_run(kind: str) -> Any:
    """Return the newest run of a kind."""
    where = f"tags.`twinloop.kind` = '{kind}'"
    return client().search_runs(["1"], where, order_by=["attributes.start_time DESC"])[0]


def retrained(
    home: Path, other: dict[str, str] | None = None, born: int = BORN, later: int = LATER
) -> tuple[TrainingResult | None, Recipe | None]:
    """Train and retrain; return what came of it, and what was fitted."""
    mill(home, **(other or {}))
    train_model("mill", as_of=START + born * DAY)
    result = retrain_model("mill", START + later * DAY)
    if result is None:
        return None, None
    recipe = find_version(load_workload("mill"), result.version).recipe
    return result, Recipe.model_validate_json(recipe)


def why() -> str:
    """Return what the last retraining says of refit and continuation."""
    return str(last_run("retraining").data.tags["twinloop.made_as_reason"])


def test_after_a_break_the_champions_trees_are_grown_on(home: Path) -> None:
    """It is promoted, told with both prices, served by plain MLflow, and fitted again alike."""
    frame = mill(home)
    train_model("mill", as_of=START + BORN * DAY)
    result = retrain_model("mill", START + LATER * DAY)
    assert result is not None
    assert (result.version, result.champion) == ("2", "2")
    run = last_run("retraining")
    assert run.data.tags["twinloop.made_as"] == "continuation"
    reason = why()
    # The refit is tried as it would be fitted: on 40 days before either stretch.
    page = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/continuation.md")
    rows = {
        line.split("|")[1].strip(): line.split("|")[5].strip() for line in page.splitlines()[4:]
    }
    assert int(rows["refit"]) >= 24 * 40 - 1
    assert "50 rounds at 0.03 on the newest 7d after version 1 save" in reason
    assert run.data.metrics["continuation/grown_cpu_s"] > 0
    assert run.data.metrics["continuation/refit_cpu_s"] > 0
    spec = load_workload("mill")
    first, second = (find_version(spec, number) for number in ("1", "2"))
    made = Recipe.model_validate_json(second.recipe).continues
    assert made is not None
    assert (made.version, made.digest) == ("1", first.digest)
    text = mlflow.artifacts.load_text(f"runs:/{second.run_id}/provenance.json")
    words = "refresh of version 1 on 40d, continued by 50 rounds at 0.03 on the newest 7d"
    assert json.loads(text)["made_by"] == words
    old, new = (load_version(v).scorer for v in (first, second))
    trees = [boosted_rounds(s.predictor) or 0 for s in (old, new)]
    assert trees[1] == trees[0] + 50
    answers = mlflow.pyfunc.load_model("models:/mill@champion").predict(frame)
    told = new.predict(pa.Table.from_pandas(frame)).value
    assert np.array_equal(answers["prediction"], told)
    assert reproduce_model("mill", "2").same
    tags = [client().get_model_version("mill", n).tags for n in ("1", "2")]
    assert [t.get("twinloop.continued_by") for t in tags] == ["2", None]
    # Its heirs are fitted: one generation deep.
    assert retrain_model("mill", START + (LATER + 20) * DAY) is not None
    assert "v2 is a continuation itself" in why()
    third = find_version(spec, "3")
    assert Recipe.model_validate_json(third.recipe).continues is None
    heir = load_version(third).scorer.predictor
    assert boosted_rounds(heir) not in (trees[1], trees[1] + 50)
    assert heir.model[:1].get_dump() != old.predictor.model[:1].get_dump()
    client().delete_model_version("mill", "1")
    with pytest.raises(ReproductionError, match=r"continues version 1 of mill .*no version '1'"):
        reproduce_model("mill", "2")
    assert reproduce_model("mill", "3").same


@pytest.mark.parametrize(
    ("candidate", "rules"), [("linear", ""), ("xgboost", ", continuing: false")]
)
def test_what_is_no_booster_or_not_to_be_grown_is_fitted_anew(
    home: Path, candidate: str, rules: str
) -> None:
    """Nothing is compared, and nothing of a version says that it was continued."""
    mill(home, candidate=candidate, rules=rules)
    train_model("mill", as_of=START + BORN * DAY)
    result = retrain_model("mill", START + LATER * DAY)
    assert result is not None
    assert not {"twinloop.made_as", "twinloop.made_as_reason"} & set(
        last_run("retraining").data.tags
    )
    recipe = find_version(load_workload("mill"), result.version).recipe
    assert Recipe.model_validate_json(recipe).continues is None


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"training": ", rolling: 30d"}, "rows that a rolling window has left behind"),
        ({"rules": ", min_new_rows: 600"}, "too little before the holdout is new to v1"),
        ({"task": "binary", "target": "high", "ignore": "crew, y"}, "calibrate probabilities"),
    ],
)
def test_what_a_continuation_would_be_wrong_for_is_fitted_anew(
    home: Path, other: dict[str, str], words: str
) -> None:
    """Old rows that may not count, too few that are new, or probabilities: the run says which."""
    result, recipe = retrained(home, other)
    assert words in why()
    assert "twinloop.made_as" not in last_run("retraining").data.tags
    assert result is None or (recipe is not None and recipe.continues is None)


def test_a_refit_is_not_tried_on_less_than_it_is_fitted_on(home: Path) -> None:
    """Where no rows lie so far back there is no contest: the continuation would win by them."""
    retrained(home, born=20, later=45)
    assert "nothing to continue: too little before what is new" in why()


def test_new_labels_alone_pay_for_no_comparison(home: Path) -> None:
    """They say nothing of a break, which a continuation is for."""
    mill(home)
    train_model("mill", as_of=START + BORN * DAY)
    assert retrain_model("mill", START + LATER * DAY, trigger=NEW_LABELS) is not None
    assert "only new labels asked" in why()


@pytest.mark.parametrize("error", [XGBoostError, ValueError, MlflowException, SourceError])
def test_a_comparison_that_fails_does_not_fail_the_retraining(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Whatever goes wrong in it, the run says so, and goes on with the refit."""

    def fail(*_: object) -> None:
        raise error("no room")

    monkeypatch.setattr("tasks.continuing.row_losses", fail)
    result, recipe = retrained(home)
    assert "no room" in why()
    assert result is not None
    assert recipe is not None
    assert (result.champion, recipe.continues) == ("2", None)


def test_rows_asked_are_strangers_and_the_ancestor_is_at_hand(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was there before is known by heart; and no look into the registry counts as growing."""
    asked: list[int] = []
    looked: list[str] = []

    def look(workload: Workload, number: str) -> ServedVersion:
        looked.append(number)
        return find_version(workload, number)

    def ask(
        rows: LabelledRows, recipe: Recipe, threads: int, train: np.ndarray, valid: np.ndarray
    ) -> tuple[np.ndarray, float]:
        times, before = rows.about.times, len(looked)
        assert times is not None
        hours = (times // 3_600_000_000) % 24
        assert (hours[train] < 6).any()
        assert not (hours[valid] < 6).any()
        asked.append(len(valid))
        found = row_losses(rows, recipe, threads, train, valid)
        assert len(looked) == before
        return found

    monkeypatch.setattr("tasks.continuing.row_losses", ask)
    monkeypatch.setattr("tasks.ancestors.find_version", look)
    retrained(home, {"group": "group: crew", "ignore": "high"})
    assert "nothing to continue" not in why()
    assert len(asked) == 4
    assert looked


def test_before_the_jury_a_continuation_has_no_head_start(home: Path) -> None:
    """Of rows its ancestor was fitted on, what the new trees spoil counts, not what it knew."""
    result, recipe = retrained(home, {"jury": "0.5"})
    assert result is not None
    assert recipe is not None
    assert recipe.continues is not None
    check = {c.name: c for c in result.verdict.checks}["jury"]
    first = load_version(find_version(load_workload("mill"), "1"))
    rows = from_bytes(first.jury)
    errors = rows.column("y").to_numpy() - first.scorer.predict(rows).value
    before = rows.column("y").to_numpy() - rows.column("jury.value").to_numpy()
    knew, recorded = (float(np.sqrt(np.mean(e**2))) for e in (errors, before))
    assert knew < recorded
    assert f"beside version 1's own answers: rmse {knew:.4g} -> " in check.words
    assert check.outcome == "fail"
