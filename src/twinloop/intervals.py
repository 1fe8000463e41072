"""Intervals: how far a score may lie from what it estimates."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from twinloop.evaluation import Metric
from twinloop.scorer import Predictions

CONFIDENCE = 0.95
_MOST_GROUPS = 20
_FEWEST_GROUPS = 5


def corrected_error(scores: Sequence[float], overlap: float) -> float:
    """Return the standard error of a mean over folds, corrected for what the folds share.

    Models of different folds are fitted on mostly the same rows, so their scores are not
    independent and ``s / sqrt(k)`` is too small. The variance ``s**2 * (1 / k + overlap)`` makes up
    for it, with the number of validation rows to one fitted row for the overlap (Nadeau and Bengio
    2003, "Inference for the Generalization Error", section 4; for k folds Bouckaert and Frank
    2004). It is a heuristic: no unbiased estimate exists (Bengio and Grandvalet 2004).

    Of expanding folds in time it says less. Their training rows are nested, not resampled, and the
    scores differ by how much history each fold had and by its season, too. The interval is then
    that of the mean over such periods and sizes, not of the last fold's; it errs on the wide side.

    Parameters
    ----------
    scores
        One a fold, none of them NaN.
    overlap
        Validation rows divided by fitted rows.

    Returns
    -------
    float
        NaN with fewer than two scores.
    """
    k = len(scores)
    if k < 2:
        return math.nan
    return float(np.std(scores, ddof=1) * math.sqrt(1 / k + overlap))


def t_interval(
    mean: float,
    error: float,
    freedom: int,
    bounds: tuple[float, float],
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Return the two-sided Student interval of a mean, cut to what the metric can be.

    Parameters
    ----------
    mean, error
        Estimate and its standard error.
    freedom
        Degrees of freedom.
    bounds
        Least and largest value of the metric.
    confidence
        How often such intervals hold the truth.

    Returns
    -------
    tuple of float
        NaN twice where the error is not known.
    """
    if math.isnan(error) or freedom < 1:
        return math.nan, math.nan
    reach = float(stdtrit(freedom, 0.5 + confidence / 2)) * error
    return max(mean - reach, bounds[0]), min(mean + reach, bounds[1])


def jackknife_error(
    y: np.ndarray, predictions: Predictions, blocks: np.ndarray, metric: Metric
) -> tuple[float, int]:
    """Return the standard error of a score of some rows, and its degrees of freedom.

    Delete-a-group jackknife (Kott 2001; Shao and Tu 1995, chapter 5): the score is taken again
    without each of at most twenty groups of blocks. It serves metrics that are no mean of rows,
    costs twenty scores, and draws nothing.

    Parameters
    ----------
    y : np.ndarray, shape (n_rows,)
        The truth.
    predictions
        Of the same rows.
    blocks : np.ndarray of int64, shape (n_rows,)
        Rows of one block hang together, a day's say, and are left out together.
    metric
        What counts.

    Returns
    -------
    tuple of (float, int)
        NaN and 0 where there are too few blocks to tell.
    """
    groups = _groups(blocks)
    n_groups = int(groups.max()) + 1
    if n_groups < _FEWEST_GROUPS:
        return math.nan, 0
    left = [metric.score(y[groups != g], predictions.take(groups != g)) for g in range(n_groups)]
    known = np.array([v for v in left if not math.isnan(v)])
    if len(known) < _FEWEST_GROUPS:
        return math.nan, 0
    n = len(known)
    return float(np.sqrt((n - 1) / n * np.sum((known - known.mean()) ** 2))), n - 1


def _groups(blocks: np.ndarray) -> np.ndarray:
    """Put blocks into at most twenty groups: neighbours together, single rows by turns.

    A file may be sorted by its target; of rows without blocks, neighbours must not go together.
    """
    values, at = np.unique(blocks, return_inverse=True)
    n_groups = min(_MOST_GROUPS, len(values))
    alone = len(values) == len(blocks)
    return at % n_groups if alone else at * n_groups // len(values)


def score_intervals(
    y: np.ndarray,
    predictions: Predictions,
    blocks: np.ndarray,
    metric: Metric,
    confidences: Sequence[float],
) -> list[tuple[float, float]]:
    """Return intervals of a score of some rows, by the jackknife; NaN twice where unknown.

    Where every row is right, or every row wrong, nothing varies, and the jackknife would be sure.
    The interval is then that of a proportion of 0 or 1 (Clopper and Pearson 1934), a block one try.

    Parameters
    ----------
    y, predictions, blocks, metric
        As in `jackknife_error`.
    confidences
        Two-sided; one interval each.
    """
    score = metric.score(y, predictions)
    error, freedom = jackknife_error(y, predictions, blocks, metric)
    least, most = metric.bounds
    if error > 0 or score not in (least, most) or math.isinf(most):
        return [t_interval(score, error, freedom, metric.bounds, c) for c in confidences]
    if metric.row_loss is None:
        return [(math.nan, math.nan) for _ in confidences]
    n_blocks = len(np.unique(blocks))
    reaches = [1 - (0.5 - c / 2) ** (1 / n_blocks) for c in confidences]
    return [(score, score + r) if score == least else (score - r, score) for r in reaches]
