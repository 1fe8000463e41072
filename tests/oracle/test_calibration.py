"""Calibration against scikit-learn, SciPy and distributions whose truth is known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit, softmax
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from twinloop.calibration import (
    Calibration,
    Method,
    brier_score,
    calibration_error,
    fit_calibration,
    fit_map,
    log_losses,
    parts,
    reliability,
)

Rows = tuple[np.ndarray, np.ndarray]


def two(second: np.ndarray) -> np.ndarray:
    """Return the probabilities of both classes."""
    return np.column_stack([1 - second, second])


def distorted(n: int, seed: int, slope: float = 1.0, shift: float = 0.0) -> Rows:
    """Return what a model says whose log-odds are these multiples of the true ones, and classes."""
    draw = np.random.default_rng(seed)
    odds = draw.normal(0, 1.5, n)
    return two(expit(slope * odds + shift)), (draw.random(n) < expit(odds)).astype(int)


def sharpened(n: int, seed: int, power: float) -> Rows:
    """Return true probabilities of three classes raised to a power, and classes."""
    draw = np.random.default_rng(seed)
    logs = draw.normal(0, 1.5, (n, 3))
    true = softmax(logs, axis=1)
    y = (true.cumsum(axis=1) < draw.random((n, 1))).sum(axis=1)
    return softmax(power * logs, axis=1), y


def folds_of(n: int, k: int = 5) -> np.ndarray:
    """Return folds of equal size, one after the other."""
    return np.arange(n) * k // n


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(2, 60))
def test_the_brier_score_is_scikit_learns(seed: int, n_classes: int, n_rows: int) -> None:
    """Of two classes and of more."""
    draw = np.random.default_rng(seed)
    probability = draw.dirichlet(np.ones(n_classes), n_rows)
    y = np.concatenate([np.arange(n_classes), draw.integers(0, n_classes, n_rows)])[:n_rows]
    said: Any = probability[:, 1] if n_classes == 2 else probability
    wanted = brier_score_loss(y, said, labels=list(range(n_classes)))
    assert brier_score(probability, y) == pytest.approx(wanted)
    assert log_losses(probability, y).mean() == pytest.approx(
        log_loss(y, probability, labels=list(range(n_classes)))
    )


def test_a_class_never_seen_is_the_worst_case() -> None:
    """A label the model cannot name costs the most there is."""
    y, said = np.array([-1]), np.array([[0.2, 0.8]])
    assert brier_score(said, y) == 1.0
    assert brier_score(np.array([[0.2, 0.3, 0.5]]), y) == 2.0
    assert log_losses(said, y)[0] == pytest.approx(-np.log(1e-15))


@given(st.integers(0, 2**32 - 1), st.sampled_from([40, 200, 999]))
def test_bins_of_equal_numbers_are_scikit_learns(seed: int, n_rows: int) -> None:
    """Means and shares of each bin, and as many rows in each as whole rows allow."""
    probability, y = distorted(n_rows, seed)
    bins = reliability(probability, y)
    assert len(bins) == min(10, n_rows // 20)
    observed, said = calibration_curve(y, probability[:, 1], n_bins=len(bins), strategy="quantile")
    assert [b.observed for b in bins] == pytest.approx(observed.tolist())
    assert [b.said for b in bins] == pytest.approx(said.tolist())
    assert max(b.rows for b in bins) - min(b.rows for b in bins) <= 1
    assert sum(b.rows for b in bins) == n_rows
    weights = np.array([b.rows for b in bins]) / n_rows
    assert calibration_error(bins) == pytest.approx(np.sum(weights * np.abs(observed - said)))


def test_equal_probabilities_share_a_bin() -> None:
    """Nothing tells such rows apart, so no edge does; of many classes the likeliest counts."""
    bins = reliability(two(np.repeat([0.25, 0.75], [60, 140])), np.repeat([0, 1, 1, 0], 50))
    assert [b.rows for b in bins] == [60, 140]
    (one,) = reliability(np.tile([0.2, 0.7, 0.1], (40, 1)), np.repeat([1, 0], [30, 10]))
    assert one.said == pytest.approx(0.7)
    assert one.observed == 0.75


def test_the_interval_of_a_bin_is_wilsons() -> None:
    """SciPy's, to the digits that 1.96 leaves."""
    (found,) = reliability(two(np.full(30, 0.3)), np.repeat([1, 0], [9, 21]))
    wanted = stats.binomtest(9, 30).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-4)


