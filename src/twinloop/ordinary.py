"""Ordinary variation: how far a number may be from what it was in windows of the past."""

import numpy as np
from scipy import stats

# With fewer windows of the past, their variation is a guess.
FEW = 4
# The guess: the standard deviation between windows, in standard deviations between rows.
_GUESS = 0.1
# Windows of the past that it takes to tell a mean, a line, and a curve.
_NEEDED = (FEW, 8, 12)


def p_values(
    past: np.ndarray, sizes: np.ndarray, now: np.ndarray, size: float, ahead: float = 1.0
) -> np.ndarray:
    """Return the chance of numbers as far off, if the window were one more like those of the past.

    A prediction interval for one new value, by Student's t: around the mean of the past, around a
    straight line through it that goes on, and around a curve; the largest chance counts, so what
    goes on as it went is no surprise. The variance between windows is held to be no less than that
    of their rows, and a window of more rows than usual is given no less of it.

    Parameters
    ----------
    past : np.ndarray, shape (n_windows, n_scores)
        Numbers whose variance is 1 / size if rows are independent, the oldest window first.
    sizes : np.ndarray, shape (n_windows,)
        Rows of each.
    now : np.ndarray, shape (n_scores,)
        Of the new window.
    size
        Its rows.
    ahead
        How many windows after the last one it is.

    Returns
    -------
    np.ndarray, shape (n_scores,)
        Two-sided.
    """
    typical = float(np.median(sizes)) if len(sizes) else size
    if len(sizes) < FEW:
        centre = np.average(past, axis=0, weights=sizes) if len(sizes) else np.zeros_like(now)
        variance = 1 / size + 1 / max(float(sizes.sum()), 1.0) + _GUESS**2
        return np.asarray(2 * stats.norm.sf(np.abs(now - centre) / np.sqrt(variance)))
    weights = np.minimum(sizes / typical, 1.0)
    known = min(size / typical, 1.0)
    # From -1 to 1 over the past, for the sake of the numbers.
    steps = np.linspace(-1.0, 1.0, len(sizes))
    end = 1.0 + 2 * ahead / (len(sizes) - 1)
    found = np.zeros(len(now))
    for degree, needed in enumerate(_NEEDED):
        if len(sizes) >= needed:
            A = np.vander(steps, degree + 1)
            at = np.vander([end], degree + 1)[0]
            p = _p_of_line(A, at, past, weights, now, known, typical)
            found = np.maximum(found, p)
    return found


def _p_of_line(
    A: np.ndarray,
    at: np.ndarray,
    past: np.ndarray,
    weights: np.ndarray,
    now: np.ndarray,
    known: float,
    typical: float,
) -> np.ndarray:
    """Return the p-values of new values by weighted least squares on the past."""
    inverse = np.linalg.inv(A.T @ (A * weights[:, None]))
    fit = inverse @ (A.T @ (past * weights[:, None]))
    left = past - A @ fit
    degrees = len(past) - A.shape[1]
    variance = np.maximum((weights[:, None] * left**2).sum(axis=0) / degrees, 1 / typical)
    spread = np.sqrt(variance * (1 / known + at @ inverse @ at))
    return np.asarray(2 * stats.t.sf(np.abs(now - at @ fit) / spread, degrees))
