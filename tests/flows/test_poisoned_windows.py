"""A broken window cannot vouch for itself, and honest drift is let through."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.train_model import train_model
from tasks.registry import find_champion, load_version, versions
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.jury import from_bytes
from twinloop.results import TrainingResult
from twinloop.verdict import Check
from twinloop.workload import Overrides

START = pd.Timestamp("2024-01-01", tz="UTC")
WEEK = timedelta(weeks=1)
HOURS = 24 * 7 * 30
# Three weeks are the holdout and a little more; nine are all the window but one week.
LATE = datetime(2024, 6, 3, tzinfo=UTC)
FIRST = LATE - 10 * WEEK
FILE = """
name: plant
task: regression
source: {{kind: files, path: "{path}"}}
time: at
key: [at]
target: output
metric: {metric}
training: {{window: 10w, holdout: 2w, folds: 3, candidates: [linear]}}
monitoring: {{labels_after: 0d}}
retraining: {{{rules}}}
"""

pytestmark = pytest.mark.usefixtures("prefect")


def history() -> pd.DataFrame:
    """Return thirty weeks of a plant whose output hangs on its load and on the hour."""
    draw = np.random.default_rng(3)
    load, noise = draw.normal(size=(2, HOURS))
    at = pd.date_range(START, periods=HOURS, freq="1h")
    output = 50 + 5 * load + 6 * np.sin(at.hour * np.pi / 12) + 2 * noise
    return pd.DataFrame({"at": at, "load": load, "output": output})


def flipped(output: pd.Series) -> pd.Series:
    """Turn large into small."""
    return 100 - output


def shuffled(output: pd.Series) -> pd.Series:
    """Give each row the truth of another."""
    return pd.Series(np.random.default_rng(1).permutation(output), output.index)


def stuck(output: pd.Series) -> pd.Series:
    """Repeat one value, as a broken meter does."""
    return pd.Series(np.where(np.arange(len(output)) % 500 == 0, 41.0, 40.0), output.index)


def wrong_unit(output: pd.Series) -> pd.Series:
    """Write the same in thousands."""
    return output / 1000


class Plant:
    """A plant with a champion, and what a retraining makes of other truths."""

    def __init__(self, home: Path, rules: str = "", metric: str = "rmse") -> None:
        self.table, self.path = history(), home / "plant.parquet"
        self.file = home / "data" / "workloads" / "plant.yaml"
        self.metric = metric
        self.rule(rules)
        self.table.to_parquet(self.path)
        assert train_model("plant", as_of=FIRST).champion == "1"

    def rule(self, rules: str) -> None:
        """Write the workload with other rules of retraining."""
        self.file.write_text(FILE.format(path=self.path, rules=rules, metric=self.metric))

    def retrain(
        self, poison: Callable[[pd.Series], pd.Series], weeks: int, as_of: datetime = LATE
    ) -> TrainingResult:
        """Train on a window whose last weeks have another truth."""
        table = self.table.copy()
        bad = (table["at"] >= as_of - weeks * WEEK) & (table["at"] < as_of)
        table.loc[bad, "output"] = poison(table.loc[bad, "output"])
        table.to_parquet(self.path)
        return train_model("plant", as_of=as_of)


def checks(result: TrainingResult) -> dict[str, Check]:
    """Return the checks of a verdict by name."""
    return {c.name: c for c in result.verdict.checks}


def test_a_poisoned_window_is_not_promoted(home: Path) -> None:
    """Be only the last three weeks broken, or nearly all of the window, holdout and all.

    On the broken rows the challenger is the better one each time: they vouch for each other.
    """
    plant = Plant(home)
    for poison in (flipped, shuffled, stuck, wrong_unit):
        for weeks, vetoes in ((3, "baseline"), (9, "jury")):
            case = f"{poison.__name__}, {weeks} weeks"
            result = plant.retrain(poison, weeks)
            found = checks(result)
            assert found["gain"].outcome == "pass", case
            assert found[vetoes].outcome == "fail", case
            assert (result.verdict.outcome, result.champion) == ("keep", "1"), case
            assert found[vetoes].words in result.verdict.reason


def test_without_its_jury_it_would_be(home: Path) -> None:
    """What stopped the poison was the jury; its own promotion leaves poisoned rows behind."""
    plant = Plant(home)
    plant.rule("jury: null")
    poisoned = plant.retrain(flipped, 9)
    assert (poisoned.verdict.outcome, poisoned.champion) == ("promote", "2")
    assert "jury" not in checks(poisoned)


def test_honest_drift_is_promoted_and_seated(home: Path) -> None:
    """What the load does fades by half and the level moves: the jury lets that through.

    Each version has the jury of its own past: a version that was kept has the champion's.
    """
    plant = Plant(home)
    kept = plant.retrain(lambda y: y, 0, as_of=FIRST + WEEK)
    assert kept.verdict.outcome != "promote"
    drifted = plant.retrain(lambda y: 0.6 * y + 14, 5)
    assert drifted.verdict.outcome == "promote", drifted.verdict.reason
    jury = checks(drifted)["jury"]
    assert jury.outcome == "pass"
    assert jury.high is not None
    assert jury.limit is not None
    assert jury.high > jury.limit
    third, second, first = (load_version(v) for v in versions(load_workload("plant")))
    assert first.jury == second.jury
    old, new = from_bytes(first.jury), from_bytes(third.jury)
    assert (old.num_rows, new.num_rows) == (2 * 168, 4 * 168)
    assert set(old.column("jury.row").to_pylist()) < set(new.column("jury.row").to_pylist())
    # What is recorded was predicted without having seen the truth: about as good as the holdout.
    errors = old.column("jury.value").to_numpy() - old.column("output").to_numpy()
    score = versions(load_workload("plant"))[-1].score
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(score)
    run = client().get_run(drifted.run_id)
    assert run.data.metrics["verdict/jury_limit"] == jury.limit
    files = {a.path for a in client().list_artifacts(drifted.run_id)}
    plots = {a.path for a in client().list_artifacts(drifted.run_id, "plots")}
    assert {"verdict.json", "verdict.md"} <= files
    assert "plots/verdict.png" in plots
    tags = client().get_model_version("plant", "3").tags
    assert jury.words in tags["twinloop.verdict_checks"]


def test_rows_of_the_jury_are_not_known_by_heart(home: Path) -> None:
    """Where the window reaches back to them, a twin fitted without them answers."""
    plant = Plant(home)
    result = plant.retrain(lambda y: 0.5 * y + 25, 3, as_of=FIRST + 3 * WEEK)
    assert "by a twin fitted without 336 of them" in checks(result)["jury"].words


def test_drift_of_the_simulated_city_is_promoted(home: Path) -> None:
    """Autumn with a broken battery sensor, then winter: worse on old rows, and better on new."""
    quick = Overrides(candidates=("xgboost",), folds=3)
    assert train_model("bikes", as_of=datetime(2011, 10, 21, tzinfo=UTC), overrides=quick)
    winter = train_model("bikes", as_of=datetime(2011, 12, 30, tzinfo=UTC), overrides=quick)
    assert winter.verdict.outcome == "promote", winter.verdict.reason
    assert checks(winter)["jury"].outcome == "pass"


def test_limits_keep_what_is_beyond_them(home: Path) -> None:
    """However good it is. Within them it is promoted, and the numbers are told."""
    plant = Plant(home)

    def better() -> TrainingResult:
        return plant.retrain(lambda y: 0.6 * y + 14, 5)

    for rules, name in (("latency_ms: 0.0001", "latency"), ("size_mb: 0.0001", "size")):
        plant.rule(f"limits: {{{rules}}}")
        kept = better()
        found = checks(kept)[name]
        assert (found.outcome, kept.verdict.outcome, kept.champion) == ("fail", "keep", "1")
        assert found.number is not None
        assert found.number > 0.0001
        assert found.words in kept.verdict.reason
    plant.rule("limits: {latency_ms: 60000, size_mb: 500}")
    within = better()
    assert within.verdict.outcome == "promote"
    assert {"latency", "size"} <= set(checks(within))


def test_a_first_version_beyond_its_limits_does_not_serve(home: Path) -> None:
    """Nothing serves then: a limit that the first version passes over would be none."""
    file = home / "data" / "workloads" / "diabetes.yaml"
    file.write_text(file.read_text() + "retraining: {limits: {size_mb: 0.000001}}\n")
    result = train_model("diabetes", overrides=Overrides(candidates=("linear",), folds=2))
    assert (result.verdict.outcome, result.champion) == ("keep", "")
    assert find_champion(load_workload("diabetes")) is None
