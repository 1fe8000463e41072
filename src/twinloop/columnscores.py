"""Scores: the counts of a column in a few numbers, each of which tells one kind of change.

Of a quantity: where the values lie, how wide, how lopsided, in the lowest and in the highest bins,
and missing ones. Ranks are scored by orthogonal polynomials (Neyman 1937, "Smooth test for goodness
of fit"), in bins of the training rows. Of codes: the share of each level, of missing values, and of
levels the model does not know. Shares are in angles (Freeman and Tukey 1950), whose variance does
not hang on the share. Every score has a variance of 1 / rows if rows are independent.
"""

from dataclasses import dataclass

import numpy as np

# Polynomials: place, width, skewness.
_DEGREES = 3
# Bins and levels are put together until so many rows are expected in a window.
_EXPECTED = 5.0


@dataclass(frozen=True)
class ColumnScores:
    """How to score a column.

    Attributes
    ----------
    curves : np.ndarray, shape (n_bins, n_curves)
        What a row counts in each bin: mean 0, variance 1 in the training rows.
    sets : np.ndarray of bool, shape (n_bins + 2, n_sets)
        Which cells each share is of; missing ones and new levels are the last two.
    """

    curves: np.ndarray
    sets: np.ndarray

    def of(self, cells: np.ndarray) -> np.ndarray:
        """Score counts.

        Parameters
        ----------
        cells : np.ndarray, shape (n_windows, n_bins + 2)

        Returns
        -------
        np.ndarray, shape (n_windows, n_curves + n_sets)
        """
        known = cells[:, :-2].sum(axis=1, keepdims=True)
        # Of no values at all, nothing is known of where they lie.
        curved = cells[:, :-2] @ self.curves / np.maximum(known, 1.0)
        return np.hstack([curved, angles(cells @ self.sets, cells.sum(axis=1, keepdims=True))])


def angles(counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return shares as angles of variance 1 / rows (Anscombe 1948)."""
    return np.asarray(2 * np.arcsin(np.sqrt((counts + 0.375) / (rows + 0.75))))


def learn_scores(whole: np.ndarray, is_coded: bool, rows: float) -> ColumnScores:
    """Choose the scores of a column.

    Parameters
    ----------
    whole : np.ndarray, shape (n_bins + 2,)
        Counts of all training rows; missing ones and new levels last.
    is_coded
        Whether its bins have no order.
    rows
        Of a window, typically.
    """
    shares = whole / max(whole.sum(), 1.0)
    enough = _EXPECTED / max(rows, 1.0)
    missing, new = np.eye(len(whole), dtype=bool)[-2:]
    sets = [missing]
    curves = np.empty((len(whole) - 2, 0))
    if is_coded:
        often = np.append(shares[:-2] >= enough, [False, False])
        rare = ~often & ~missing & ~new
        sets += [new, *np.eye(len(whole), dtype=bool)[often]]
        sets += [rare] if rare.any() else []
    else:
        curves = _curves(shares[:-2])
        from_below, from_above = np.cumsum(shares[:-2]), np.cumsum(shares[-3::-1])[::-1]
        below = np.append(np.arange(len(from_below)) <= np.argmax(from_below >= enough), [0, 0])
        last = len(from_above) - 1 - np.argmax(from_above[::-1] >= enough)
        above = np.append(np.arange(len(from_above)) >= last, [0, 0])
        sets += [s.astype(bool) for s in (below, above) if 0 < s.sum() < len(whole) - 2]
    return ColumnScores(curves, np.column_stack(sets).astype(np.float64))


def _curves(shares: np.ndarray) -> np.ndarray:
    """Return orthogonal polynomials of the ranks of bins: shape (n_bins, at most 3)."""
    total = shares.sum()
    full = int((shares > 0).sum())
    degrees = min(_DEGREES, full - 1)
    if total == 0 or degrees < 1:
        return np.empty((len(shares), 0))
    weights = shares / total
    ranks = np.cumsum(weights) - weights / 2
    powers = np.vander(2 * ranks - 1, degrees + 1, increasing=True)
    # Gram and Schmidt, with the shares as weights.
    root = np.sqrt(weights)[:, None]
    _, triangle = np.linalg.qr(powers * root)
    return np.asarray(np.linalg.solve(triangle.T, powers.T).T[:, 1:])
