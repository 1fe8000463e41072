"""A continuation keeps every tree of its ancestor, adds a few, and comes out the same again."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from twinloop.agreement import refuse_disagreement
from twinloop.compiled import compiled
from twinloop.continuation import (
    Contest,
    can_grow,
    contest_bounds,
    continued_result,
    is_continued,
    newest_span,
    plain_recipe,
    recipe_of,
    refitted,
    refitted_result,
    tell_enough,
    unlike,
)
from twinloop.continuationplan import plan_contest
from twinloop.contract import infer_contract
from twinloop.histories import Compared
from twinloop.logplan import Metric, Tag
from twinloop.recipe import NATIVE_CATEGORIES, Continues, Recipe
from twinloop.refresh import History, boosted_rounds
from twinloop.results import CandidateResult, Member
from twinloop.scorer import Scorer, from_files, learn_target, to_files
from twinloop.validation import LabelledRows, fit_rows, label_rows
from twinloop.vocabulary import AnyCandidate
from twinloop.workload import Workload

DAY = timedelta(days=1)
MADE = Continues(version="1", digest="d", trees=7, rate=0.03, recent=4 * DAY)
GROWN = Recipe(candidate="xgboost", continues=MADE)


def rows_of(task: str = "regression", days: int = 20) -> LabelledRows:
    """Return some days by the hour, with a category and gaps, as rows to be fitted."""
    draw, n = np.random.default_rng(3), 24 * days
    x = np.where(draw.random((n, 2)) < 0.1, np.nan, draw.normal(size=(n, 2)))
    kind = draw.choice(["a", "b", "c"], n)
    y = np.nan_to_num(x).sum(axis=1) + (kind == "a") + draw.normal(0, 0.2, n)
    at = np.datetime64("2024-01-01", "us") + np.arange(n).astype("timedelta64[h]")
    labels = {"regression": y, "binary": y > 0, "multiclass": np.digitize(y, [-0.5, 0.7])}[task]
    columns = {"x0": x[:, 0], "x1": x[:, 1], "kind": kind, "y": labels}
    table = pa.table({"at": pa.array(at, pa.timestamp("us", "UTC")), **columns})
    workload = Workload.model_validate(
        {
            "name": "small",
            "task": task,
            "source": {"kind": "bundled", "dataset": "diabetes"},
            "time": "at",
            "calendar": [],
            "target": "y",
        }
    )
    contract = infer_contract(table, workload, "test")
    return label_rows(table, contract, learn_target(table, workload), workload)


def grown(rows: LabelledRows, params: dict[str, int] | None = None) -> tuple[Scorer, Scorer]:
    """Return a model of the first half of the rows, and what grew of it on all of them."""
    half, recipe = np.arange(len(rows.y) // 2), GROWN.model_copy(update={"params": params or {}})
    plain = refitted(recipe)
    ancestor = fit_rows(rows, "xgboost", half, threads=1, rounds=12, recipe=plain)
    known = replace(rows, ancestor=lambda _: ancestor)
    return ancestor, fit_rows(known, "xgboost", threads=1, recipe=recipe)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_ancestors_trees_come_first_and_are_the_same(task: str) -> None:
    """Of so many rounds it answers as the ancestor does, to the last bit; then come the new."""
    rows = rows_of(task)
    ancestor, found = grown(rows)
    old, new = ancestor.predictor.model, found.predictor.model
    assert boosted_rounds(found.predictor) == 12 + 7
    assert list(new[:12].get_dump()) == list(old.get_dump())
    X = rows.matrix.encode(np.arange(len(rows.y)), found.encoding)
    first = new.inplace_predict(X, iteration_range=(0, 12))
    assert np.array_equal(first, old.inplace_predict(X))
    assert not np.array_equal(new.inplace_predict(X), first)
    assert found.encoding == ancestor.encoding


@pytest.mark.parametrize("native", [0, 1])
@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_it_comes_out_the_same_again_and_serves_as_any_other(task: str, native: int) -> None:
    """The same rows give the same bytes, the ancestor's are as before; compiled, it agrees."""
    rows, params = rows_of(task), {NATIVE_CATEGORIES: native}
    ancestor, found = grown(rows, params)
    assert found.predictor.model.trees_to_dataframe()["Category"].notna().any() == bool(native)
    before, loaded = to_files(ancestor), from_files(to_files(ancestor))
    known = replace(rows, ancestor=lambda _: loaded)
    recipe = GROWN.model_copy(update={"params": params})
    again = fit_rows(known, "xgboost", threads=1, recipe=recipe)
    assert to_files(found) == to_files(again)
    assert to_files(ancestor) == to_files(loaded) == before
    dirty = {name: pa.array([0.5, None, -9.0] * 2, pa.float64()) for name in ("x0", "x1")}
    kinds = pa.array(["a", "b", "never seen", None, "c", "a"])
    table = pa.table({name: dirty.get(name, kinds) for name in found.encoding.names})
    refuse_disagreement(found, compiled(found), table)


