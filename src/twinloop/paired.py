"""Paired: two models on the same rows, and what of their difference is more than luck."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import stdtr, stdtrit

from twinloop.evaluation import Metric
from twinloop.scorer import Predictions

FEWEST_BLOCKS = 5
_MOST_ORDERED = 10
_MOST_UNORDERED = 20
# Share of the level that is spent: unkind data take the rest (docs/adr/0005).
_CARE = 0.8


@dataclass(frozen=True)
class Pairing:
    """Two models before the same rows, which neither has seen.

    Attributes
    ----------
    y : np.ndarray, shape (n_rows,)
        The truth.
    old, new
        Predictions of these rows.
    blocks : np.ndarray of int64, shape (n_rows,)
        Rows of one block hang together: a day's, say.
    metric
        What counts.
    confidence
        One-sided, of either end of an interval.
    ordered
        Whether blocks follow each other, as days do.
    """

    y: np.ndarray
    old: Predictions
    new: Predictions
    blocks: np.ndarray
    metric: Metric
    confidence: float = 0.95
    ordered: bool = True

    def take(self, rows: np.ndarray) -> Self:
        """Return the pairing on some of the rows."""
        old, new = self.old.take(rows), self.new.take(rows)
        return replace(self, y=self.y[rows], old=old, new=new, blocks=self.blocks[rows])


@dataclass(frozen=True)
class Gain:
    """How much better one model is than another on the same rows; positive is better.

    Attributes
    ----------
    old, new
        The metric of either.
    low, high
        Ends of the interval, each one-sided; NaN where the rows lie in too few blocks, or the
        metric has no value.
    p_worse
        How likely luck alone makes a model of equal worth look so much worse.
    rows, blocks
        What it rests on.
    """

    old: float
    new: float
    gain: float
    rows: int
    blocks: int
    low: float = math.nan
    high: float = math.nan
    p_worse: float = math.nan


def measure_gain(pairing: Pairing) -> Gain:
    """Measure the gain of the new model over the old one, with its interval.

    Blocks go together in at most ten groups of neighbours, at least two blocks each where there
    are ten or more: what one day shares with the next mostly stays within a group, and a t-test on
    few groups holds its level where their variances differ (Ibragimov and Mueller 2010). Blocks
    without an order are dealt by turns to up to twenty groups. The pseudo-values of the
    delete-a-group jackknife (Shao and Tu 1995, chapter 5) make one test of every metric, and
    nothing is drawn at random.

    A challenger that is a little better on most days and much worse on few has a skewed gain, which
    a plain t-test promotes too often. So the statistic is transformed as Hall (1992, "On the
    removal of skewness by transformation") has it, wherever that makes an end of the interval more
    careful, and a fifth of the level is kept back for what days share and groups do not tell. Sizes
    and power of this and of its rivals are in ``docs/adr/0005-the-test-behind-a-verdict.md``.
    """
    y, metric = pairing.y, pairing.metric
    old, new = metric.score(y, pairing.old), metric.score(y, pairing.new)
    gain = metric.gain(new, old)
    found = Gain(old, new, gain, len(y), len(np.unique(pairing.blocks)))
    if found.blocks < FEWEST_BLOCKS or math.isnan(gain):
        return found
    groups = _groups(pairing.blocks, ordered=pairing.ordered)
    left_old, left_new = (_without_each(y, p, groups, metric) for p in (pairing.old, pairing.new))
    left = left_new - left_old if metric.greater_is_better else left_old - left_new
    left = left[~np.isnan(left)]
    if len(left) < FEWEST_BLOCKS:
        return found
    return replace(
        found,
        low=_lower_end(gain, left, pairing.confidence),
        high=-_lower_end(-gain, -left, pairing.confidence),
        p_worse=_p_better(-gain, -left),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the order given.

    Called significant where the corrected one is at most the level, all together are wrong at all
    no more often than that level.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, least = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = least
    return corrected


def _groups(blocks: np.ndarray, *, ordered: bool) -> np.ndarray:
    """Put blocks into groups: neighbours together, or by turns where a file's order means nothing.

    A file may be sorted by its target; of rows without an order, neighbours must not go together.
    """
    values, at = np.unique(blocks, return_inverse=True)
    n = len(values)
    if not ordered:
        return np.asarray(at % min(_MOST_UNORDERED, n))
    n_groups = max(FEWEST_BLOCKS, min(_MOST_ORDERED, math.ceil(n / 2)))
    return np.asarray(at * n_groups // n)


def _without_each(
    y: np.ndarray, predictions: Predictions, groups: np.ndarray, metric: Metric
) -> np.ndarray:
    """Score the rows without each group in turn: shape (n_groups,)."""
    n_groups = int(groups.max()) + 1
    if metric.row_loss is None:
        keep = (groups != g for g in range(n_groups))
        return np.array([metric.score(y[rows], predictions.take(rows)) for rows in keep])
    losses = metric.row_loss(y, predictions)
    sums, counts = np.bincount(groups, losses), np.bincount(groups)
    means = (sums.sum() - sums) / (counts.sum() - counts)
    return np.array([metric.of_mean(float(m)) for m in means])


def _moments(gain: float, left: np.ndarray) -> tuple[float, float]:
    """Return spread and skewness of the pseudo-values, the latter cut to what calls for care."""
    pseudo = len(left) * gain - (len(left) - 1) * left
    spread = float(pseudo.std())
    if spread == 0:
        return 0.0, 0.0
    return spread, min(float(np.mean((pseudo - pseudo.mean()) ** 3)) / spread**3, 0.0)


def _lower_end(gain: float, left: np.ndarray, confidence: float) -> float:
    """Return the least gain that the test at this level does not rule out."""
    n = len(left)
    spread, skew = _moments(gain, left)
    reach = float(stdtrit(n - 1, 1 - _CARE * (1 - confidence))) / math.sqrt(n - 1)
    if skew < 0:
        reach = 3 / skew * (float(np.cbrt(1 + skew * (reach - skew / (6 * n)))) - 1)
    return gain - spread * reach


def _p_better(gain: float, left: np.ndarray) -> float:
    """Return the one-sided p-value of a gain: small where it lies clearly above zero."""
    n = len(left)
    spread, skew = _moments(gain, left)
    if spread == 0:
        return 0.0 if gain > 0 else 1.0
    t = gain / spread
    if skew < 0:
        t = ((1 + skew * t / 3) ** 3 - 1) / skew + skew / (6 * n)
    return min(1.0, float(stdtr(n - 1, -math.sqrt(n - 1) * t)) / _CARE)
