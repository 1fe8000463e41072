"""Tally: what rows are expected to cost, in whole numbers that add up exactly in any order.

Confidence-based performance estimation: where probabilities are calibrated, they tell how often
each class is right, and with it what every metric of classes is to be expected to be (NannyML, "How
it works: Confidence-based Performance Estimation"; Humphrey et al. 2022; Garg et al. 2022 compare
it with others). Of numbers, a model of the losses tells (`twinloop.loss_model`).
"""

import numpy as np
from scipy.special import xlogy

from twinloop.loss_model import LossModel
from twinloop.scorer import Predictions

_TINY = 1e-15
# Whole numbers count in these parts of a unit.
_PARTS = float(2**20)
# Of a batch's rows, so many are looked at, spread evenly; each stands for its neighbours. A model
# of losses takes ten times as long for a row as probabilities do.
_MOST_BY_MODEL, _MOST_BY_PROBABILITY = 512, 2048
_LARGEST = float(2**50)


def sample(n_rows: int, *, by_model: bool) -> tuple[slice, float]:
    """Return which rows of a batch are looked at, and how many rows each of them stands for."""
    most = _MOST_BY_MODEL if by_model else _MOST_BY_PROBABILITY
    step = -(-n_rows // most) or 1
    looked_at = -(-n_rows // step)
    return slice(None, None, step), n_rows / max(looked_at, 1)


def cells_of_losses(expected: np.ndarray, variance: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the sum of expected losses, and the variance of what the sum will be.

    Parameters
    ----------
    expected, variance : np.ndarray of float64, shape (n_looked_at,)
        Of the loss of each row that was looked at, given what is known of it.
    n_rows
        How many rows they stand for.

    Returns
    -------
    np.ndarray of float64, shape (2,)
        The variance holds what the labels will do and, where not all rows were looked at, what the
        choice of rows does (Cochran 1977, section 2.6).
    """
    looked_at = len(expected)
    weight = n_rows / max(looked_at, 1)
    of_choice = 0.0
    if looked_at > 1 and weight > 1:
        of_choice = n_rows * n_rows * (1 - 1 / weight) * float(expected.var(ddof=1)) / looked_at
    return np.array([weight * expected.sum(), weight * variance.sum() + of_choice])


def loss_by_class(metric: str, predictions: Predictions) -> np.ndarray:
    """Return what each row would lose by each class: float64, shape (n_rows, n_classes)."""
    p = predictions.probability
    assert p is not None  # noqa: S101 - the metrics of classes have probabilities
    if metric == "accuracy":
        return (predictions.value[:, None] == np.arange(p.shape[1])).astype(np.float64)
    if metric == "brier":
        return np.column_stack([p[:, 1] ** 2, (1 - p[:, 1]) ** 2])
    losses: np.ndarray = -np.log(np.clip(p, _TINY, 1.0))
    return losses


def expected_of_classes(metric: str, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of each row's loss, were its probabilities true: two (n_rows,)."""
    p = predictions.probability
    assert p is not None  # noqa: S101 - the metrics of classes have probabilities
    if metric == "log_loss":
        # p log p is 0 at 0, and no clipping is felt.
        logs = -xlogy(p, np.clip(p, _TINY, 1.0))
        mean = logs.sum(axis=1)
        squares = (logs * -np.log(np.clip(p, _TINY, 1.0))).sum(axis=1)
    else:
        losses = loss_by_class(metric, predictions)
        mean = (p * losses).sum(axis=1)
        squares = (p * losses * losses).sum(axis=1)
    return mean, np.maximum(squares - mean * mean, 0.0)


def expected_of_numbers(
    model: LossModel, X: np.ndarray, predictions: Predictions
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of each row's loss, by the model of losses: two (n_rows,)."""
    mean = model.expected(X, predictions.value)
    return mean, model.spread * mean * mean


def cells_of_classes(predictions: Predictions, weight: float) -> np.ndarray:
    """Return, class by class, the expected confusion: float64, shape (5 * n_classes,).

    Hits, rows predicted, rows that are, and the variances of the first and the third.
    """
    p = predictions.probability
    assert p is not None  # noqa: S101 - the metrics of classes have probabilities
    n_classes = p.shape[1]
    codes = predictions.value.astype(np.intp)
    chosen = p[np.arange(len(p)), codes]
    hits = np.bincount(codes, chosen, n_classes)
    hits_vary = np.bincount(codes, chosen * (1 - chosen), n_classes)
    said = np.bincount(codes, minlength=n_classes)
    are, vary = p.sum(axis=0), (p * (1 - p)).sum(axis=0)
    # As if only the rows looked at had labels: more than there will be, never less.
    return np.concatenate(
        [weight * hits, weight * said, weight * are, weight**2 * hits_vary, weight**2 * vary]
    )


def cells_of_ranks(second: np.ndarray, edges: np.ndarray, weight: float) -> np.ndarray:
    """Return, bin by bin of the second class's probability, rows, ones and their variance.

    Parameters
    ----------
    second : np.ndarray of float64, shape (n_looked_at,)
    edges : np.ndarray of float64, shape (n_bins - 1,)
        Increasing.
    weight
        How many rows each stands for.

    Returns
    -------
    np.ndarray of float64, shape (3 * n_bins,)
    """
    at, n_bins = np.searchsorted(edges, second, side="right"), len(edges) + 1
    return np.concatenate(
        [
            weight * np.bincount(at, minlength=n_bins),
            weight * np.bincount(at, second, n_bins),
            weight**2 * np.bincount(at, second * (1 - second), n_bins),
        ]
    )


def to_whole(values: np.ndarray, units: np.ndarray | float) -> np.ndarray:
    """Write sums as whole parts of a unit: int64, the same shape."""
    parts = np.clip(values / units * _PARTS, -_LARGEST, _LARGEST)
    return np.rint(parts).astype(np.int64)


def from_whole(parts: np.ndarray, units: np.ndarray | float) -> np.ndarray:
    """Read sums back: float64, the same shape."""
    values: np.ndarray = parts / _PARTS * units
    return values


def macro_f1_of(values: np.ndarray) -> tuple[float, float]:
    """Return the expected macro F1, and its variance or a bound above it, from `cells_of_classes`.

    Of each class the F1 score's first-order variance; classes are taken as fully correlated, which
    none can exceed. Classes that are neither said nor expected do not count.
    """
    hits, said, are, hits_vary, vary = values.reshape(5, -1)
    there = said + are > 1e-6
    hits, total, hits_vary, vary = hits[there], (said + are)[there], hits_vary[there], vary[there]
    if not len(total):
        return float("nan"), 0.0
    of_hits, of_are = 2 / total, -2 * hits / total**2
    # A hit is a row of the class, so that the two vary together.
    variance = of_hits**2 * hits_vary + of_are**2 * vary + 2 * of_hits * of_are * hits_vary
    deviation = float(np.mean(np.sqrt(np.maximum(variance, 0.0))))
    return float(np.mean(2 * hits / total)), deviation**2


def roc_auc_of(values: np.ndarray) -> tuple[float, float]:
    """Return the expected ROC AUC and its first-order variance, from `cells_of_ranks`.

    Rows of one bin are ties. A row that is a one instead of a zero changes the number of well
    ordered pairs, and of all pairs.
    """
    rows, ones, vary = values.reshape(3, -1)
    zeros = np.maximum(rows - ones, 0.0)
    n_ones, n_zeros = ones.sum(), zeros.sum()
    if n_ones <= 0 or n_zeros <= 0:
        return float("nan"), 0.0
    below = np.cumsum(zeros) - zeros / 2
    above = np.cumsum(ones[::-1])[::-1] - ones / 2
    auc = float((ones * below).sum() / (n_ones * n_zeros))
    slope = (below - above) / (n_ones * n_zeros) - auc * (1 / n_ones - 1 / n_zeros)
    return auc, float((vary * slope**2).sum())
