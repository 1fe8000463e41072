"""Divergence: how far apart two vectors of counts are, and how sure that is."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

_NATS = float(np.log(2))
_WIDTH = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Effect:
    """A distance with its interval of 95 %."""

    distance: float
    low: float
    high: float


def divergence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of counts, in base 2, along the last axis.

    0 for the same shares, and where either is empty; 1 for nothing in common.
    """
    one, other = (c / np.maximum(c.sum(axis=-1, keepdims=True), 1.0) for c in (a, b))
    m = (one + other) / 2
    parts = _ratio(one, m) + _ratio(other, m)
    filled = (a.sum(axis=-1) > 0) & (b.sum(axis=-1) > 0)
    return np.where(filled, np.clip(parts.sum(axis=-1) / 2, 0.0, 1.0), 0.0)


def _ratio(shares: np.ndarray, m: np.ndarray) -> np.ndarray:
    ratio = np.divide(shares, m, out=np.ones_like(m), where=shares > 0)
    return np.asarray(shares * np.log2(ratio))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Jensen-Shannon distance of two vectors of counts (Endres and Schindelin 2003).

    Base 2: 0 for the same shares, 1 for nothing in common. Empty counts are at distance 0.
    """
    return float(np.sqrt(divergence(a, b)))


def effect(then: np.ndarray, now: np.ndarray) -> Effect:
    """Return how far two vectors of counts are apart, less what chance makes of it.

    The expected divergence of two samples of the same rows is that of a chi-squared variable
    (Grosse et al. 2002, "Analysis of symbolic sequences using the Jensen-Shannon divergence");
    the interval is by the delta method, with the variance under no difference added.

    Parameters
    ----------
    then, now : np.ndarray, shape (n_cells,)
        Counts.
    """
    n, m = float(now.sum()), float(then.sum())
    if n == 0 or m == 0:
        return Effect(0.0, 0.0, 1.0)
    found = float(divergence(then, now))
    free = max(int(((then + now) > 0).sum()) - 1, 0)
    chance = (1 / n + 1 / m) / (8 * _NATS)
    p, q = now / n, then / m
    middle = (p + q) / 2
    variance = 2 * free * chance**2
    for shares, size in ((p, n), (q, m)):
        ratio = np.divide(shares, middle, out=np.ones_like(middle), where=shares > 0)
        slope = np.log2(ratio) / 2
        variance += float((shares * slope**2).sum() - (shares @ slope) ** 2) / size
    wide = _WIDTH * np.sqrt(variance)
    ends = np.sqrt(np.clip(found - free * chance + wide * np.array([0, -1, 1]), 0.0, 1.0))
    return Effect(*(float(e) for e in ends))
