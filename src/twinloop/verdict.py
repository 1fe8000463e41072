"""The verdict: champion against challenger on the same fresh rows."""

from typing import Literal

import numpy as np
from scipy.special import ndtr, stdtrit

from twinloop.evaluation import Metric
from twinloop.scorer import Predictions
from twinloop.workload import Frozen

Outcome = Literal["promote", "keep", "insufficient evidence"]
_REPEATS = 2000
_MIN_BLOCKS = 5


class Verdict(Frozen):
    """What was decided, and the numbers behind it.

    Attributes
    ----------
    outcome
        ``promote``: the interval of the gain lies above zero. ``keep``: below. Else
        ``insufficient evidence``, and the champion stays.
    gain, low, high
        Estimate and interval of the challenger's gain in the metric; positive is better.
    """

    outcome: Outcome
    reason: str
    metric: str
    champion: float | None = None
    challenger: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    n_rows: int = 0
    n_blocks: int = 0


def first_version(metric: str, score: float) -> Verdict:
    """Return the verdict on a model that has no predecessor."""
    return Verdict(outcome="promote", reason="first version", metric=metric, challenger=score)


def compare(
    y: np.ndarray,
    champion: Predictions,
    challenger: Predictions,
    blocks: np.ndarray,
    metric: Metric,
    *,
    confidence: float,
    min_rows: int,
    seed: int,
) -> Verdict:
    """Judge a challenger by a paired bootstrap over blocks of rows.

    Both models are scored on the same resampled blocks; the interval is that of the difference
    (percentile bootstrap, Efron and Tibshirani 1993, chapter 13; blocks of days keep the dependence
    of neighbouring rows, Kuensch 1989).

    Parameters
    ----------
    y : np.ndarray, shape (n_rows,)
        The truth on rows that neither model has seen.
    champion, challenger
        Predictions of these rows.
    blocks : np.ndarray of int64, shape (n_rows,)
        Rows of one block are resampled together.
    metric
        What counts.
    confidence
        One-sided level of the interval's ends.
    min_rows
        Fewer rows are no evidence.
    seed
        Of the resampling.
    """
    n_blocks = len(np.unique(blocks))
    if len(y) < min_rows or n_blocks < _MIN_BLOCKS:
        return Verdict(
            outcome="insufficient evidence",
            reason=f"{len(y)} fresh rows in {n_blocks} blocks; {min_rows} in {_MIN_BLOCKS} needed",
            metric=metric.name,
            n_rows=len(y),
            n_blocks=n_blocks,
        )
    old, new = metric.score(y, champion), metric.score(y, challenger)
    gains = _bootstrap(y, champion, challenger, blocks, metric, seed)
    if np.isnan(gains).all():
        return Verdict(
            outcome="insufficient evidence",
            reason=f"{metric.name} cannot be computed on these {len(y)} rows",
            metric=metric.name,
            n_rows=len(y),
            n_blocks=n_blocks,
        )
    level = _expanded(confidence, n_blocks)
    low, high = (float(q) for q in np.nanquantile(gains, [1 - level, level]))
    outcome: Outcome = "insufficient evidence"
    if low > 0:
        outcome = "promote"
    elif high < 0:
        outcome = "keep"
    gain = metric.gain(new, old)
    return Verdict(
        outcome=outcome,
        reason=(
            f"{metric.name} {old:.4g} -> {new:.4g}: gain {gain:+.4g} in [{low:+.4g}, {high:+.4g}]"
        ),
        metric=metric.name,
        champion=old,
        challenger=new,
        gain=gain,
        low=low,
        high=high,
        n_rows=len(y),
        n_blocks=n_blocks,
    )


def _expanded(confidence: float, n_blocks: int) -> float:
    """Return the percentile that keeps the level where blocks are few.

    Plain percentiles are too narrow: of two equal models, five blocks would promote one in nine
    instead of one in twenty (expanded percentile interval, Hesterberg 2015, "What Teachers Should
    Know About the Bootstrap").
    """
    reach = np.sqrt(n_blocks / (n_blocks - 1)) * stdtrit(n_blocks - 1, confidence)
    return float(ndtr(reach))


def _bootstrap(
    y: np.ndarray,
    champion: Predictions,
    challenger: Predictions,
    blocks: np.ndarray,
    metric: Metric,
    seed: int,
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    _, at = np.unique(blocks, return_inverse=True)
    n_blocks = int(at.max()) + 1
    if metric.row_loss is None:
        return _bootstrap_whole(y, champion, challenger, at, metric, rng)
    sizes = np.bincount(at)
    sums = [np.bincount(at, metric.row_loss(y, p)) for p in (champion, challenger)]
    gains = np.empty(_REPEATS)
    for i in range(_REPEATS):
        drawn = rng.integers(0, n_blocks, n_blocks)
        rows = sizes[drawn].sum()
        old, new = (metric.of_mean(float(s[drawn].sum() / rows)) for s in sums)
        gains[i] = metric.gain(float(new), float(old))
    return gains


def _bootstrap_whole(
    y: np.ndarray,
    champion: Predictions,
    challenger: Predictions,
    at: np.ndarray,
    metric: Metric,
    rng: np.random.Generator,
) -> np.ndarray:
    members = np.split(np.argsort(at, kind="stable"), np.cumsum(np.bincount(at))[:-1])
    gains = []
    for _ in range(_REPEATS // 4):
        rows = np.concatenate([members[b] for b in rng.integers(0, len(members), len(members))])
        old, new = (metric.score(y[rows], p.take(rows)) for p in (champion, challenger))
        gains.append(metric.gain(new, old))
    return np.array(gains)
