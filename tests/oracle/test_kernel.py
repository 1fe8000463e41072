"""The kernel machine against scikit-learn's, and against fits that leave each row out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVC

from twinloop.calibration import log_losses
from twinloop.kernel import KernelMachine
from twinloop.nearness import FitRows, NearFit, landmarks_for

N_ROWS = 30


def rows_of(seed: int, n_outputs: int = 1) -> FitRows:
    """Return rows, targets about nothing, and weights."""
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(N_ROWS, 3))
    y = np.sin(X[:, :1] * 2) + draw.normal(size=(N_ROWS, n_outputs))
    return FitRows(X, y, draw.uniform(0.2, 3, N_ROWS))


def peer(rows: FitRows, gamma: float, ridge: float) -> KernelRidge:
    """Fit scikit-learn's."""
    machine = KernelRidge(alpha=ridge, kernel="rbf", gamma=gamma)
    return machine.fit(rows.X, rows.targets, sample_weight=rows.weight)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0]), st.sampled_from([0.03, 1.0, 30.0]))
def test_it_says_of_rows_left_out_what_fits_without_them_say(
    seed: int, gamma: float, ridge: float
) -> None:
    """Weights and all; and of all rows fitted what scikit-learn's machine says."""
    rows, scale = rows_of(seed, 2), np.ones(3)
    every = np.arange(N_ROWS)
    for fit in (NearFit.of_all(rows, scale, gamma), NearFit.of(rows, scale, gamma, rows.X, every)):
        ((_, found),) = fit.left_out(np.array([ridge]))
        for i in range(0, N_ROWS, 7):
            without = rows.take(np.delete(every, i))
            wanted = peer(without, gamma, ridge).predict(rows.X[[i]])[0]
            np.testing.assert_allclose(found[i], wanted, rtol=1e-5, atol=1e-6)
        near = np.exp(-gamma * ((rows.X[:, None] - rows.X) ** 2).sum(axis=2))
        wanted = peer(rows, gamma, ridge).predict(rows.X)
        np.testing.assert_allclose(near @ fit.coefficients(ridge), wanted, rtol=1e-5, atol=1e-6)


def test_digits_are_told_apart_as_an_exact_machine_does() -> None:
    """Pixels as they are suit it best: it finds that, though it could scale each of them."""
    X, y = load_digits(return_X_y=True)
    machine = KernelMachine(classes=True, quantities=64).fit(X[:1000], y[:1000])
    assert len(set(machine.scale_)) == 1
    probability = machine.predict_proba(X[1000:])
    exact = SVC(gamma=0.001, C=10).fit(X[:1000], y[:1000]).score(X[1000:], y[1000:])
    assert np.mean(machine.predict(X[1000:]) == y[1000:]) > exact - 0.01
    assert log_losses(probability, y[1000:]).mean() < 0.2
    np.testing.assert_allclose(probability.sum(axis=1), 1)


def test_columns_of_other_units_are_brought_to_their_own_scale() -> None:
    """One in millions that says nothing does not drown one that says all."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(300, 2)) * [1e6, 1.0]
    y = np.sin(2 * X[:, 1])
    machine = KernelMachine(quantities=2).fit(X[:200], y[:200])
    assert np.sqrt(np.mean((machine.predict(X[200:]) - y[200:]) ** 2)) < 0.2
    np.testing.assert_allclose(machine.scale_, X[:200].std(axis=0))


def test_rows_that_count_more_are_told_better() -> None:
    """A weight counts as so many rows: of rows that say the opposite the heavier is believed."""
    X, weight = np.repeat(np.arange(20.0), 2)[:, None], np.tile([9.0, 1.0], 20)
    y = np.tile([1, 0], 20)
    machine = KernelMachine(classes=True, quantities=1)
    found = machine.fit(X, y, sample_weight=weight).predict_proba(X)
    np.testing.assert_allclose(found[:, 1], 0.9, atol=0.02)
    assert machine.classes_.tolist() == [0, 1]


def test_some_rows_stand_for_all_where_there_are_many() -> None:
    """A fit is no dearer for ten times the rows; what it learns is nearly the same."""
    counts = [landmarks_for(n) for n in (0, 1, 2000, 2001, 10_000, 100_000, 10**7)]
    assert counts == [0, 1, 2000, 1413, 632, 400, 400]
    draw = np.random.default_rng(0)
    X = draw.normal(size=(3000, 3))
    y = X[:, 0] * X[:, 1] + draw.normal(size=3000) / 10
    machine = KernelMachine(quantities=3).fit(X, y)
    assert len(machine.landmarks_) == landmarks_for(3000) < 3000
    fresh = draw.normal(size=(500, 3))
    assert np.mean((machine.predict(fresh) - fresh[:, 0] * fresh[:, 1]) ** 2) < 0.05


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_columns_that_say_nothing_do_no_harm(constant: float) -> None:
    """Neither one that never changes, nor rows that are all alike."""
    X, y = np.full((40, 2), constant), np.repeat([1.0, 3.0], 20)
    assert KernelMachine(quantities=2).fit(X, y).predict(X) == pytest.approx(2.0)
