"""Tuning end to end: trials in a file and in MLflow, budgets, kills, the champion's recipe."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from shutil import copy
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from flows.train_model import train_model
from tasks import searching
from tasks.preparing import prepare_snapshot, training_window
from tasks.registry import ServedVersion, find_champion, load_version
from tasks.settings import load_workload
from tasks.tracking import client, tracked_run
from tasks.tuning import search_settings
from tasks.validating import open_study
from twinloop import validation
from twinloop.evaluation import METRICS
from twinloop.recipe import NATIVE_CATEGORIES, Recipe
from twinloop.results import TrainingResult
from twinloop.tuning import Search, Trial
from twinloop.validation import fit_rows

AS_OF = datetime(2011, 3, 20, tzinfo=UTC)
TRIALS = 16
WORKLOAD = """
name: city
task: regression
source: {kind: simulated, hours: 2000}
time: timestamp
key: [timestamp]
target: rentals
metric: rmsle
training:
  window: 30d
  folds: 3
  holdout: 7d
  candidates: [baseline, xgboost]
  choice: best
  tuning: TUNING
"""
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("prefect")


def write_workload(home: Path, tuning: str) -> None:
    """Describe the workload, tuned like this."""
    path = home / "data" / "workloads" / "city.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(WORKLOAD.replace("TUNING", tuning), encoding="utf-8")


def runs_of(kind: str) -> list[Any]:
    """Return the runs of a kind, the oldest first."""
    found = client().get_experiment_by_name("city")
    assert found is not None
    where = f"tags.`twinloop.kind` = '{kind}'"
    runs = client().search_runs([found.experiment_id], where, max_results=1000)
    return sorted(runs, key=lambda r: r.info.start_time)


def all_runs() -> list[Any]:
    """Return all runs."""
    found = client().get_experiment_by_name("city")
    assert found is not None
    return list(client().search_runs([found.experiment_id], max_results=1000))


def kept(home: Path, workload: str = "city") -> list[Trial]:
    """Read the trials of the only search from its file."""
    (path,) = (home / "data" / "lake" / workload / "tuning").glob("*.log")
    return trials_in(path)


def trials_in(path: Path) -> list[Trial]:
    """Read the trials of a file: each is a line that has all of it."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    told = [line["user_attrs"]["twinloop"] for line in lines if line.get("user_attrs")]
    return [Trial.model_validate_json(text) for text in told if text]


def search(champion: ServedVersion | None = None, as_of: datetime = AS_OF) -> Search:
    """Search as a training does, and do nothing else of it."""
    spec = load_workload("city")
    span = training_window(spec, as_of)
    with tracked_run(spec, "tuning", window=span, as_of=as_of) as run:
        snapshot = prepare_snapshot.fn(spec, span)
        return search_settings(spec, snapshot, "xgboost", champion, span, 300.0, run)


class Tuned(NamedTuple):
    """A tuned training, its result and its home."""

    home: Path
    result: TrainingResult
    runs: list[Any]


@pytest.fixture(scope="module")
def tuned(
    prefect: None, migrated_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tuned]:
    """Train once with tuning."""
    home = tmp_path_factory.mktemp("tuned")
    (home / "mlflow" / "store").mkdir(parents=True)
    copy(migrated_store, home / "mlflow" / "store" / "mlflow.db")
    write_workload(home, f"{{trials: {TRIALS}}}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", str(home))
        result = train_model("city", as_of=AS_OF)
        yield Tuned(home, result, all_runs())


def of_kind(tuned: Tuned, kind: str) -> list[Any]:
    """Return the runs of a kind."""
    return [r for r in tuned.runs if r.data.tags["twinloop.kind"] == kind]


def test_each_trial_is_a_child_run_with_all_families(tuned: Tuned) -> None:
    """It has its settings, accuracy, time and cost, its number and how it ended."""
    (search,) = of_kind(tuned, "tuning")
    (training,) = of_kind(tuned, "training")
    assert search.data.tags["mlflow.parentRunId"] == training.info.run_id
    trials = of_kind(tuned, "trial")
    assert sorted(int(t.data.tags["twinloop.trial"]) for t in trials) == list(range(TRIALS))
    for run in trials:
        assert run.data.tags["mlflow.parentRunId"] == search.info.run_id
        assert run.info.status == "FINISHED"
        assert {n.partition("/")[0] for n in run.data.metrics} == {"accuracy", "time", "cost"}
        assert run.data.metrics["cost/money"] > 0
        assert {"candidate", "source", "tuned.eta"} <= set(run.data.params)
    plots = [f.path for f in client().list_artifacts(search.info.run_id, "plots")]
    assert "plots/tuning_history.png" in plots
    assert search.data.params["ended_by"] == "trials"


