"""Intervals hold the truth about as often as they say, where the truth is known."""

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from twinloop.amounts import brackets
from twinloop.evaluation import METRICS
from twinloop.intervals import (
    corrected_error,
    jackknife_error,
    score_intervals,
    t_interval,
)
from twinloop.scorer import Predictions

N_ROWS, N_FEATURES, N_FOLDS, REPEATS = 60, 20, 5, 1500
LIMITS = (0.0, math.inf)


@cache
def fold_errors() -> np.ndarray:
    """Return mean squared errors of least squares on noise: shape (REPEATS, N_FOLDS)."""
    draw = np.random.default_rng(1)
    X = draw.normal(size=(REPEATS, N_ROWS, N_FEATURES))
    y = draw.normal(size=(REPEATS, N_ROWS))
    errors = np.empty((REPEATS, N_FOLDS))
    for fold, valid in enumerate(np.split(np.arange(N_ROWS), N_FOLDS)):
        rest = np.delete(np.arange(N_ROWS), valid)
        A = X[:, rest]
        AT = A.transpose(0, 2, 1)
        weights = np.linalg.solve(AT @ A, AT @ y[:, rest, None])
        off = y[:, valid] - (X[:, valid] @ weights)[..., 0]
        errors[:, fold] = (off**2).mean(axis=1)
    return errors


# Of least squares with Gaussian features the expected error is known to the last digit.
_FITTED = N_ROWS - N_ROWS // N_FOLDS
TRUTH = 1 + N_FEATURES / (_FITTED - N_FEATURES - 1)


def covered(overlap: float) -> float:
    """Return how often the interval holds the truth."""
    hits = 0
    for scores in fold_errors():
        error = corrected_error(scores.tolist(), overlap)
        low, high = t_interval(float(scores.mean()), error, N_FOLDS - 1, LIMITS)
        hits += low <= TRUTH <= high
    return hits / REPEATS


def test_the_corrected_interval_covers_and_the_plain_one_does_not() -> None:
    """Near 95 % with the correction; far below without: the error that was to be mended.

    The simulation's own error is half a point, so the limits are several of it away.
    """
    corrected, plain = covered(overlap=1 / (N_FOLDS - 1)), covered(overlap=0.0)
    assert 0.92 <= corrected <= 0.975
    assert plain < 0.89
    assert abs(corrected - 0.95) < abs(plain - 0.95) / 3


def test_the_simulated_error_is_the_known_one() -> None:
    """The mean over all repeats agrees with the formula the coverage is measured by."""
    assert fold_errors().mean() == pytest.approx(TRUTH, rel=0.02)


def test_without_overlap_it_is_the_plain_standard_error() -> None:
    """Independent scores need no correction, and SciPy agrees on interval and error."""
    scores = [0.2, 0.5, 0.3, 0.4]
    assert corrected_error(scores, 0.0) == pytest.approx(stats.sem(scores))
    found = t_interval(0.35, 0.1, 3, (-math.inf, math.inf), 0.9)
    assert found == pytest.approx(stats.t.interval(0.9, 3, 0.35, 0.1))


@pytest.mark.parametrize(("scores", "freedom"), [([], 3), ([0.5], 3), ([0.5, 0.6], 0)])
def test_too_few_scores_have_no_interval(scores: list[float], freedom: int) -> None:
    """What cannot be known is NaN, and spelled so."""
    found = t_interval(0.5, corrected_error(scores, 0.25), freedom, LIMITS)
    assert all(math.isnan(end) for end in found)
    assert brackets(*found) == "unknown"


def scored(y: np.ndarray, seed: int) -> Predictions:
    """Return probabilities that lean towards the truth."""
    second = np.clip(0.3 + 0.4 * y + np.random.default_rng(seed).normal(0, 0.2, len(y)), 0, 1)
    return Predictions((second > 0.5).astype(int), np.column_stack([1 - second, second]))


@pytest.mark.parametrize("name", ["accuracy", "brier", "roc_auc", "macro_f1"])
def test_the_jackknife_finds_the_spread_of_a_score(name: str) -> None:
    """Over many tables its mean error is the standard deviation of the score between tables."""
    scores, errors = [], []
    for seed in range(150):
        y = np.random.default_rng(1000 + seed).integers(0, 2, 200)
        predictions = scored(y, seed)
        scores.append(METRICS[name].score(y, predictions))
        errors.append(jackknife_error(y, predictions, np.arange(200), METRICS[name])[0])
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(scores), rel=0.2)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """One row a group, the formula is that of the textbook."""
    y, guess = np.zeros(20), np.random.default_rng(0).normal(size=20)
    error, freedom = jackknife_error(y, Predictions(guess), np.arange(20), METRICS["mae"])
    assert error == pytest.approx(stats.sem(np.abs(guess)))
    assert freedom == 19


def test_rows_of_one_block_count_once() -> None:
    """Every row given ten times over, in its block, is no more evidence than given once."""
    y, guess = np.zeros(20), np.random.default_rng(0).normal(size=20)
    once = jackknife_error(y, Predictions(guess), np.arange(20), METRICS["rmse"])
    again = np.repeat(np.arange(20), 10)
    many = jackknife_error(y[again], Predictions(guess[again]), again, METRICS["rmse"])
    assert many == pytest.approx(once)


def test_a_sorted_table_is_no_less_certain() -> None:
    """Rows without blocks are left out by turns: their order in the file does not matter much."""
    y = np.sort(np.random.default_rng(3).normal(size=400))
    guess = np.zeros(400)
    mixed = np.random.default_rng(4).permutation(400)
    errors = [
        jackknife_error(y[o], Predictions(guess), np.arange(400), METRICS["rmse"])[0]
        for o in (np.arange(400), mixed)
    ]
    assert errors[0] < 2 * errors[1]


def test_few_blocks_tell_nothing() -> None:
    """Four days are no sample of days."""
    blocks = np.arange(100) // 25
    error, freedom = jackknife_error(
        np.zeros(100), Predictions(np.ones(100)), blocks, METRICS["mae"]
    )
    assert math.isnan(error)
    assert freedom == 0
    one_class = Predictions(np.zeros(100, int), np.tile([1.0, 0.0], (100, 1)))
    found = jackknife_error(np.zeros(100, int), one_class, np.arange(100), METRICS["roc_auc"])
    assert math.isnan(found[0])


@pytest.mark.parametrize(("value", "ends"), [(1, (0.9289, 1.0)), (0, (0.0, 0.0711))])
def test_all_right_is_no_certainty(value: int, ends: tuple[float, float]) -> None:
    """Fifty rows in a row leave room for one in fourteen: SciPy's exact interval."""
    found = score_intervals(
        np.ones(50, int),
        Predictions(np.full(50, value)),
        np.arange(50),
        METRICS["accuracy"],
        (0.95, 0.5),
    )
    exact = stats.binomtest(50 * value, 50).proportion_ci(0.95, method="exact")
    assert found[0] == pytest.approx((exact.low, exact.high))
    assert found[0] == pytest.approx(ends, abs=1e-4)
    assert found[1][1] - found[1][0] < found[0][1] - found[0][0]


def test_a_perfect_ranking_has_no_known_interval() -> None:
    """How many pairs could have gone wrong is not known from blocks."""
    y = np.tile([0, 1], 50)
    found = score_intervals(
        y, Predictions(y, np.eye(2)[y]), np.arange(100), METRICS["roc_auc"], (0.95,)
    )
    assert math.isnan(found[0][0])
