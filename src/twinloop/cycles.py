"""Cycles of the calendar: the day, week, month and year that windows of the past may go along with.

A window that is high because the month ends is no surprise, and one that is not although the month
ends may be one. Without the cycle its height is taken for chance, and hides what is as large.
"""

from datetime import timedelta

import numpy as np
from scipy import special

_CALENDAR = tuple(timedelta(days=d) for d in (365.25, 365.25 / 12, 7, 1))
# A cycle is believed that was seen so often; it is a wave and its first overtones.
_SEEN = 3
_OVERTONES = 3
# So many windows a wave and its overtones go through whatever their shape. Of a cycle of more, the
# edge of a step would lie far from them, with little noise left: an alarm month after month.
_WINDOWS_OF_A_CYCLE = 2 * _OVERTONES + 1
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
    seen = [c for c in cycles if c * _SEEN <= n_windows and c <= _WINDOWS_OF_A_CYCLE]
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
    X = np.hstack([A, W])
    degrees, first = len(past) - X.shape[1], A.shape[1]
    inverse = np.linalg.pinv(X.T @ (X * weights[:, None]))
    fit = inverse @ (X.T @ (past * weights[:, None]))
    squares = (weights[:, None] * (past - X @ fit) ** 2).sum(axis=0)
    noise = np.maximum(squares / degrees, 1e-12)
    found = []
    for at in range(first, X.shape[1], columns):
        of = slice(at, at + columns)
        # What is left without a group, less what is left with it.
        gained = (fit[of] * (np.linalg.pinv(inverse[of, of]) @ fit[of])).sum(axis=0)
        found.append(special.fdtrc(columns, degrees, gained / columns / noise) < _A_WAVE)
    return np.array(found, bool).reshape(-1, past.shape[1])