def test_hopeless_trials_are_given_up_and_called_so(tuned: Tuned) -> None:
    """Some are, after some of their folds; the first is the candidate as shipped, to its end."""
    states = Counter(r.data.tags["twinloop.trial_state"] for r in of_kind(tuned, "trial"))
    assert states["pruned"] >= 1
    assert states["complete"] >= 3
    assert states["pruned"] + states["complete"] == TRIALS
    for trial in kept(tuned.home):
        assert len(trial.scores) == 3 if trial.state == "complete" else len(trial.scores) < 3
    first = kept(tuned.home)[0]
    assert (first.source, first.state) == ("default", "complete")
    assert first.values["eta"] == 0.1
    (recent,) = (t for t in kept(tuned.home) if t.source == "recent")
    assert recent.number < 4
    assert recent.recipe.recent is not None
    assert recent.recipe.params == first.recipe.params
    (native,) = (t for t in kept(tuned.home) if t.source == "categories")
    assert native.number >= 4
    assert native.values == first.values | {NATIVE_CATEGORIES: 1}


def test_tuning_is_no_worse_on_the_folds_it_searches_by(tuned: Tuned) -> None:
    """What is shipped is one of the trials, so the best is at least as good, here better."""
    (search,) = of_kind(tuned, "tuning")
    metrics = search.data.metrics
    assert metrics["accuracy/rmsle"] < metrics["tuning/as_shipped_rmsle"]
    scores = {c.name: c.valid for c in tuned.result.board.candidates}
    # By time there is one way to draw folds: the board's are those that were searched by.
    assert scores["xgboost-tuned"] == pytest.approx(metrics["accuracy/rmsle"])
    assert scores["xgboost"] == pytest.approx(metrics["tuning/as_shipped_rmsle"])
    assert any("xgboost was tuned" in said for said in tuned.result.board.notes)


def test_what_was_found_is_what_serves(tuned: Tuned) -> None:
    """The winner's recipe is the best trial's; the version and its run have it."""
    best = min((t for t in kept(tuned.home) if t.state == "complete"), key=lambda t: t.score)
    assert tuned.result.winner == "xgboost-tuned"
    assert tuned.result.board.winner.recipe == best.recipe
    champion = find_champion(load_workload("city"))
    assert champion is not None
    assert Recipe.model_validate_json(champion.recipe) == best.recipe
    (training,) = of_kind(tuned, "training")
    assert float(training.data.params["tuned.eta"]) == pytest.approx(best.values["eta"], rel=1e-4)
    # Fitted by hand it scores on the holdout, and predicts, what the training says it does.
    spec = load_workload("city")
    opened = open_study(spec, prepare_snapshot.fn(spec, training_window(spec, AS_OF)))
    held = opened.table.take(pa.array(opened.split.holdout))
    y = opened.target.encode(held.column(spec.target))
    fit = partial(fit_rows, opened.rows, "xgboost-tuned", threads=1, recipe=best.recipe)
    judged = METRICS["rmsle"].score(y, fit(opened.split.train).predict(held))
    assert tuned.result.holdout == pytest.approx(judged, rel=1e-6)
    served = load_version(champion).scorer.predict(held).value
    np.testing.assert_allclose(served, fit(opened.split.served).predict(held).value, rtol=1e-5)


def test_parts_of_the_bill_add_up(tuned: Tuned) -> None:
    """Trials that ran side by side in one process share out what it used."""
    (training,) = of_kind(tuned, "training")
    parts = sum(r.data.metrics["cost/money"] for r in tuned.runs)
    assert parts == pytest.approx(training.data.metrics["cost/money_total"], rel=1e-6)
    (search,) = of_kind(tuned, "tuning")
    trials = sum(r.data.metrics["cost/money"] for r in of_kind(tuned, "trial"))
    assert trials == pytest.approx(search.data.metrics["tuning/search_money"])
    assert trials < search.data.metrics["cost/money_total"]


def test_the_same_rows_are_searched_once(tuned: Tuned) -> None:
    """A search that has had its budget is not run again on the same rows: its trials are there."""
    before = kept(tuned.home)
    again = search()
    assert kept(tuned.home) == list(again.trials) == before
    assert again.resumed == TRIALS
    assert len(runs_of("trial")) == TRIALS


def test_the_champions_recipe_is_tried_early(tuned: Tuned, home: Path) -> None:
    """On newer rows the second trial is what the champion was made by, after what is shipped."""
    champion = find_champion_of(tuned)
    write_workload(home, "{trials: 2}")
    found = search(champion, AS_OF + timedelta(days=3))
    assert [t.source for t in found.trials] == ["default", "champion"]
    recipe = tuned.result.board.winner.recipe
    assert recipe is not None
    assert found.trials[1].recipe.params == pytest.approx(recipe.params)
    shipped = champion.model_copy(update={"recipe": '{"candidate": "linear"}'})
    write_workload(home, "{trials: 3}")
    assert "champion" not in [t.source for t in search(shipped).trials]


