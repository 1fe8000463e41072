"""Bins: the edges that a quantity is counted by, and how many values lie between them."""

import numpy as np

_BINS = 20
# Both ends of a quantity have a small bin more: what is unusual is there.
_TAIL = 0.005


def learn_edges(values: np.ndarray) -> tuple[float, ...]:
    """Fix the inner edges of bins by quantiles of training rows; empty where none has a value.

    Parameters
    ----------
    values : np.ndarray of float32 or float64, shape (n_rows,)
        Others than finite ones are left out.
    """
    known = values[np.isfinite(values)].astype(np.float64)
    if len(known) == 0:
        return ()
    shares = np.sort([*np.linspace(0, 1, _BINS + 1), _TAIL, 1 - _TAIL])
    cuts = np.quantile(known, shares)
    # The outermost bins hold what lies outside of all that was seen: empty now, telling later.
    cuts[-1] = np.nextafter(cuts[-1], np.inf)
    return tuple(np.unique(cuts).tolist())


def count_bins(edges: tuple[float, ...], size: int, values: np.ndarray) -> np.ndarray:
    """Count values by bin, or by code where there are no edges; those that are NaN last.

    Parameters
    ----------
    edges
        Of a quantity, increasing.
    size
        How many bins or codes there are.
    values : np.ndarray, shape (n_rows,)

    Returns
    -------
    np.ndarray of int64, shape (size + 1,)
    """
    if not edges and size > 1:
        # Of NaN and a number, fmin takes the number: missing codes come after the last.
        codes = np.fmin(values, size).astype(np.intp)
        return np.bincount(codes, minlength=size + 1)
    missing = int(np.count_nonzero(np.isnan(values)))
    # Comparing all rows with each of some twenty edges is many times faster than to search the
    # edges for each row.
    above = [int(np.count_nonzero(values >= edge)) for edge in _as_type(edges, values.dtype)]
    counts = -np.diff([len(values) - missing, *above, 0])
    return np.append(counts, missing)


def find_bins(edges: tuple[float, ...], size: int, values: np.ndarray) -> np.ndarray:
    """Return the bin or code of each value as a byte; of those that are NaN, `size`."""
    last = min(size, 255)
    if not edges and last > 1:
        return np.fmin(values, last).astype(np.uint8)
    places = np.searchsorted(_as_type(edges, values.dtype), values, side="right")
    return np.where(np.isnan(values), last, places).astype(np.uint8)


def _as_type(edges: tuple[float, ...], kind: np.dtype) -> np.ndarray:
    """Return edges as the type of the values, such that the same values are above."""
    exact = np.array(edges, np.float64)
    if kind != np.float32:
        return exact
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
        return np.where(near < exact, np.nextafter(near, np.float32(np.inf)), near)
