"""Stopping: which of the fitted rows say when boosting has learned enough."""

import numpy as np

SHARE = 0.15
_LEAST_ROWS = 20


def stopping_rows(
    y: np.ndarray,
    *,
    times: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    gap: int = 0,
    classes: bool = False,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Set some of the fitted rows aside, as those that are to come will be: later, or others.

    They are the last by time where rows have time, else whole groups by chance, else rows by
    chance. All of them are rows that were given to be fitted on; validation rows are not known
    here.

    Parameters
    ----------
    y : np.ndarray, shape (n_rows,)
        Targets: numbers, or codes of classes.
    times : np.ndarray of int64, shape (n_rows,), or None
        Rows of one time stay together.
    groups : np.ndarray of int64, shape (n_rows,), or None
        Codes of groups, which stay together; not looked at where there are times.
    gap
        Microseconds left out between the rows to learn from and those to stop by, where rows have
        time.
    classes
        Whether `y` holds classes. Rows of one that no other row has then stop nothing.
    seed
        Of the draw.

    Returns
    -------
    tuple of two np.ndarray of int64, or None
        Places of the rows to learn from and of those to stop by, both increasing; None where too
        few rows are left to stop by, or fewer than these to learn from.
    """
    order = _order(len(y), times, groups, seed)
    cut = np.quantile(order, 1 - SHARE, method="lower")
    learn, stop = np.flatnonzero(order <= cut), np.flatnonzero(order > cut)
    if times is not None and gap and len(stop):
        learn = learn[times[learn] < times[stop].min() - gap]
    if classes:
        stop = stop[np.isin(y[stop], y[learn])]
    if not _LEAST_ROWS <= len(stop) <= len(learn) or (classes and len(np.unique(y[learn])) < 2):
        return None
    return learn, stop


def _order(
    n_rows: int, times: np.ndarray | None, groups: np.ndarray | None, seed: int
) -> np.ndarray:
    """Return what rows are ordered by; the last are set aside."""
    if times is not None:
        return times
    draw = np.random.default_rng(seed)
    if groups is not None:
        return draw.permutation(int(groups.max()) + 1)[groups]
    return draw.permutation(n_rows)