def find_champion_of(tuned: Tuned) -> ServedVersion:
    """Return the champion of the tuned training, wherever home is now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", str(tuned.home))
        found = find_champion(load_workload("city"))
    assert found is not None
    return found


def test_the_same_seed_finds_the_same(tuned: Tuned, home: Path) -> None:
    """In another home, one fold at a time: the same trials, to the last bit."""
    write_workload(home, f"{{trials: {TRIALS}}}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_THREADS", "1")
        found = search()
    assert [(t.values, t.scores, t.state) for t in found.trials] == [
        (t.values, t.scores, t.state) for t in kept(tuned.home)
    ]


@pytest.mark.parametrize(
    ("tuning", "ending"), [("{money: 0.000002}", "money"), ("{minutes: 0.01}", "minutes")]
)
def test_other_budgets_end_a_search(home: Path, tuning: str, ending: str) -> None:
    """Of a hundred trials some few are run; those that were cut short are told as such."""
    write_workload(home, tuning)
    found = search()
    assert found.ending == ending
    assert len(found.trials) < 50
    states = {str(t.number): t.state for t in found.trials}
    runs = runs_of("trial")
    assert {
        r.data.tags["twinloop.trial"]: r.data.tags["twinloop.trial_state"] for r in runs
    } == states
    for run in runs:
        assert (run.info.status == "KILLED") == (run.data.tags["twinloop.trial_state"] == "stopped")
    if ending == "money":
        assert 0.000002 <= found.money < 0.00001
    else:
        assert 0.6 <= found.seconds < 30


def test_a_failing_trial_fails_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that an estimator refuses make a failed run that says why, and the search goes on."""
    fit = validation.score_fold

    def picky(rows: Any, recipe: Recipe, *fold: Any, threads: int) -> float:
        if recipe.params["eta"] != 0.1 or recipe.recent:
            raise ValueError("not to my taste")
        return fit(rows, recipe, *fold, threads=threads)

    monkeypatch.setattr(searching, "score_fold", picky)
    write_workload(home, "{trials: 3}")
    found = search()
    assert [t.state for t in found.trials] == ["failed", "failed", "complete"]
    assert found.best is not None
    assert found.best.source == "default"
    failed = [r for r in runs_of("trial") if r.info.status == "FAILED"]
    assert len(failed) == 2
    assert "not to my taste" in failed[0].data.tags["twinloop.error"]


CHILD = """
from tests.flows.test_tuning import search
search()
"""


def test_a_killed_search_goes_on_with_the_trials_that_had_ended(home: Path) -> None:
    """SIGKILL loses the trials that ran; the next search makes up the number, and no more."""
    write_workload(home, f"{{trials: {TRIALS}}}")
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    child = subprocess.Popen([sys.executable, "-c", CHILD], env=environment, cwd=ROOT)
    folder = home / "data" / "lake" / "city" / "tuning"
    deadline = time.monotonic() + 120
    try:
        while len([t for p in folder.glob("*.log") for t in trials_in(p)]) < 3:
            assert child.poll() is None, "the child ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    before = kept(home)
    assert 3 <= len(before) < TRIALS
    found = search()
    assert found.trials[: len(before)] == tuple(before)
    assert found.resumed == len(before)
    assert sum(t.counts for t in found.trials) == len(found.trials) == TRIALS
    # Each trial is in MLflow once, under the run that ran it, whoever wrote it down.
    runs = runs_of("trial")
    assert sorted(int(r.data.tags["twinloop.trial"]) for r in runs) == list(range(TRIALS))
    parents = {int(r.data.tags["twinloop.trial"]): r.data.tags["mlflow.parentRunId"] for r in runs}
    assert [parents[t.number] for t in found.trials] == [t.parent for t in found.trials]
    assert len({t.parent for t in found.trials}) == 2


def test_a_torn_line_is_cut_off(tuned: Tuned, home: Path) -> None:
    """What a power failure left of a trial is no trial; all before it are kept."""
    write_workload(home, f"{{trials: {TRIALS}}}")
    (path,) = (tuned.home / "data" / "lake" / "city" / "tuning").glob("*.log")
    copied = home / "data" / "lake" / "city" / "tuning" / path.name
    copied.parent.mkdir(parents=True)
    # The first line is the study's, each of the next is a trial.
    lines = path.read_bytes().splitlines(keepends=True)[: 1 + TRIALS]
    copied.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    found = search()
    assert found.resumed == TRIALS - 1
    assert [t.number for t in found.trials] == list(range(TRIALS))
