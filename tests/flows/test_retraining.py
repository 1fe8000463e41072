"""A retraining takes the cheapest way that may do: a refresh, a search, or none."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow.artifacts
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect import flow, get_client, task
from prefect.cache_policies import INPUTS
from prefect.runtime import flow_run

from flows.reproduce_model import reproduce_model
from flows.retrain_model import retrain_model
from flows.score_batch import score_batch
from flows.train_model import train_model
from tasks.bookkeeping import read_account
from tasks.registry import find_champion, load_version, versions
from tasks.settings import load_workload
from tasks.tracking import client, tracked_run
from twinloop.results import TrainingResult

START, DAY = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=1)
BORN, CHANGE, LATER = 60, 65, 95
FILE = """
name: plant
task: regression
source: {{kind: files, path: "{path}"}}
time: at
key: [at]
target: y
calendar: []
training: {{window: 40d, holdout: 7d, folds: 3, candidates: [baseline, {candidate}]}}
inference: {{window: 1d}}
monitoring: {{labels_after: 0d}}
retraining: {{{rules}}}
budget: {budget}
"""

pytestmark = pytest.mark.usefixtures("prefect")


def plant(
    home: Path,
    *,
    change: float = 1.5,
    noise: float = 0.0,
    candidate: str = "linear",
    rules: str = "",
    budget: str = "{}",
) -> None:
    """Write 120 days by the hour; on one of them the target's way or its noise changes."""
    draw, n = np.random.default_rng(5), 24 * 120
    x = draw.normal(size=(n, 3))
    late = np.arange(n) >= 24 * CHANGE
    y = x[:, 0] + np.where(late, change, 1.0) * x[:, 1]
    y += draw.normal(0, 0.3, n) * np.where(late, 1 + noise, 1)
    at = np.datetime64("2024-01-01", "us") + np.arange(n).astype("timedelta64[h]")
    columns = {f"x{i}": x[:, i] for i in range(3)}
    stamps = pa.array(at, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"at": stamps, **columns, "y": y}), home / "plant.parquet")
    text = FILE.format(path=home / "plant.parquet", candidate=candidate, rules=rules, budget=budget)
    (home / "data" / "workloads" / "plant.yaml").write_text(text)


def flow_runs() -> dict[str, str]:
    """Return the name of the flow of each flow run that Prefect knows of."""
    with get_client(sync_client=True) as prefect:
        flows = {f.id: f.name for f in prefect.read_flows()}
        return {str(r.id): flows[r.flow_id] for r in prefect.read_flow_runs()}


def last_run(kind: str) -> Any:
    """Return the newest run of a kind."""
    where = f"tags.`twinloop.kind` = '{kind}'"
    return client().search_runs(["1"], where, order_by=["attributes.start_time DESC"])[0]


def test_every_flow_run_is_one_mlflow_run(home: Path) -> None:
    """Refreshes, what was tried again, and what a cached task did not: one bill each, and whole."""
    asked: list[int] = []

    @task(cache_policy=INPUTS, persist_result=True)
    def moment(day: int) -> datetime:
        asked.append(day)
        return START + day * DAY

    @flow(name="weekly", retries=1, result_storage=home / "results", persist_result=False)
    def weekly() -> TrainingResult | None:
        spec = load_workload("plant")
        at = moment(LATER)
        with tracked_run(spec, "replay", window=None, as_of=at):
            result = retrain_model("plant", at)
            if flow_run.run_count == 1:
                raise ConnectionError
        return result

    plant(home, rules="cooldown: 0d")
    before = flow_runs()
    train_model("plant", as_of=START + BORN * DAY)
    weekly()
    assert asked == [LATER]
    known = {i: name for i, name in flow_runs().items() if i not in before}
    flows = {"train-model": 1, "refresh-model": 1, "retrain-model": 2, "weekly": 1}
    assert Counter(known.values()) == flows
    runs = client().search_runs(["1"], max_results=1000)
    tag = "twinloop.prefect_flow_run_id"
    owners = Counter(r.data.tags[tag] for r in runs if tag in r.data.tags)
    assert owners == Counter(known.keys())
    by_id = {r.info.run_id: r for r in runs}
    for run in runs:
        families = {name.split("/")[0] for name in run.data.metrics}
        assert families >= {"accuracy", "time", "cost"}, run.info.run_name
        if run.data.tags.get("twinloop.recipe") == "refresh":
            above = by_id[run.data.tags["mlflow.parentRunId"]]
            assert known[run.data.tags[tag]] == "refresh-model"
            assert known[above.data.tags[tag]] == "retrain-model"
    assert read_account(load_workload("plant")).without_bill == 0


