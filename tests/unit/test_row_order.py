"""Rows lie as trees divide them, and nothing else about them changes."""

import numpy as np
import pytest

from twinloop import boosting
from twinloop.candidates import fit_candidate
from twinloop.encoding import Encoding, Feature
from twinloop.problem import Problem, Rows
from twinloop.row_order import LEAST_ROWS, order_rows
from twinloop.vocabulary import TunableName

FEATURES = tuple(Feature(name=n, source=n, how="number") for n in "abc")
PROBLEM = Problem("regression", 0, "rmse", 0, 1, rounds=20)


def table(n_rows: int = LEAST_ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features, some missing, and a target that hangs on the first and the second."""
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n_rows, 3)).astype(np.float32)
    y = 2 * X[:, 0] + X[:, 1] + draw.normal(size=n_rows)
    X[draw.random(X.shape) < 0.05] = np.nan
    return X, y


def ordered(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the order of rows that are many."""
    order = order_rows(X, y)
    assert order is not None
    return order


def test_few_rows_stay_as_they_are() -> None:
    """They lie in the cache anyway."""
    assert order_rows(*table(LEAST_ROWS - 1)) is None


def test_every_row_has_one_place_beside_rows_like_it() -> None:
    """Neighbours differ in what matters by a fraction of what they did; in what does not, as ever.

    The same rows are in the same order whenever they are asked for.
    """
    X, y = table()
    order = ordered(X, y)
    assert np.array_equal(np.sort(order), np.arange(len(X)))
    before, after = (np.nanmean(np.abs(np.diff(v, axis=0)), axis=0) for v in (X, X[order]))
    assert after[0] < before[0] / 2
    assert after[2] == pytest.approx(before[2], rel=0.02)
    assert np.array_equal(order, ordered(X.copy(), y.copy()))


def test_rows_of_one_target_can_be_ordered() -> None:
    """Nothing divides them: they stay where they were."""
    X, y = table()
    assert np.array_equal(ordered(X, np.zeros(len(y))), np.arange(len(X)))


@pytest.mark.parametrize("name", ["xgboost", "boosting"])
def test_what_is_known_of_a_row_moves_with_it(name: TunableName) -> None:
    """Half of the rows lie and weigh nothing: the others are learned."""
    X, y = table()
    lies = np.random.default_rng(1).random(len(y)) < 0.5
    rows = Rows(weight=np.where(lies, 0.0, 1.0))
    told = np.where(lies, -9 * y, y)
    found = fit_candidate(name, X, told, Encoding(features=FEATURES), PROBLEM, rows).predict(X)
    assert np.corrcoef(found, y)[0, 1] > 0.85


def test_facts_of_rows_are_taken_in_order() -> None:
    """What is not known stays unknown."""
    rows = Rows(weight=np.array([0.5, 1.0, 2.0]), groups=np.array([7, 8, 9]))
    taken = rows.take(np.array([2, 0]))
    assert taken.weight is not None
    assert taken.weight.tolist() == [2.0, 0.5]
    assert taken.groups is not None
    assert taken.groups.tolist() == [9, 7]
    assert taken.times is None


@pytest.mark.parametrize("name", ["xgboost", "boosting"])
def test_trees_are_as_good_in_any_order(name: TunableName, monkeypatch: pytest.MonkeyPatch) -> None:
    """On rows that no fit has seen the error is the same within a hundredth."""
    X, y = table()
    held, truth = table(20_000, seed=1)

    def error() -> float:
        found = fit_candidate(name, X, y, Encoding(features=FEATURES), PROBLEM).predict(held)
        return float(np.sqrt(np.mean((found - truth) ** 2)))

    ordered = error()
    monkeypatch.setattr(boosting, "order_rows", lambda *_: None)
    assert ordered == pytest.approx(error(), rel=0.01)
