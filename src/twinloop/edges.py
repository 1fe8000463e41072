"""Bin edges of boosted trees, from few rows and found once."""

from collections.abc import Mapping

import numpy as np

# As many as XGBoost has bins by default.
_MOST_BINS = 256


def bin_edges(X: np.ndarray) -> np.ndarray:
    """Return, column by column, the values that boosted trees may split at.

    All values of a column where there are few, else values at evenly spaced ranks. As the rows of a
    matrix they make XGBoost cut where the quantiles of the rows given would, at a fiftieth of the
    cost of having it find these in every fold.

    Parameters
    ----------
    X : np.ndarray of float32, shape (n_rows, n_features)
        NaN is missing.

    Returns
    -------
    np.ndarray of float32, shape (n_edges, n_features)
        Each column increasing, then NaN; at most 256 rows, and at least one.
    """
    columns = [_picked(X[:, i]) for i in range(X.shape[1])]
    edges = np.full((max(1, *map(len, columns)), X.shape[1]), np.nan, np.float32)
    for i, values in enumerate(columns):
        edges[: len(values), i] = values
    return edges


def _picked(column: np.ndarray) -> np.ndarray:
    known = np.sort(column[~np.isnan(column)])
    values = np.unique(known)
    if len(values) <= _MOST_BINS:
        return values
    # By rank, so that crowded values get no bins for nothing and a long tail few.
    ranks = np.linspace(0, len(known) - 1, _MOST_BINS).astype(np.int64)
    return np.unique(known[ranks])


def with_levels(edges: np.ndarray, n_levels: Mapping[int, int]) -> np.ndarray:
    """Return bin edges with those of categories: every code is one.

    Parameters
    ----------
    edges : np.ndarray of float32, shape (n_edges, n_features)
        Of quantities.
    n_levels
        Columns that hold categories, and how many codes each has.

    Returns
    -------
    np.ndarray of float32, shape (n_edges or the most codes, n_features)
    """
    n_rows = max([len(edges), *n_levels.values()])
    full = np.full((n_rows, edges.shape[1]), np.nan, np.float32)
    full[: len(edges)] = edges
    for column, n in n_levels.items():
        full[:, column] = np.nan
        full[:n, column] = np.arange(n)
    return full
