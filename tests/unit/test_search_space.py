"""A search space holds what is shipped, and its values and recipes mean each other."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contract import infer_contract
from twinloop.recipe import NATIVE_CATEGORIES, Recipe
from twinloop.scorer import learn_target
from twinloop.search_space import (
    HALVINGS,
    RECENT,
    Range,
    default_values,
    first_values,
    native_values,
    recipe_of,
    search_space,
    tuned_name,
    values_of,
)
from twinloop.validation import LabelledRows, fit_rows, label_rows
from twinloop.vocabulary import Task, TunableName, TunedName
from twinloop.workload import Workload

TUNABLE: tuple[TunableName, ...] = get_args(TunableName)
TASKS: tuple[Task, ...] = get_args(Task)
SPAN = timedelta(days=90)


def workload(task: Task = "regression", **training: object) -> Workload:
    """Return a workload whose rows have a time."""
    return Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "source": {"kind": "files", "path": "x"},
            "time": "t",
            "target": "y",
            "training": training,
        }
    )


def rows(task: Task) -> LabelledRows:
    """Return 300 hours with a signal."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=300)
    noisy = x + draw.normal(size=300)
    y = (
        noisy
        if task == "regression"
        else np.digitize(noisy, [0.0, 1.0][: 1 + TASKS.index(task) // 2])
    )
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + timedelta(hours=h) for h in range(300)]
    table = pa.table(
        {
            "t": pa.array(times, pa.timestamp("us", "UTC")),
            "x": x,
            "z": draw.normal(size=300),
            "kind": draw.choice(list("abcde"), 300),
            "y": y,
        }
    )
    spec = workload(task)
    return label_rows(table, infer_contract(table, spec, "here"), learn_target(table, spec), spec)


@pytest.mark.parametrize("candidate", TUNABLE)
@pytest.mark.parametrize("task", TASKS)
def test_the_defaults_are_the_candidate_as_it_is_shipped(
    candidate: TunableName, task: Task
) -> None:
    """The first trial fits, to the last bit, what an untuned training fits."""
    labelled = rows(task)
    space = search_space(candidate, workload(task), SPAN, categories=True)
    recipe = recipe_of(candidate, default_values(space), workload(task), SPAN)
    assert (recipe.half_life, recipe.recent) == (None, None)
    X = labelled.matrix.X
    plain = fit_rows(labelled, candidate, threads=1)
    searched = fit_rows(labelled, tuned_name(candidate), threads=1, recipe=recipe)
    np.testing.assert_array_equal(plain.predictor.predict(X), searched.predictor.predict(X))


@pytest.mark.parametrize("candidate", TUNABLE)
@pytest.mark.parametrize("task", TASKS)
def test_every_setting_changes_what_is_fitted(candidate: TunableName, task: Task) -> None:
    """At one end or the other of its range a setting makes another model: none is passed by."""
    labelled = rows(task)
    space = search_space(candidate, workload(task), SPAN, categories=True)
    X, plain = labelled.matrix.X, fit_rows(labelled, candidate, threads=1)
    before = plain.predictor.predict(X)
    for r in space:
        ends = [default_values(space) | {r.name: end} for end in (r.low, r.high)]
        recipes = [recipe_of(candidate, v, workload(task), timedelta(hours=300)) for v in ends]
        after = [
            fit_rows(labelled, candidate, threads=1, recipe=e).predictor.predict(X) for e in recipes
        ]
        assert any((a != before).any() for a in after), r.name


def test_only_rows_with_a_time_have_a_recency_to_tune() -> None:
    """Without time, or where it is not wanted, only settings of the estimator are searched."""
    with_time = {r.name for r in search_space("xgboost", workload(), SPAN, categories=True)}
    without = {r.name for r in search_space("xgboost", workload(), None, categories=True)}
    unwanted = workload(tuning={"recency": "none"})
    assert with_time - without == {HALVINGS, RECENT}
    assert {r.name for r in search_space("xgboost", unwanted, SPAN, categories=True)} == without


def test_only_categories_have_a_way_to_be_divided() -> None:
    """Where there are none there is nothing to find out about them."""
    some = {r.name for r in search_space("xgboost", workload(), SPAN, categories=True)}
    none = {r.name for r in search_space("xgboost", workload(), SPAN, categories=False)}
    assert some - none == {NATIVE_CATEGORIES}
    tried = native_values(search_space("xgboost", workload(), SPAN, categories=True))
    assert tried is not None
    assert tried[NATIVE_CATEGORIES] == 1
    assert native_values(search_space("xgboost", workload(), SPAN, categories=False)) is None
    assert NATIVE_CATEGORIES not in {
        r.name for r in search_space("boosting", workload(), SPAN, categories=True)
    }


def test_the_latest_rows_have_a_trial_of_their_own() -> None:
    """As shipped in all else; where rows have no time, or tuning leaves it alone, there is none."""
    spec = workload()
    space = search_space("xgboost", spec, SPAN, categories=True)
    (_, shipped), (source, latest) = first_values(space)
    assert (shipped, source) == (default_values(space), "recent")
    recipe = recipe_of("xgboost", latest, spec, SPAN)
    assert (recipe.recent, recipe.half_life) == (0.3 * SPAN, SPAN / 3)
    assert recipe.params == recipe_of("xgboost", shipped, spec, SPAN).params
    timeless = search_space("xgboost", spec, None, categories=True)
    assert first_values(timeless) == [("default", default_values(timeless))]


def test_rows_that_age_by_the_workload_do_so_by_default() -> None:
    """The first trial has the workload's half-life; the search may find that none is better."""
    spec = workload(half_life="30d")
    space = search_space("linear", spec, SPAN, categories=True)
    recipe = recipe_of("linear", default_values(space), spec, SPAN)
    assert recipe.half_life == timedelta(days=30)
    ageless = recipe_of("linear", {HALVINGS: 0.0, RECENT: 1.0}, spec, SPAN)
    assert ageless.half_life is not None
    assert ageless.half_life > 50 * SPAN


def values(space: tuple[Range, ...]) -> st.SearchStrategy[dict[str, int | float]]:
    """Draw values of a space."""

    def one(r: Range) -> st.SearchStrategy[int | float]:
        if r.whole:
            return st.integers(int(r.low), int(r.high))
        return st.floats(r.low, r.high)

    return st.fixed_dictionaries({r.name: one(r) for r in space})


@given(st.data())
def test_a_recipe_comes_back_as_its_values(data: st.DataObject) -> None:
    """What a champion was made by is tried as it was, up to what is too little to matter."""
    candidate = data.draw(st.sampled_from(TUNABLE))
    spec = workload("binary")
    space = search_space(candidate, spec, SPAN, categories=True)
    drawn = data.draw(values(space))
    recipe = recipe_of(candidate, drawn, spec, SPAN)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    back = values_of(recipe, space, SPAN)
    for r in space:
        slack = {HALVINGS: 0.11, RECENT: 0.021}.get(r.name, 0.0)
        assert back[r.name] == pytest.approx(drawn[r.name], abs=slack, rel=1e-6)
    assert values_of(recipe_of(candidate, back, spec, SPAN), space, SPAN) == pytest.approx(back)


def test_a_recipe_of_other_times_is_brought_into_the_space() -> None:
    """Settings that a space no longer has are left out, and values outside moved to its ends."""
    space = search_space("xgboost", workload(), SPAN, categories=True)
    old = Recipe(
        candidate="xgboost",
        params={"eta": 0.9, "max_depth": 7, "gone": 1.0},
        recent=timedelta(days=900),
    )
    found = values_of(old, space, SPAN)
    assert set(found) == {r.name for r in space}
    assert (found["eta"], found["max_depth"], found[RECENT]) == (0.3, 7, 1.0)
    assert found["subsample"] == 0.8


def test_recent_rows_are_those_before_the_newest_that_was_given() -> None:
    """The window ends with the newest of the rows to fit, whatever else the table holds."""
    times = np.arange(10) * 3_600_000_000
    recipe = Recipe(candidate="linear", recent=timedelta(hours=3))
    assert recipe.newest(np.arange(8), times).tolist() == [4, 5, 6, 7]
    assert recipe.newest(np.arange(8), None).tolist() == list(range(8))
    assert Recipe(candidate="linear").newest(np.arange(8), times).tolist() == list(range(8))


def test_every_tunable_candidate_has_a_name_once_tuned() -> None:
    """The name says whose settings they are, and no name of a user's own can be the same."""
    assert {tuned_name(c) for c in TUNABLE} == set(get_args(TunedName))
    assert all(tuned_name(c) == f"{c}-tuned" for c in TUNABLE)
