"""Candidates share one way to be fitted, asked and explained."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from twinloop.boosting import EDGE_ROWS
from twinloop.candidates import Predictor, fit_candidate
from twinloop.edges import bin_edges
from twinloop.encoding import Encoding, Feature
from twinloop.importance import importance
from twinloop.modelfiles import read_model, write_model
from twinloop.problem import Problem, Rows
from twinloop.recipe import NATIVE_CATEGORIES
from twinloop.vocabulary import CandidateName, Task

# They look at no feature but the calendar's, which there is none of here.
BASELINES = ("baseline", "seasonal")
CANDIDATES: tuple[CandidateName, ...] = get_args(CandidateName)
ENCODING = Encoding(
    features=(
        Feature(name="noise", source="noise", how="number"),
        Feature(name="level", source="level", how="category", levels=("a", "b", "c")),
        Feature(name="signal", source="signal", how="number"),
        Feature(name="empty", source="empty", how="number"),
    )
)


def matrix(n_rows: int = 200) -> np.ndarray:
    """Return noise, a code, the signal and a column of nothing, some of it missing."""
    draw = np.random.default_rng(3)
    X = draw.normal(size=(n_rows, 4))
    X[:, 1] = draw.integers(0, 3, n_rows)
    X[draw.random((n_rows, 4)) < 0.05] = np.nan
    X[:, 3] = np.nan
    return X.astype(np.float32)


def fit(
    name: CandidateName, task: Task, y: np.ndarray, n_classes: int = 0, metric: str = "rmse"
) -> Predictor:
    """Fit a candidate to this target."""
    problem = Problem(task, n_classes, metric, seed=0, threads=1)
    return fit_candidate(name, matrix(len(y)), y, ENCODING, problem)


SIGNAL = np.nan_to_num(matrix()[:, 2]).astype(np.float64)


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize(("task", "n_classes"), [("binary", 2), ("multiclass", 3)])
def test_probabilities_have_a_column_a_class(
    name: CandidateName, task: Task, n_classes: int
) -> None:
    """They lie between 0 and 1 and sum to 1."""
    y = np.digitize(SIGNAL, [0.0, 0.8][: n_classes - 1])
    found = fit(name, task, y, n_classes, "log_loss").predict(matrix())
    assert found.shape == (200, n_classes)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_class_absent_from_the_fold_has_no_chance(name: CandidateName) -> None:
    """The columns are those of all classes, in their order, whatever the fold holds."""
    y = np.where(SIGNAL > 0, 2, 0)
    found = fit(name, "multiclass", y, 3, "log_loss").predict(matrix())
    assert found.shape == (200, 3)
    assert found[:, 1].max() < 0.1
    if name not in BASELINES:
        assert (found.argmax(axis=1) == y).mean() > 0.8


@pytest.mark.parametrize("name", CANDIDATES)
def test_importance_finds_the_signal(name: CandidateName) -> None:
    """Shares sum to 1 and the signal has the largest; a baseline uses nothing."""
    shares = importance(fit(name, "regression", SIGNAL * 3), 4)
    assert shares.shape == (4,)
    if name in BASELINES:
        assert not shares.any()
    else:
        assert shares.sum() == pytest.approx(1.0)
        assert shares.argmax() == 2
        assert shares[3] == pytest.approx(0.0)


@pytest.mark.parametrize("name", [n for n in CANDIDATES if n not in BASELINES])
def test_importance_of_classes_finds_the_level(name: CandidateName) -> None:
    """A coded column counts as one feature, however many codes it has."""
    level = np.nan_to_num(matrix()[:, 1]).astype(int)
    shares = importance(fit(name, "multiclass", level, 3, "log_loss"), 4)
    assert shares.argmax() == 1


@pytest.mark.parametrize(("metric", "constant"), [("mae", np.median), ("rmse", np.mean)])
def test_the_baseline_is_the_best_constant(metric: str, constant: np.ufunc) -> None:
    """The median for absolute errors, the mean for squared ones, the shares for classes."""
    y = np.exp(SIGNAL)
    found = fit("baseline", "regression", y, metric=metric).predict(matrix())
    np.testing.assert_allclose(found, constant(y))
    truths = (SIGNAL > 0.5).astype(int)
    shares = fit("baseline", "binary", truths, 2, "log_loss").predict(matrix())
    np.testing.assert_allclose(shares[:, 1], truths.mean())


# Not boosting: on busy cores its threads wait for one another for seconds.
@pytest.mark.parametrize("name", ["linear", "forest"])
def test_threads_change_no_prediction(name: CandidateName) -> None:
    """What a machine has to spare decides the time, not the result."""
    X = matrix()
    found = [
        fit_candidate(
            name, X, SIGNAL, ENCODING, Problem("regression", 0, "rmse", seed=0, threads=threads)
        ).predict(X)
        for threads in (1, 2)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_same_rows_get_the_same_answer_to_the_last_bit(name: CandidateName) -> None:
    """However many threads fitted it: a rerun writes the same bytes, a tie stays a tie."""
    problem = Problem("regression", 0, "rmse", seed=0, threads=4)
    model = fit_candidate(name, matrix(2000), np.resize(SIGNAL, 2000), ENCODING, problem)
    X = matrix(2000)
    answers = {model.predict(X).tobytes() for _ in range(20)}
    assert len(answers) == 1


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize(("task", "n_classes"), [("regression", 0), ("binary", 2)])
def test_a_forest_may_be_of_extra_trees(task: Task, n_classes: int, share: float) -> None:
    """A setting of its own; they can be given a share of the rows, saved and explained."""
    y = SIGNAL if n_classes == 0 else (SIGNAL > 0).astype(int)
    found = []
    for extra in (0, 1):
        params = {"extra_trees": extra, "max_samples": share}
        problem = Problem(task, n_classes, "rmse", seed=0, threads=2, params=params)
        found.append(fit_candidate("forest", matrix(), y, ENCODING, problem))
    plain, extra_trees = found
    assert type(extra_trees.model).__name__.startswith("ExtraTrees")
    assert type(plain.model).__name__.startswith("RandomForest")
    assert importance(extra_trees, 4).argmax() == 2
    about, files = write_model(extra_trees)
    again = read_model(about, files, ())
    np.testing.assert_array_equal(again.predict(matrix()), extra_trees.predict(matrix()))
    whole = fit_candidate("forest", matrix(), y, ENCODING, replace(problem, params={}))
    assert (plain.predict(matrix()) == whole.predict(matrix())).all() == (share == 1)


@pytest.mark.parametrize("shared", [True, False])
def test_boosting_stops_by_later_rows_whatever_its_bin_edges(*, shared: bool) -> None:
    """Edges shared by folds, or those of some of many rows, are the stopping rows' edges, too."""
    n_rows = 2000 if shared else EDGE_ROWS + 1000
    X = matrix(n_rows)
    y = np.nan_to_num(X[:, 2]).astype(np.float64)
    edges = X[:500] if shared else None
    problem = Problem("regression", 0, "rmse", seed=0, threads=1, edges=edges)
    found = fit_candidate("xgboost", X, y, ENCODING, problem)
    assert np.mean((found.predict(X) - y) ** 2) < 0.05 * np.var(y)


