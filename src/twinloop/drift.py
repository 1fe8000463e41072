"""Drift: whether the input has changed beyond what is ordinary."""

from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from twinloop.profile import ColumnProfile, Profile, Reference
from twinloop.vocabulary import Frozen

_MIN_WINDOWS = 4
# Share of a past window's rows below which a window is too young to be compared.
_ENOUGH = 0.5


class FeatureDrift(Frozen):
    """How far a column is from its reference.

    Attributes
    ----------
    distance
        Jensen-Shannon distance in base 2: 0 (the same) to 1 (nothing in common).
    p_value
        Chance of such a distance by sample size and ordinary variation between windows, corrected
        for the number of columns (Holm 1979).
    importance
        Share of the column in the model.
    """

    column: str
    distance: float
    p_value: float
    importance: float
    drifted: bool


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Jensen-Shannon distance of two vectors of counts (Endres and Schindelin 2003).

    Base 2: 0 for the same shares, 1 for nothing in common. Empty counts are at distance 0.
    """
    if a.sum() == 0 or b.sum() == 0:
        return 0.0
    p, q = a / a.sum(), b / b.sum()
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log2(p / m), 0.0).sum()
        right = np.where(q > 0, q * np.log2(q / m), 0.0).sum()
    return float(np.sqrt(max(0.0, (left + right) / 2)))


def compare_profiles(
    reference: Reference, current: Profile, *, alpha: float, min_effect: float
) -> tuple[FeatureDrift, ...]:
    """Compare every column of a window with what the model was trained on.

    A column has drifted where its distance is at least `min_effect` and too large to be explained
    by the size of the samples or by how much windows of the training rows differed from the rest.

    Parameters
    ----------
    reference
        Stored with the model.
    current
        Profile of recent rows, of the same bins.
    alpha
        Level of the tests, over all columns together.
    min_effect
        Smallest distance that counts.

    Returns
    -------
    tuple of FeatureDrift
        By distance, the largest first; empty where there are too few rows to compare with windows
        of the past.
    """
    typical = float(np.median([w.rows for w in reference.windows])) if reference.windows else 0.0
    if current.rows < _ENOUGH * typical:
        return ()
    n = len(current.columns)
    distances = np.empty(n)
    p_values = np.empty(n)
    for i, (then, now) in enumerate(zip(reference.whole.columns, current.columns, strict=True)):
        distances[i] = distance(then.shares(), now.shares())
        past = _past_distances(then, [w.columns[i] for w in reference.windows])
        p_values[i] = max(
            _p_of_samples(then.shares(), now.shares()), _p_of_variation(distances[i], past)
        )
    corrected = holm(p_values)
    importance = (*reference.importance, 1.0)
    found = (
        FeatureDrift(
            column=column.name,
            distance=float(distances[i]),
            p_value=float(corrected[i]),
            importance=importance[i],
            drifted=bool(corrected[i] < alpha and distances[i] >= min_effect),
        )
        for i, column in enumerate(current.columns)
    )
    return tuple(sorted(found, key=lambda f: -f.distance))


def _p_of_samples(then: np.ndarray, now: np.ndarray) -> float:
    """Return the p-value of the G-test of homogeneity on bins with enough expected rows."""
    table = np.vstack([then, now])
    if table.sum(axis=1).min() == 0:
        return 1.0
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    rare = expected < 5
    if rare.any():
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").pvalue)


def _past_distances(whole: ColumnProfile, windows: Sequence[ColumnProfile]) -> np.ndarray:
    """Return how far each past window was from the rest of the training rows."""
    total = whole.shares()
    parts = [w.shares() for w in windows if sum(w.counts) + w.missing > 0]
    return np.array([distance(total - part, part) for part in parts])


def _p_of_variation(now: float, past: np.ndarray) -> float:
    """Return the chance of a new window as far off, if it were one more like the past ones.

    A prediction interval for one new value: Student's t on the logits of squared distances, which
    are divergences between 0 and 1. 0, no objection, where the past holds too few windows to tell.
    """
    if len(past) < _MIN_WINDOWS:
        return 0.0
    before = _logit(past**2)
    spread = max(float(before.std(ddof=1)), 0.1) * np.sqrt(1 + 1 / len(past))
    z = (float(_logit(np.array(now**2))) - before.mean()) / spread
    return float(stats.t.sf(z, len(past) - 1))


def _logit(shares: np.ndarray) -> np.ndarray:
    return special.logit(np.clip(shares, 1e-4, 1 - 1e-4))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p-values for their number (Holm 1979, step-down): shape (n,)."""
    n = len(p_values)
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * (n - np.arange(n)))
    corrected = np.empty(n)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
