"""What is said to have made an answer adds up to it, and comes in one order."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import logit

from tests.scorers import KINDS, NATIVE, PROBLEMS, fitted, learned, reference_of
from twinloop.candidates import fit_candidate
from twinloop.compiled import compiled
from twinloop.explaining import (
    Typical,
    contributions,
    explain,
    no_explanation,
    typical_values,
)
from twinloop.problem import Problem
from twinloop.rule import Rule
from twinloop.scorer import Scorer

every_scorer = pytest.mark.parametrize(
    ("kind", "problem"), [(kind, problem) for kind in KINDS for problem in PROBLEMS]
)
every_problem = pytest.mark.parametrize("problem", list(PROBLEMS))


@cache
def typical_of(kind: str, problem: str) -> Typical:
    """Return what the fitted rows are like."""
    return typical_values(reference_of(kind, problem))


def matrix(kind: str, problem: str, n_rows: int = 60) -> np.ndarray:
    """Return encoded rows."""
    return fitted(kind, problem).encoding.encode(learned(problem)[0].slice(0, n_rows))


def margins(scorer: Scorer, X: np.ndarray) -> np.ndarray:
    """Return the answers on the scale that the model learns, by other means than it explains."""
    predictor = scorer.predictor
    model, rows = predictor.model, np.arange(len(X))
    if predictor.library == "xgboost":
        found = np.asarray(model.inplace_predict(X, predict_type="margin"), np.float64)
    elif predictor.n_classes:
        found = model.decision_function(X.astype(np.float64))
    else:
        found = model.predict(X.astype(np.float64))
    return found[rows, scorer.predict_matrix(X).value] if found.ndim == 2 else found


@every_problem
@pytest.mark.parametrize("kind", ["linear", "xgboost", NATIVE])
def test_contributions_and_a_base_add_up_to_the_margin(kind: str, problem: str) -> None:
    """The base is the same for all rows, of several classes for all rows of one."""
    scorer, X = fitted(kind, problem), matrix(kind, problem, 300)
    base = margins(scorer, X) - contributions(scorer, X, typical_of(kind, problem)).sum(axis=1)
    several = len(scorer.target.classes) > 2
    classes = scorer.predict_matrix(X).value if several else np.zeros(len(X))
    assert len(np.unique(classes)) == (5 if several else 1)
    scale = 1e-9 if kind == "linear" else 1e-4
    for one in np.unique(classes):
        np.testing.assert_allclose(base[classes == one], base[classes == one][0], atol=scale)


@pytest.mark.parametrize("problem", ["number", "logarithm", "two"])
def test_linear_contributions_are_distances_from_the_mean(problem: str) -> None:
    """Over the rows fitted, each feature's add up to nothing: codes count from theirs too."""
    scorer, X = fitted("linear", problem), matrix("linear", problem, 300)
    found = contributions(scorer, X, typical_of("linear", problem))
    assert (np.abs(found).max(axis=0) > 1e-6).all()
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)


def test_linear_contributions_are_shapley_values() -> None:
    """They are what brute force over all sets of features finds, each feature on its own."""
    from itertools import permutations

    scorer, X = fitted("linear", "two"), matrix("linear", "two", 300)
    found = contributions(scorer, X, typical_of("linear", "two"))
    features = [0, 3, 5]
    orders = list(permutations(features))
    wanted = dict.fromkeys(features, 0.0)
    for order in orders:
        mixed = X.copy()
        before = margins(scorer, mixed).mean()
        for i in order:
            mixed[:, i] = X[7, i]
            after = margins(scorer, mixed).mean()
            wanted[i] += (after - before) / len(orders)
            before = after
    np.testing.assert_allclose(found[7, features], list(wanted.values()), atol=1e-9)


@pytest.mark.parametrize("problem", ["number", "two"])
def test_others_tell_how_far_a_typical_value_takes_the_answer(problem: str) -> None:
    """One feature at a time; two classes on the scale of log-odds."""
    scorer, X = fitted("forest", problem), matrix("forest", problem)
    typical = typical_of("forest", problem)
    found = contributions(scorer, X, typical)

    def answers(rows: np.ndarray) -> np.ndarray:
        said = scorer.predictor.predict(rows)
        return logit(np.clip(said[:, 1], 1e-6, 1 - 1e-6)) if said.ndim == 2 else said

    for i, value in enumerate(typical.values):
        changed = X.copy()
        changed[:, i] = value
        np.testing.assert_allclose(found[:, i], answers(X) - answers(changed), atol=1e-12)
    assert np.abs(found).max() > 0.1