@pytest.mark.parametrize("shared", [True, False])
def test_xgboost_may_divide_levels_that_have_no_order(*, shared: bool) -> None:
    """Of forty levels, half of them high, one split of categories tells which; one of codes cannot.

    Nor is the last one, which only late rows have, taken for another.
    """
    draw = np.random.default_rng(4)
    levels = tuple(f"level {i}" for i in range(40))
    encoding = Encoding(
        features=(
            Feature(name="level", source="level", how="category", levels=levels),
            Feature(name="x", source="x", how="number"),
        )
    )
    X = np.column_stack([draw.integers(0, 39, 600), draw.normal(size=600)]).astype(np.float32)
    X[-20:, 0] = 39
    high = draw.permutation(40) < 20
    high[38:] = False, True
    y = np.where(high[X[:, 0].astype(int)], 5.0, -5.0)
    times = np.arange(600) * 3_600_000_000
    edges = bin_edges(X[:100]) if shared else None
    found = {}
    for native in (0, 1):
        params = {"max_depth": 1, NATIVE_CATEGORIES: native, "colsample_bytree": 1.0}
        problem = Problem("regression", 0, "rmse", 0, 1, edges=edges, params=params)
        fitted = fit_candidate("xgboost", X, y, encoding, problem, Rows(times=times))
        read = read_model(*write_model(fitted), ())
        np.testing.assert_array_equal(read.predict(X), fitted.predict(X))
        assert importance(read, 2).argmax() == 0
        trees = fitted.model.trees_to_dataframe()
        assert trees["Category"].notna().any() == bool(native)
        found[native] = np.abs(read.predict(X) - y).max()
    assert found[1] < 1 < found[0]


@pytest.mark.parametrize("task", ["regression", "binary"])
@pytest.mark.parametrize("name", [n for n in CANDIDATES if n not in BASELINES])
def test_levels_by_the_dozen_leave_a_model_that_can_be_loaded(
    name: CandidateName, task: Task
) -> None:
    """One column a level makes a matrix of zeros, which libraries keep in types of their own."""
    draw = np.random.default_rng(2)
    levels = tuple(f"level {i}" for i in range(40))
    feature = Feature(name="level", source="level", how="category", levels=levels)
    X = draw.integers(0, 40, (300, 1)).astype(np.float32)
    y = (X[:, 0] > 20).astype(float) if task == "binary" else X[:, 0] + draw.normal(size=300)
    problem = Problem(task, 2 if task == "binary" else 0, "rmse", seed=0, threads=1)
    fitted = fit_candidate(name, X, y, Encoding(features=(feature,)), problem)
    read = read_model(*write_model(fitted), ())
    np.testing.assert_array_equal(read.predict(X), fitted.predict(X))