def test_new_trees_learn_from_the_newest_rows_alone() -> None:
    """What lies further back than four days may be anything."""
    rows = rows_of()
    late = np.arange(len(rows.y)) >= len(rows.y) - 24 * 4 - 1
    other = replace(rows, y=np.where(late, rows.y, rows.y * 100))
    ancestor, found = grown(rows)
    known = replace(other, ancestor=lambda _: ancestor)
    assert to_files(fit_rows(known, "xgboost", threads=1, recipe=GROWN)) == to_files(found)
    early = replace(rows, y=np.where(late, rows.y * 100, rows.y), ancestor=lambda _: ancestor)
    assert to_files(fit_rows(early, "xgboost", threads=1, recipe=GROWN)) != to_files(found)


def test_rows_that_find_no_ancestor_are_not_fitted_in_silence() -> None:
    """A refit in place of a continuation would be another model by the same name."""
    with pytest.raises(ValueError, match="version 1, to be continued"):
        fit_rows(rows_of(days=2), "xgboost", threads=1, recipe=GROWN)


def result(name: AnyCandidate, **parts: object) -> CandidateResult:
    """Return a candidate that won once."""
    base = {"metric": "rmse", "folds": (), "fit_seconds": 0, "predict_seconds": 0, "rows": 0}
    return CandidateResult.model_validate({"name": name, **base, **parts})


def test_one_booster_can_be_grown_and_nothing_else() -> None:
    """As shipped or tuned, by what it is and not by its name; no ensemble, no other kind."""
    assert can_grow(result("xgboost"))
    assert can_grow(result("xgboost-tuned", recipe=Recipe(candidate="xgboost")))
    assert not can_grow(result("linear"))
    assert not can_grow(result("boosting"))
    member = Member(name="xgboost", weight=1.0)
    assert not can_grow(result("ensemble", members=(member,)))


def test_heirs_of_a_continuation_are_fitted() -> None:
    """What it was continued from goes; settings stay, and its trees count without the new ones."""
    won = result("xgboost", recipe=Recipe(candidate="xgboost", params={"max_depth": 3}))
    made = continued_result(won, "4", "abc", 30 * DAY)
    recipe = recipe_of(made)
    assert recipe.continues is not None
    assert (recipe.continues.version, recipe.continues.digest) == ("4", "abc")
    assert is_continued(recipe.model_dump_json())
    assert not is_continued(recipe_of(won).model_dump_json())
    assert not is_continued("")
    assert refitted_result(made) == won
    _, found = grown(rows_of())
    assert plain_recipe(result("xgboost", recipe=GROWN), found.predictor).rounds == 12
    assert plain_recipe(result("xgboost"), found.predictor).rounds == 19


def test_only_rows_alike_are_learned_by_an_ancestor() -> None:
    """Another target, other classes or columns, or another kind of model: it says which."""
    rows = rows_of()
    ancestor, _ = grown(rows)
    features, target = rows.matrix.features, rows.target
    assert unlike(ancestor, features, target) == ""
    assert "columns" in unlike(ancestor, features[1:], target)
    assert "target" in unlike(ancestor, features, target.model_copy(update={"log": True}))
    linear = fit_rows(rows, "linear", threads=1)
    assert "no booster" in unlike(linear, features, target)


def test_what_is_new_is_divided_in_three() -> None:
    """The first is learned from, the others are asked about; rows the ancestor knows are none."""
    times = np.arange(0, 100)
    assert contest_bounds(times, 9) == [40, 70, 100]
    assert contest_bounds(times, 99) == []
    assert contest_bounds(times, 98) == []
    assert newest_span(180 * DAY) == 30 * DAY
    assert newest_span(2 * DAY) == 8 * timedelta(hours=1)


def test_few_rows_or_days_tell_nothing() -> None:
    """However many rows there are of three days; four tell something, if there are enough."""
    hours = np.arange(96) * 3_600_000_000
    groups = np.arange(96) // 16
    assert tell_enough(hours, groups, 60)
    assert not tell_enough(hours, groups, 97)
    assert not tell_enough(hours[:72], groups[:72], 60)
    assert not tell_enough(hours, groups // 2, 60)


def test_a_continuation_goes_on_where_it_is_clearly_better() -> None:
    """Luck moves nothing; the run has the reason, and the CPU seconds of both."""
    groups, refit = np.repeat(np.arange(6), 10), np.ones(60)
    kinds = []
    for losses in (refit - 0.1, refit - 0.1 * np.where(groups == 3, 7, 0.0), refit + 0.1):
        pair = [
            Compared.of(History(span=s * DAY), found, refit, groups, 9, cpu)
            for s, found, cpu in ((9, refit, 2.0), (4, losses, 0.5))
        ]
        contest = Contest(refit=pair[0], grown=pair[1], made=MADE)
        kinds.append(contest.better)
        items = list(plan_contest(contest, rows_of(days=2).workload))
        numbers = {i.name: i.value for i in items if isinstance(i, Metric)}
        assert numbers["continuation/refit_cpu_s"] == 2.0
        assert numbers["continuation/grown_cpu_s"] == 0.5
        assert Tag("twinloop.made_as", contest.better) in items
        assert contest.words.startswith(
            f"{contest.better}: 7 rounds at 0.03 on the newest 4d after"
        )
    assert kinds == ["continuation", "refit", "refit"]
