"""Ordinary variation: how far a number may be from what it was in windows of the past."""

from datetime import timedelta

import numpy as np
from scipy import special

from twinloop.cycles import periods, waves, which_waves

# With fewer windows of the past, their variation is a guess.
FEW = 4
# The guess: the standard deviation between windows, in standard deviations between rows.
_GUESS = 0.1
# Windows of the past that it takes to tell a mean, a line, and a curve.
_NEEDED = (FEW, 8, 12)
# A trend that chance makes of windows alike less often than this is one.
_A_TREND = 0.2
# Windows that it takes to tell how one number leads others; cycles take more.
_ENOUGH_TO_LEAD = 18
# By its value, its square (which the width follows) and its cube (skewness).
_POWERS = 3
# How much further than in all the past a trend may carry a number, in what it went then.
_FURTHER = 0.5


def p_values(
    past: np.ndarray,
    sizes: np.ndarray,
    now: np.ndarray,
    size: float,
    ahead: float = 1.0,
    span: timedelta | None = None,
    led: slice | None = None,
) -> np.ndarray:
    """Return the chance of numbers as far off, if the window were one more like those of the past.

    A prediction interval for one new value, by Student's t: around the mean of the past, around a
    straight line through it that goes on, and around a curve, where these fit the past better. The
    largest chance counts, so what goes on as it went is no surprise, as long as it does not go half
    as far again as in all the past. Where the past clearly goes along with a cycle of the calendar,
    all of this is around that cycle. The variance between windows is held to be no less than that
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
    span
        Length of a window; None where rows have no time, and so no cycles.
    led
        Which numbers may follow from the first one: where its first three powers clearly
        explain them in the past, they are judged by what is left. What goes far bends others.

    Returns
    -------
    np.ndarray, shape (n_scores,)
        Two-sided.
    """
    typical = float(np.median(sizes)) if len(sizes) else size
    if len(sizes) < FEW:
        centre = np.average(past, axis=0, weights=sizes) if len(sizes) else np.zeros_like(now)
        variance = 1 / size + 1 / max(float(sizes.sum()), 1.0) + _GUESS**2
        return np.asarray(2 * special.ndtr(-np.abs(now - centre) / np.sqrt(variance)))
    weights = np.minimum(sizes / typical, 1.0)
    known = min(size / typical, 1.0)
    lengths = periods(span, len(sizes))
    places = np.arange(len(sizes), dtype=np.float64)
    cycles = waves(places, lengths), waves(places[-1:] + ahead, lengths)[0]
    lead = _lead(past[:, 0], now[0])
    follows = np.zeros(len(now), bool)
    if led is not None and len(sizes) >= _ENOUGH_TO_LEAD + len(cycles[1]):
        constant = np.ones((len(sizes), 1))
        follows[led] = which_waves(past[:, led], weights, constant, lead[0], _POWERS)[0]
    p = np.ones(len(now))
    trend = np.vander(np.linspace(-1.0, 1.0, len(sizes)), len(_NEEDED))
    for leads in np.unique(follows):
        base = np.hstack([trend, lead[0]]) if leads else trend
        chosen = which_waves(past, weights, base, cycles[0])
        for pattern in np.unique(chosen[:, follows == leads], axis=1).T:
            of = (follows == leads) & (chosen == pattern[:, None]).all(axis=0)
            on = np.repeat(pattern, 2)
            X, X_now = (
                np.concatenate([c[..., on], m[..., : _POWERS * leads]], axis=-1)
                for c, m in zip(cycles, lead, strict=True)
            )
            bounded = not leads  # what follows another number is bounded by that one
            p[of] = _p_of_trends(
                past[:, of], weights, now[of], known, ahead, typical, (X, X_now), bounded
            )
    return p


def _lead(past: np.ndarray, now: float) -> tuple[np.ndarray, np.ndarray]:
    """Return powers of a number, of windows of the past and of the new one."""
    middle, spread = past.mean(), past.std() or 1.0
    values = (np.append(past, now) - middle) / spread
    powers = np.vander(values, _POWERS + 1)[:, :-1]
    return powers[:-1], powers[-1]


def _p_of_trends(
    past: np.ndarray,
    weights: np.ndarray,
    now: np.ndarray,
    known: float,
    ahead: float,
    typical: float,
    beside: tuple[np.ndarray, np.ndarray],
    bounded: bool,
) -> np.ndarray:
    """Return p-values around mean, line and curve, beside what else explains past and new ones."""
    n, (X, X_now) = len(past), beside
    # From -1 to 1 over the past; a trend is believed for a quarter as long as it was seen.
    steps = np.linspace(-1.0, 1.0, n)
    end = 1.0 + 2 * min(ahead, n / 4) / (n - 1)
    found, before = np.zeros(len(now)), np.full(len(now), np.inf)
    for degree, needed in enumerate(_NEEDED):
        if n >= needed:
            A = np.hstack([np.vander(steps, degree + 1), X])
            at = np.append(np.vander([end], degree + 1)[0], X_now)
            p, squares, fit = _p_of_line(A, at, past, weights, now, known, typical)
            degrees = n - A.shape[1]
            gained = special.fdtrc(1, degrees, degrees * (before / np.maximum(squares, 1e-12) - 1))
            found = np.where(gained < _A_TREND, np.maximum(found, p), found)
            before = squares
            if degree == 0:
                rest, rest_now = past - X @ fit[1:], now - X_now @ fit[1:]
            noise = np.maximum(squares / degrees, 1 / typical) * (1 / known + 1 / n)
    return np.minimum(found, _p_beyond(rest, rest_now, noise, degrees)) if bounded else found


def _p_beyond(past: np.ndarray, now: np.ndarray, variance: np.ndarray, degrees: int) -> np.ndarray:
    """Return the chance of values that have gone further than any trend of the past may carry."""
    low, high = past.min(axis=0), past.max(axis=0)
    reach = _FURTHER * (high - low)
    beyond = np.maximum(now - (high + reach), (low - reach) - now)
    return np.where(beyond > 0, 2 * special.stdtr(degrees, -beyond / np.sqrt(variance)), 1.0)


def _p_of_line(
    A: np.ndarray,
    at: np.ndarray,
    past: np.ndarray,
    weights: np.ndarray,
    now: np.ndarray,
    known: float,
    typical: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p-values of new values by weighted least squares, the squares left, and the fit."""
    inverse = np.linalg.pinv(A.T @ (A * weights[:, None]))
    fit = inverse @ (A.T @ (past * weights[:, None]))
    left = past - A @ fit
    degrees = len(past) - A.shape[1]
    squares = (weights[:, None] * left**2).sum(axis=0)
    variance = np.maximum(squares / degrees, 1 / typical)
    spread = np.sqrt(variance * (1 / known + at @ inverse @ at))
    return 2 * special.stdtr(degrees, -np.abs(now - at @ fit) / spread), squares, fit
