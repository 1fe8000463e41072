"""A refresh takes over what won, and is judged on half of what is new."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from twinloop.contract import infer_contract
from twinloop.recipe import Recipe
from twinloop.refresh import (
    History,
    aged,
    aged_result,
    boosted_rounds,
    main_recipe,
    refresh_holdout,
    refresh_workload,
)
from twinloop.results import CandidateResult, Member
from twinloop.scorer import learn_target
from twinloop.validation import fit_rows, label_rows
from twinloop.vocabulary import CandidateName
from twinloop.window import Window
from twinloop.workload import Workload

DAY = timedelta(days=1)
WORKLOAD = Workload.model_validate(
    {
        "name": "small",
        "task": "regression",
        "source": {"kind": "bundled", "dataset": "diabetes"},
        "time": "at",
        "target": "y",
        "training": {"window": "60d", "holdout": "14d", "tuning": {"trials": 5}},
    }
)


def result(name: CandidateName = "xgboost", **parts: object) -> CandidateResult:
    """Return a candidate that won once."""
    base = {"metric": "rmse", "folds": (), "fit_seconds": 0, "predict_seconds": 0, "rows": 0}
    return CandidateResult.model_validate({"name": name, **base, **parts})


@pytest.mark.parametrize(
    ("new", "holdout"), [(9.9, None), (10, 5), (15, 7), (28, 14), (29.5, 14), (300, 14)]
)
def test_a_refresh_knows_as_much_more_as_it_is_judged_on(new: float, holdout: int | None) -> None:
    """Half of what is new in whole days, five at least, the workload's own holdout at most."""
    found = refresh_holdout(WORKLOAD, 60 * DAY, new * DAY)
    assert found == (None if holdout is None else holdout * DAY)


def test_a_holdout_given_as_a_share_is_one_of_the_history() -> None:
    """A tenth of 60 days is the longest then."""
    training = WORKLOAD.training.model_copy(update={"holdout": 0.1})
    shared = WORKLOAD.model_copy(update={"training": training})
    assert refresh_holdout(shared, 60 * DAY, 100 * DAY) == 6 * DAY


def test_a_refresh_searches_nothing() -> None:
    """No tuning; what is written down can be read again."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    made = refresh_workload(WORKLOAD, Window(start=start, end=start + 90 * DAY), 7 * DAY)
    assert made.tuned == ()
    assert (made.training.window, made.training.holdout, made.training.folds) == (
        90 * DAY,
        7 * DAY,
        3,
    )
    assert Workload.model_validate_json(made.model_dump_json()) == made


def test_a_half_life_of_a_history_goes_with_it() -> None:
    """What tuning has found stays where the history says nothing, what a history said does not."""
    tuned = Recipe(candidate="xgboost", half_life=30 * DAY)
    plain, short = History(span=90 * DAY), History(span=90 * DAY, half_life=10 * DAY)
    assert aged(tuned, plain).half_life == 30 * DAY
    once = aged(tuned, short)
    assert once.half_life == 10 * DAY
    assert aged(once, plain, before=short).half_life is None


def test_a_history_bounds_how_far_back_a_recipe_reaches() -> None:
    """What tuning found stays where it is less; the span of the last history goes with it."""
    short, long = History(span=20 * DAY), History(span=90 * DAY)
    assert aged(Recipe(candidate="linear"), long).recent == 90 * DAY
    assert aged(Recipe(candidate="linear", recent=30 * DAY), long).recent == 30 * DAY
    once = aged(Recipe(candidate="linear"), short)
    assert aged(once, long, before=short).recent == 90 * DAY
    assert aged(once, History(span=None), before=short).recent is None


def test_members_of_an_ensemble_age_together_and_nobody_joins() -> None:
    """Each has its own settings still, and the pool is the members."""
    made = Recipe(candidate="forest", params={"max_depth": 3})
    members = (
        Member(name="forest-tuned", weight=0.6, recipe=made),
        Member(name="linear", weight=0.4),
    )
    pool = (*members, Member(name="xgboost", weight=0.0))
    winner = result(members=members, pool=pool)
    found = aged_result(winner, History(span=None, half_life=9 * DAY))
    recipes = [m.recipe for m in found.members]
    assert [r.half_life for r in recipes if r] == [9 * DAY, 9 * DAY]
    assert recipes[0] is not None
    assert recipes[0].params == {"max_depth": 3}
    assert {m.name for m in found.pool} == {"forest-tuned", "linear"}
    assert main_recipe(found) == recipes[0]


@pytest.mark.parametrize("name", ["xgboost", "boosting", "linear"])
def test_a_booster_is_grown_as_far_again(name: CandidateName) -> None:
    """The rounds that were found once are those of the next fit; other models have none."""
    draw = np.random.default_rng(0)
    x, start = draw.normal(size=(300, 2)), np.datetime64("2024-01-01", "us")
    at = pa.array(start + np.arange(300).astype("timedelta64[h]"), pa.timestamp("us", "UTC"))
    y = np.sin(2 * x[:, 0]) + draw.normal(0, 0.3, 300)
    table = pa.table({"at": at, "a": x[:, 0], "b": x[:, 1], "y": y})
    contract = infer_contract(table, WORKLOAD, "here")
    rows = label_rows(table, contract, learn_target(table, WORKLOAD), WORKLOAD)
    first = fit_rows(rows, name, threads=1).predictor
    recipe = main_recipe(result(name), first)
    again = fit_rows(rows, name, np.arange(200), threads=1, recipe=recipe).predictor
    assert boosted_rounds(again) == boosted_rounds(first) == recipe.rounds
    assert (recipe.rounds is None) == (name == "linear")
    assert main_recipe(result(name)).rounds is None