@every_scorer
def test_the_largest_come_first(kind: str, problem: str) -> None:
    """By absolute value, of equals the feature that comes first; only `top` of them."""
    scorer, X, typical = fitted(kind, problem), matrix(kind, problem), typical_of(kind, problem)
    every = contributions(scorer, X, typical)
    assert np.isfinite(every).all()
    explained = explain(scorer, X, 4, typical)
    assert list(explained) == [
        f"{what}_{i}" for i in range(1, 5) for what in ("feature", "contribution")
    ]
    names = scorer.encoding.names
    for row in range(len(X)):
        ranked = sorted(range(len(names)), key=lambda i: (-abs(every[row, i]), i))[:4]
        told = [explained[f"feature_{k}"][row].as_py() for k in range(1, 5)]
        assert told == [names[i] for i in ranked]
        values = [explained[f"contribution_{k}"][row].as_py() for k in range(1, 5)]
        assert values == [every[row, i] for i in ranked]


@every_scorer
def test_explained_twice_it_is_the_same(kind: str, problem: str) -> None:
    """By the compiled scorer too, and by several threads at once."""
    plain, X, typical = fitted(kind, problem), matrix(kind, problem), typical_of(kind, problem)
    wanted = contributions(plain, X, typical)
    np.testing.assert_array_equal(contributions(plain, X, typical), wanted)
    fast = compiled(plain)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: contributions(fast, X, typical), range(4)):
            np.testing.assert_allclose(found, wanted, atol=1e-9)


@every_scorer
def test_no_rows_have_the_same_columns(kind: str, problem: str) -> None:
    """Names and types are those of any rows, whatever the model."""
    scorer, X, typical = fitted(kind, problem), matrix(kind, problem, 3), typical_of(kind, problem)
    some, none = explain(scorer, X, 3, typical), explain(scorer, X[:0], 3, typical)
    for found in (none, no_explanation(scorer, 3)):
        assert pa.table(found).schema == pa.table(some).schema
        assert pa.table(found).num_rows == 0
    assert some["feature_1"].type == pa.dictionary(pa.int32(), pa.string())
    assert some["contribution_1"].type == pa.float64()


def test_there_are_no_more_columns_than_features() -> None:
    """Asked for the top fifty of nine, it names nine."""
    scorer, X = fitted("linear", "number"), matrix("linear", "number")
    for found in (
        explain(scorer, X, 50, typical_of("linear", "number")),
        no_explanation(scorer, 50),
    ):
        assert len(found) == 2 * len(scorer.encoding.features)


def test_parts_of_one_time_stay_apart() -> None:
    """Hour, weekday and month of the time are three features."""
    scorer, X = fitted("xgboost", "number"), matrix("xgboost", "number")
    found = explain(scorer, X, 9, typical_of("xgboost", "number"))
    names = {found[f"feature_{k}"][0].as_py() for k in range(1, 10)}
    assert {"t.hour", "t.weekday", "t.month"} < names == set(scorer.encoding.names)


def test_the_rule_has_no_part_in_it() -> None:
    """Another threshold leaves contributions alone."""
    scorer, X = fitted("xgboost", "two"), matrix("xgboost", "two")
    typical = typical_of("xgboost", "two")
    other = replace(scorer, rule=Rule(threshold=0.01))
    wanted = contributions(scorer, X, typical)
    np.testing.assert_array_equal(contributions(other, X, typical), wanted)


def test_a_constant_has_no_reasons() -> None:
    """A baseline names the first features, each with nothing."""
    scorer, X = fitted("baseline", "five"), matrix("baseline", "five")
    found = explain(scorer, X, 2, typical_of("baseline", "five"))
    assert set(found["feature_1"].to_pylist()) == {scorer.encoding.names[0]}
    assert set(found["feature_2"].to_pylist()) == {scorer.encoding.names[1]}
    assert set(found["contribution_1"].to_pylist()) == {0.0}


def test_a_class_that_one_output_speaks_against_has_the_other_sign() -> None:
    """Of two known classes among three, what speaks for one speaks against the other."""
    scorer, X = fitted("linear", "five"), matrix("linear", "five", 300)
    y = np.where(X[:, 0] > 0, 3, 1)
    problem = Problem("multiclass", 5, "log_loss", seed=0, threads=1)
    two = replace(scorer, predictor=fit_candidate("linear", X, y, scorer.encoding, problem))
    found = contributions(two, X, typical_of("linear", "five"))[:, 0]
    told = two.predict_matrix(X).value
    far = np.abs(found) > 1
    assert set(told[far]) == {1, 3}
    assert (found[far] > 0).all()


@every_problem
def test_what_is_typical_is_the_median_or_the_commonest(problem: str) -> None:
    """Of known values; a median from bins is that of the rows, or next to it."""
    X, typical = matrix("linear", problem, 300), typical_of("linear", problem)
    assert typical.values.dtype == np.float32
    for i, feature in enumerate(fitted("linear", problem).encoding.features):
        known = X[:, i][~np.isnan(X[:, i])]
        if feature.n_levels:
            counts = np.bincount(known.astype(int), minlength=feature.n_levels)
            assert typical.values[i] == counts.argmax()
            wanted = np.append(counts, len(X) - len(known)) / len(X)
            np.testing.assert_allclose(typical.shares[i], wanted)
        else:
            assert np.mean(known < typical.values[i]) <= 0.5 <= np.mean(known <= typical.values[i])
