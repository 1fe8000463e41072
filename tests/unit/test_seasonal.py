"""The seasonal baseline says what was usual at this hour of the week."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.candidates import fit_candidate
from twinloop.encoding import Encoding, Feature
from twinloop.problem import Problem
from twinloop.seasonal import SeasonalNaive

ENCODING = Encoding(
    features=(
        Feature(name="n", source="n", how="number"),
        Feature(name="t.hour", source="t", how="hour"),
        Feature(name="t.weekday", source="t", how="weekday"),
        Feature(name="t.month", source="t", how="month"),
    )
)
DRAW = np.random.default_rng(2)
X = np.column_stack(
    [DRAW.normal(size=400), DRAW.integers(0, 3, 400), DRAW.integers(0, 2, 400), np.zeros(400)]
).astype(np.float32)
Y = X[:, 1] + 10 * X[:, 2] + DRAW.exponential(size=400)


def slot(hour: float, weekday: float) -> np.ndarray:
    """Tell the rows of an hour of a weekday."""
    return (X[:, 1] == hour) & (X[:, 2] == weekday)


@pytest.mark.parametrize(("metric", "statistic"), [("rmse", np.mean), ("mae", np.median)])
def test_a_slot_has_its_own_constant(metric: str, statistic: np.ufunc) -> None:
    """The mean, or the median for absolute errors, of the same hour of the same weekday."""
    problem = Problem("regression", 0, metric, seed=0, threads=1)
    found = fit_candidate("seasonal", X, Y, ENCODING, problem).predict(X)
    for hour in range(3):
        for weekday in range(2):
            rows = slot(hour, weekday)
            np.testing.assert_allclose(found[rows], statistic(Y[rows]))


@pytest.mark.parametrize(("metric", "statistic"), [("rmse", np.mean), ("mae", np.median)])
def test_a_slot_nobody_was_in_has_the_overall_one(metric: str, statistic: np.ufunc) -> None:
    """So has a row whose time is missing."""
    problem = Problem("regression", 0, metric, seed=0, threads=1)
    model = fit_candidate("seasonal", X, Y, ENCODING, problem)
    strange = np.array([[0, 23, 6, 0], [0, np.nan, 1, 0], [0, 1, np.nan, 0]], np.float32)
    np.testing.assert_allclose(model.predict(strange), statistic(Y))


def test_classes_have_shares() -> None:
    """Those of the slot and of one row like all; no class is impossible."""
    y = (Y > 5).astype(int) * 2
    problem = Problem("multiclass", 3, "log_loss", seed=0, threads=1)
    found = fit_candidate("seasonal", X, y, ENCODING, problem).predict(X)
    overall, rows = (y == 2).mean(), slot(1, 1)
    wanted = ((y[rows] == 2).sum() + overall) / (rows.sum() + 1)
    np.testing.assert_allclose(found[rows][:, 2], wanted)
    assert (found[:, 1] == 0).all()
    assert (found[:, [0, 2]] > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 4)), min_size=1, max_size=30))
def test_a_weight_is_as_many_rows(rows: list[tuple[float, int]]) -> None:
    """Whole weights give the statistic of rows that stand there so often."""
    y, weight = np.array([v for v, _ in rows]), np.array([float(w) for _, w in rows])
    often = np.repeat(y, weight.astype(int))
    nothing = np.zeros((len(y), 0))
    for statistic, wanted in (("median", np.median(often)), ("mean", often.mean())):
        model = SeasonalNaive(statistic=statistic).fit(nothing, y, weight)
        np.testing.assert_allclose(model.predict(nothing), wanted, rtol=1e-9, atol=1e-6)


def test_the_most_usual_class_is_predicted() -> None:
    """Without probabilities asked for, a row gets the class its slot has most of."""
    y = (Y > 5).astype(int)
    model = SeasonalNaive((1, 2), (24, 7), "shares").fit(X, y)
    assert (model.predict(X)[slot(0, 1)] == 1).all()
    assert (model.predict(X)[slot(0, 0)] == 0).all()