@pytest.mark.parametrize("candidate", ["linear", "xgboost"])
def test_a_refresh_is_a_version_like_any_other(home: Path, candidate: str) -> None:
    """It is of the champion's recipe, promoted by the verdict, scores, and comes out the same."""
    plant(home, change=1.7, candidate=candidate)
    train_model("plant", as_of=START + BORN * DAY)
    result = retrain_model("plant", START + LATER * DAY)
    assert result is not None
    assert (result.version, result.verdict.outcome, result.champion) == ("2", "promote", "2")
    assert [c.name for c in result.board.candidates] == [candidate]
    run = last_run("training")
    assert run.data.tags["twinloop.recipe"] == "refresh"
    assert run.data.tags["twinloop.refreshes"] == "1"
    # What it is likely to use is told by refreshes before, not by searches.
    assert run.data.tags["twinloop.shape"] == f"{candidate}; 3 folds"
    assert "v2 " in mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/costs.html")
    text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/provenance.json")
    assert json.loads(text)["made_by"].startswith("refresh of version 1 on ")
    card = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/model_card.md")
    assert "refresh of version 1 on " in card
    champion = find_champion(load_workload("plant"))
    assert champion is not None
    assert load_version(champion).jury
    manifest = score_batch("plant", as_of=START + (LATER + 1) * DAY)
    assert (manifest.version.version, manifest.scored) == ("2", 24)
    assert reproduce_model("plant", "2").same


def test_the_course_is_told_with_the_numbers_that_decided(home: Path) -> None:
    """Histories in a table, harm and gain as metrics, the reason in words; the bill adds up."""
    plant(home)
    train_model("plant", as_of=START + BORN * DAY)
    retrain_model("plant", START + LATER * DAY, trigger="labels")
    run = last_run("retraining")
    tags, numbers = run.data.tags, run.data.metrics
    outlook = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/outlook.json")
    assert json.loads(outlook)["trigger"] == "labels"
    assert tags["twinloop.answered"] == "yes"
    assert tags["twinloop.course"] == "refresh"
    assert "a refresh helps: rmse of the champion" in tags["twinloop.course_reason"]
    # Rows asked about begin two days after the change: the shortest history has least of before.
    assert json.loads(tags["twinloop.history"])["span"] == "P10D"
    assert tags["twinloop.history_reason"].startswith("10d: 10d saves ")
    assert numbers["outlook/champion_harm"] > 0.5
    assert numbers["outlook/refresh_saves"] > 0.3
    page = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/histories.md")
    assert "| 40d |" in page
    total, inner = numbers["cost/money_total"], last_run("training").data.metrics
    assert total == pytest.approx(numbers["cost/money"] + inner["cost/money_total"], rel=0.2)


def test_where_nothing_changed_nothing_is_paid_for(home: Path) -> None:
    """No version, no training run; the run says that there is no harm, at the price of a fit."""
    plant(home, change=1.0)
    train_model("plant", as_of=START + BORN * DAY)
    assert retrain_model("plant", START + LATER * DAY) is None
    run = last_run("retraining")
    assert run.data.tags["twinloop.course"] == "wait"
    assert "no harm to mend" in run.data.tags["twinloop.verdict"]
    assert len(versions(load_workload("plant"))) == 1
    assert last_run("training").data.tags["twinloop.recipe"] == "search"


def test_harm_that_newer_rows_do_not_mend_is_searched_for(home: Path) -> None:
    """Noise is no fault of the recipe: candidates compete once, and then wait for more rows."""
    plant(home, change=1.0, noise=1.0)
    train_model("plant", as_of=START + BORN * DAY)
    result = retrain_model("plant", START + LATER * DAY)
    assert result is not None
    assert len(result.board.candidates) == 2
    assert last_run("retraining").data.tags["twinloop.course"] == "search"
    assert "search/lead" in last_run("training").data.metrics
    assert retrain_model("plant", START + (LATER + 8) * DAY) is None
    reason = last_run("retraining").data.tags["twinloop.course_reason"]
    assert "1 in a row were refused: the next may follow in 18d" in reason


@pytest.mark.parametrize(
    ("rules", "days", "words"),
    [
        ("", 9, "9.04 days of labelled rows are newer than v1"),
        ("min_new_rows: 1000", 30, "720 labelled rows are newer than v1; 1000 wanted"),
    ],
)
def test_too_few_new_rows_are_waited_for(home: Path, rules: str, days: int, words: str) -> None:
    """Half of what is new must do for a verdict, and the workload may ask for more."""
    plant(home, rules=rules)
    train_model("plant", as_of=START + BORN * DAY)
    assert retrain_model("plant", START + (BORN + days) * DAY) is None
    assert words in last_run("retraining").data.tags["twinloop.verdict"]


def test_a_month_that_is_spent_pays_for_no_look_either(home: Path) -> None:
    """Comparing histories and probing are fits, too: none is made, and the run says why."""
    plant(home, budget="{training: {month: {money: 1e-9}}}")
    train_model("plant", as_of=START + BORN * DAY)
    assert retrain_model("plant", START + LATER * DAY) is None
    run = last_run("retraining")
    assert "(budget.training.month.money)" in run.data.tags["twinloop.verdict"]
    assert "no retraining starts" in run.data.tags["twinloop.over_budget"]
    assert not {"twinloop.history", "twinloop.course"} & set(run.data.tags)


def test_a_workload_may_search_always_or_stay_with_its_window(home: Path) -> None:
    """`search: always` is as before there were refreshes; `histories: own` chooses nothing."""
    plant(home, rules="search: always")
    train_model("plant", as_of=START + BORN * DAY)
    found = retrain_model("plant", START + LATER * DAY)
    assert found is not None
    assert len(found.board.candidates) == 2
    plant(home, change=4.0, rules="histories: own, search: never, cooldown: 1d")
    retrain_model("plant", START + 115 * DAY)
    tags = last_run("retraining").data.tags
    assert "twinloop.history" not in tags