def test_isotonic_is_scikit_learns() -> None:
    """Between its points, beyond them, and never 0 or 1."""
    probability, y = distorted(500, 1, slope=2)
    said = np.linspace(0, 1, 101)
    found = fit_map("isotonic", probability, y).apply(two(said))[:, 1]
    least = 1 / 502
    oracle = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    np.testing.assert_allclose(found, oracle.fit(probability[:, 1], y).predict(said), atol=1e-12)
    assert found.min() >= least
    assert found.max() <= 1 - least


def test_the_sigmoid_is_a_logistic_regression_on_log_odds() -> None:
    """With many rows Platt's targets matter little, and scikit-learn finds the same line."""
    probability, y = distorted(4000, 2, slope=2, shift=1)
    found = fit_map("sigmoid", probability, y)
    odds = logit(probability[:, 1])[:, None]
    oracle = LogisticRegression(C=np.inf).fit(odds, y)
    assert found.slope == pytest.approx(oracle.coef_[0, 0], rel=0.02)
    assert found.shift == pytest.approx(oracle.intercept_[0], rel=0.05)


def test_what_was_done_to_the_truth_is_undone() -> None:
    """Log-odds doubled are halved, squared probabilities are rooted."""
    two_classes = fit_map("sigmoid", *distorted(20_000, 3, slope=2, shift=1))
    assert (two_classes.slope, two_classes.shift) == pytest.approx((0.5, -0.5), abs=0.05)
    odds = np.linspace(-3, 3, 50)
    undone = two_classes.apply(two(expit(2 * odds + 1)))[:, 1]
    np.testing.assert_allclose(undone, expit(odds), atol=0.02)
    three = fit_map("temperature", *sharpened(20_000, 4, power=2))
    assert three.slope == pytest.approx(1 / 2, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_pays_on_new_rows(seed: int) -> None:
    """Overconfident models are mended: less log loss and less error on rows nothing has seen."""
    for rows in (distorted, sharpened):
        found = fit_calibration(*rows(3000, seed, 3.0), folds_of(3000), ordered=False)
        probability, y = rows(3000, seed + 1000, 3.0)
        after = found.apply(probability)
        assert found.method != "none"
        saved = log_losses(probability, y).mean() - log_losses(after, y).mean()
        assert saved > 0.1
        assert found.gain == pytest.approx(saved, rel=0.35)
        errors = [calibration_error(reliability(p, y)) for p in (after, probability)]
        assert errors[0] < errors[1] / 2


def test_what_is_calibrated_is_mostly_left_alone() -> None:
    """Of thirty models that say what is true, hardly one gets a map, and none a harmful one."""
    kept = 0
    for seed in range(30):
        found = fit_calibration(*distorted(300, seed), folds_of(300), ordered=False)
        kept += found.method != "none"
        probability, y = distorted(5000, seed + 1000)
        cost = log_losses(found.apply(probability), y).mean() - log_losses(probability, y).mean()
        assert cost < 0.03
    assert kept <= 1


def test_isotonic_is_for_what_a_sigmoid_cannot_mend() -> None:
    """With enough rows steps are found; with few, or where ties harm, there is no isotonic map."""
    draw = np.random.default_rng(5)
    said = draw.random(4000)
    y = (draw.random(4000) < np.where(said < 0.5, 0.1, 0.9)).astype(int)
    folds = folds_of(4000)
    assert fit_calibration(two(said), y, folds, ordered=False).method == "isotonic"
    ranked = fit_calibration(two(said), y, folds, ordered=False, keeps_order=True)
    assert ranked.method == "sigmoid"
    few = slice(0, 4000, 4)
    assert fit_calibration(two(said[few]), y[few], folds[few], ordered=False).method != "isotonic"


@pytest.mark.parametrize("seed", range(3))
def test_the_simpler_map_is_taken_where_it_does(seed: int) -> None:
    """Isotonic regression helps an overconfident model, too, but no more than a sigmoid."""
    found = fit_calibration(*distorted(6000, seed, 3.0), folds_of(6000), ordered=False)
    assert found.method == "sigmoid"


def test_a_lone_luck_is_no_gain() -> None:
    """What saves less than its standard error is left, however much it saves on the average."""
    probability = two(np.append(np.full(200, 0.5), np.tile([0.05, 0.06], 10)))
    y = np.append(np.tile([0, 1], 100), np.zeros(20, int))
    y[-1] = 1
    folds = np.arange(220) % 5
    assert fit_calibration(probability, y, folds, ordered=False) == Calibration()


def test_the_sigmoid_aims_at_platts_targets() -> None:
    """Of classes that are apart, probabilities are those of one row more in each class."""
    y = np.repeat([0, 1], [10, 30])
    after = fit_map("sigmoid", np.eye(2)[y], y).apply(np.eye(2))[:, 1]
    assert after.tolist() == pytest.approx([1 / 12, 31 / 32], abs=1e-3)


def test_a_zero_that_came_true_is_proof_enough() -> None:
    """One row of many breaks a map's average gain, but its probability of 0 was wrong for sure."""
    probability, y = distorted(400, 6, slope=1.0)
    worst = int(np.argmax(log_losses(probability, y)))
    probability = probability.copy()
    probability[worst] = np.eye(2)[1 - y[worst]]
    found = fit_calibration(probability, y, folds_of(400), ordered=False)
    assert found.method == "sigmoid"
    assert np.all(found.apply(probability) > 0)


@pytest.mark.parametrize("method", ["sigmoid", "temperature", "isotonic"])
def test_classes_far_apart_do_not_run_away(method: Method) -> None:
    """Of a perfect model every map is finite, and no probability is quite 0 or 1."""
    y = np.array([0, 1] * 20)
    found = fit_map(method, np.eye(2)[y], y)
    after = found.apply(np.eye(2)[y])
    assert np.isfinite(log_losses(after, 1 - y)).all()
    assert log_losses(after, y).mean() < 0.06


@given(st.integers(0, 2**32 - 1), st.sampled_from(["sigmoid", "temperature"]))
def test_order_and_sum_are_kept(seed: int, method: Method) -> None:
    """Rows keep their ranking, to the tie, and probabilities sum to 1."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, 50)
    probability = two(np.append(draw.random(45), [0.0, 0.0, 1.0, 1e-9, 1 - 1e-9]))
    after = fit_map(method, probability, y).apply(probability)
    np.testing.assert_array_equal(
        np.argsort(after[:, 1], kind="stable"), np.argsort(probability[:, 1], kind="stable")
    )
    np.testing.assert_allclose(after.sum(axis=1), 1)


def test_a_map_is_judged_on_later_folds_only() -> None:
    """With time, nothing is learned from rows after those it is judged by."""
    folds = np.array([2, 0, 1, 0, 2])
    found = [(o.tolist(), m.tolist()) for o, m in parts(folds, ordered=True)]
    no, yes = False, True
    assert found == [
        ([no, yes, no, yes, no], [no, no, yes, no, no]),
        ([no, yes, yes, yes, no], [yes, no, no, no, yes]),
    ]
    for others, mine in parts(folds, ordered=False):
        np.testing.assert_array_equal(others, ~mine)


def test_rows_of_unknown_classes_are_left_out() -> None:
    """They teach nothing, and break nothing."""
    probability, y = distorted(400, 7, slope=3)
    folds = folds_of(400)
    hidden = np.concatenate([y, [-1] * 50])
    more = np.concatenate([probability, probability[:50]])
    found = fit_calibration(more, hidden, np.concatenate([folds, folds[:50]]), ordered=False)
    assert found == fit_calibration(probability, y, folds, ordered=False)


@pytest.mark.parametrize("y", [np.zeros(30, int), np.array([0, 1])])
def test_where_nothing_can_be_learned_nothing_is_changed(y: np.ndarray) -> None:
    """One class, or two rows: the map is none, and gives back the very same array."""
    found = fit_calibration(two(np.full(len(y), 0.4)), y, np.arange(len(y)) % 2, ordered=True)
    assert found == Calibration()
    said = two(np.array([0.1]))
    assert found.apply(said) is said
