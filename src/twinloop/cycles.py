"""Cycles of the calendar: the day, week, month and year that windows of the past may go along with.

A window that is high because the month ends is no surprise, and one that is not although the month
ends may be one. Without the cycle its height is taken for chance, and hides what is as large.
"""

from datetime import timedelta

import numpy as np
from scipy import stats

_CALENDAR = tuple(timedelta(days=d) for d in (365.25, 365.25 / 12, 7, 1))
# A cycle is believed that was seen so often; it is a wave and its first overtones.
_SEEN = 3
_OVERTONES = 3
# A wave of fewer windows than this cannot be told from one of more.
_SHORTEST = 2.1
# Windows that are to be left over, to tell chance by.
_LEFT = 12
# Waves that chance makes of windows alike less often than this count. Of the hundreds of numbers of
# a check some would be at 0.01, and each of them would be held to too little noise.
_A_WAVE = 0.001


def periods(span: timedelta | None, n_windows: int) -> tuple[float, ...]:
    """Return the waves that windows of the past may tell, the longest cycle first.

    Parameters
    ----------
    span
        Length of a window; None where rows have no time.
    n_windows
        How many there are, one after the other.

    Returns
    -------
    tuple of float
        Lengths of waves, in windows.
    """
    if not span:
        return ()
    cycles = [c / span for c in _CALENDAR]
    seen = [c for c in cycles if c * _SEEN <= n_windows]
    waves = [c / k for c in seen for k in range(1, _OVERTONES + 1) if c / k >= _SHORTEST]
    # A polynomial of the second degree takes three, a wave two.
    room = max((n_windows - 3 - _LEFT) // 2, 0)
    return tuple(waves[:room])


def waves(at: np.ndarray, lengths: tuple[float, ...]) -> np.ndarray:
    """Return cosine and sine of each wave at windows: shape (n_windows, 2 * n_waves)."""
    turns = 2 * np.pi * np.asarray(at, np.float64)[:, None] / np.array(lengths, np.float64)
    return np.stack([np.cos(turns), np.sin(turns)], axis=2).reshape(len(at), -1)


def which_waves(
    past: np.ndarray, weights: np.ndarray, A: np.ndarray, W: np.ndarray, columns: int = 2
) -> np.ndarray:
    """Tell which waves the past goes along with, beyond chance.

    Parameters
    ----------
    past : np.ndarray, shape (n_windows, n_scores)
        Numbers, the oldest window first.
    weights : np.ndarray, shape (n_windows,)
        Of the windows.
    A : np.ndarray, shape (n_windows, n_columns)
        What else explains them: polynomials.
    W : np.ndarray, shape (n_windows, 2 * n_waves)
        See `waves`.
    columns
        How many of `W` belong together.

    Returns
    -------
    np.ndarray of bool, shape (n_waves, n_scores)
        By F-tests, each wave beside all the others.
    """
    root = np.sqrt(weights)[:, None]
    everything, values = np.hstack([A, W]) * root, past * root
    degrees = len(past) - everything.shape[1]
    least = _squares_left(everything, values)
    found = []
    for at in range(A.shape[1], everything.shape[1], columns):
        without = _squares_left(np.delete(everything, range(at, at + columns), axis=1), values)
        ratio = (without - least) / columns / np.maximum(least / degrees, 1e-12)
        found.append(stats.f.sf(ratio, columns, degrees) < _A_WAVE)
    return np.array(found, bool).reshape(-1, past.shape[1])


def _squares_left(X: np.ndarray, values: np.ndarray) -> np.ndarray:
    q, _ = np.linalg.qr(X)
    return np.asarray(((values - q @ (q.T @ values)) ** 2).sum(axis=0))
