"""When a trial is given up, which is the best, and when a search has had its budget."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.searching import Job, Searcher
from twinloop.recipe import Recipe
from twinloop.training_keys import Tuning
from twinloop.tuneplan import told, trials_csv
from twinloop.tuning import (
    Limits,
    Search,
    State,
    Trial,
    hopeless,
    mean_losses,
    stages,
)

NONE: list[list[float]] = []


def trial(number: int, scores: list[float], state: State = "complete", **more: object) -> Trial:
    """Return a trial with these scores."""
    known: dict[str, object] = {
        "source": "search",
        "values": {"eta": 0.1},
        "recipe": Recipe(candidate="xgboost"),
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "peak_bytes": 1,
        "money": 0.5,
        "started": 0.0,
        "ended": 1.0,
        "spent": 1.0 + number,
    }
    given = known | {"number": number, "scores": scores, "state": state} | more
    return Trial.model_validate(given)


def search(*trials: Trial, metric: str = "rmse") -> Search:
    """Return a search with these trials."""
    return Search(candidate="xgboost", metric=metric, folds=2, trials=trials, ending="trials")


@pytest.mark.parametrize(
    ("left", "kept_back", "took", "ends"),
    [(50.0, 0.0, 40.0, False), (50.0, 0.0, 60.0, True), (50.0, 55.0, 1.0, True)],
)
def test_time_is_left_to_cross_validate_what_is_found(
    left: float, kept_back: float, took: float, ends: bool
) -> None:
    """As long as the best trial took, or as was asked for."""
    trials = [trial(0, [2.0, 2.0], seconds=500.0), trial(1, [1.0, 1.0], seconds=took)]
    unused: Any = None
    job = Job(
        workload=SimpleNamespace(metric="rmse"),  # type: ignore[arg-type]
        candidate="xgboost",
        rows=unused,
        folds=unused,
        span=None,
        limits=Limits(100),
        until=time.monotonic() + left,
        parent="",
        kept_back=kept_back,
    )
    study: Any = SimpleNamespace(trials=trials)
    assert Searcher(job, study, unused, unused)._ending() == ("budget" if ends else None)


@given(st.integers(1, 200))
def test_stages_rise_to_all_folds(n_folds: int) -> None:
    """A trial is looked at after its first fold, never twice, and in the end has seen all."""
    found = stages(n_folds)
    assert found[0] == 1
    assert found[-1] == n_folds
    assert list(found) == sorted(set(found))


def test_few_others_condemn_nobody() -> None:
    """Until five trials have seen a fold, its median says nothing."""
    assert not hopeless([9.0], [[1.0]] * 4, [], 0.25)
    assert hopeless([9.0], [[1.0]] * 5, [], 0.25)
    assert not hopeless([1.0], [[1.0]] * 5, [], 0.25)


def test_a_fold_is_compared_with_the_same_fold() -> None:
    """A hard first fold is no reason to give up: it is hard for all."""
    others = [[10.0, 1.0, 1.0]] * 5
    assert not hopeless([9.9], others, [], 0.25)
    assert hopeless([10.1], others, [], 0.25)


def test_luck_in_two_folds_is_no_reason_to_give_up() -> None:
    """Behind the best by much in one fold and ahead in the other may be luck; in both it is not."""
    best = [1.0, 1.0, 1.0]
    assert not hopeless([1.5, 0.9], NONE, best, 0.25)
    assert hopeless([1.5, 1.49], NONE, best, 0.25)
    assert not hopeless([0.5, 0.51], NONE, best, 0.25)


def test_folds_without_a_score_say_nothing() -> None:
    """A fold of one class has no ROC AUC; trials are judged by the others."""
    assert not hopeless([math.nan], [[math.nan]] * 5, [math.nan] * 3, 0.25)
    assert hopeless([math.nan, 2.0], [[math.nan, 1.0]] * 5, [], 0.25)
    assert mean_losses([math.nan, 2.0, 4.0])[1:] == [2.0, 3.0]


@pytest.mark.parametrize(
    ("used", "ending"),
    [
        ((9, 59.0, 0.9), None),
        ((10, 0.0, 0.0), "trials"),
        ((0, 60.0, 0.0), "minutes"),
        ((0, 0.0, 1.0), "money"),
    ],
)
def test_whichever_budget_ends_first(used: tuple[int, float, float], ending: str | None) -> None:
    """Each of the three ends a search by itself."""
    assert Limits(10, 60.0, 1.0).ending(*used) == ending
    assert (Limits(10, 60.0, 1.0).share(*used) == 1.0) == (ending is not None)


def test_searches_share_minutes_and_money_but_not_trials() -> None:
    """Two candidates have half the time each; what is not limited stays so."""
    tuning = Tuning(candidates=("xgboost", "linear"), minutes=3.0, money=0.5)
    assert Limits.of(tuning, 2) == Limits(100, 90.0, 0.25)
    assert Limits.of(Tuning(trials=7), 2) == Limits(7)
    assert Limits(7).share(0, 1e9, 1e9) == 0.0


def test_the_best_saw_all_folds() -> None:
    """A trial that was given up or stopped is not the best, however its folds were."""
    found = search(
        trial(0, [3.0, 3.0], source="default"),
        trial(1, [0.1], "pruned"),
        trial(2, [0.1], "stopped"),
        trial(3, [], "failed"),
        trial(4, [2.0, 2.0]),
        trial(5, [2.0, 2.0]),
    )
    assert found.best is not None
    assert found.best.number == 4
    assert found.default is not None
    assert found.default.number == 0
    assert found.money == 3.0
    assert search().best is None


def test_the_best_of_a_score_is_the_largest() -> None:
    """Where more is better, more is better."""
    found = search(trial(0, [0.6, 0.6]), trial(1, [0.7, 0.7]), metric="roc_auc")
    assert found.best is not None
    assert found.best.number == 1


def test_what_is_told_is_true() -> None:
    """The sentence has the counts, the gain, and what became of the shipped settings."""
    default = trial(0, [3.0, 3.0], source="default")
    better = search(default, trial(1, [2.0, 2.0]), trial(2, [9.0], "pruned"))
    said = told(better, "EUR")
    assert "3 trials (1 given up early) in 3 s for EUR 1.5, ended by trials" in said
    assert "best rmse 2, as shipped 3" in said
    assert "nothing is better than as shipped" in told(search(default), "EUR")
    assert "none saw all folds" in told(search(trial(0, [1.0], "stopped")), "EUR")
    assert trials_csv(better).splitlines()[3].startswith("2,search,pruned,9,1,")
