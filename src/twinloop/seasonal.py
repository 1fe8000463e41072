"""Seasonal: what was usual at this hour of this day of the week."""

import numpy as np
from sklearn.base import BaseEstimator


class SeasonalNaive(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Predict what the target was in the same slot of the calendar.

    A slot is one value of each calendar column: an hour of the week where there are hours and days
    of the week. Rows in a slot that no fitted row was in get what all fitted rows have.

    Parameters
    ----------
    columns
        Columns of the matrix with codes of calendar parts.
    sizes
        How many codes each has.
    statistic
        ``mean`` or ``median`` for numbers, ``shares`` for classes.
    """

    def __init__(
        self,
        columns: tuple[int, ...] = (),
        sizes: tuple[int, ...] = (),
        statistic: str = "mean",
    ) -> None:
        self.columns = columns
        self.sizes = sizes
        self.statistic = statistic

    def fit(
        self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> "SeasonalNaive":
        """Learn what is usual in each slot.

        Parameters
        ----------
        X : np.ndarray, shape (n_rows, n_features)
        y : np.ndarray, shape (n_rows,)
            Numbers, or codes of classes.
        sample_weight : np.ndarray, shape (n_rows,), or None
        """
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        slots, n_slots = self._slots(X), int(np.prod(self.sizes, dtype=int))
        if self.statistic == "shares":
            self.classes_, codes = np.unique(y, return_inverse=True)
            hits = np.eye(len(self.classes_))[codes] * weight[:, None]
            self.overall_ = hits.sum(axis=0) / weight.sum()
            self.usual_ = _shares(slots, hits, weight, self.overall_, n_slots)
        elif self.statistic == "median":
            self.overall_ = _median(y, weight)
            self.usual_ = np.array(
                [
                    _median(y[slots == i], weight[slots == i]) if (slots == i).any() else np.nan
                    for i in range(n_slots)
                ]
            )
        else:
            self.overall_ = float(np.average(y, weights=weight))
            self.usual_ = _means(slots, y, weight, n_slots)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the usual number, or the most usual class, of each row: shape (n_rows,)."""
        if self.statistic == "shares":
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        slots = self._slots(X)
        found = np.where(slots >= 0, self.usual_[slots], np.nan)
        return np.where(np.isnan(found), self.overall_, found)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the share of each class in the slot of each row: shape (n_rows, n_classes)."""
        slots = self._slots(X)
        return np.where(slots[:, None] >= 0, self.usual_[slots], self.overall_)

    def _slots(self, X: np.ndarray) -> np.ndarray:
        """Return the slot of each row; -1 where a part of the time is missing."""
        slots = np.zeros(len(X), np.int64)
        missing = np.zeros(len(X), bool)
        for column, size in zip(self.columns, self.sizes, strict=True):
            codes = X[:, column]
            missing |= np.isnan(codes)
            slots = slots * size + np.nan_to_num(codes).astype(np.int64)
        return np.where(missing, -1, slots)


def _means(slots: np.ndarray, y: np.ndarray, weight: np.ndarray, n_slots: int) -> np.ndarray:
    known = slots >= 0
    sums = np.bincount(slots[known], (weight * y)[known], minlength=n_slots)
    weights = np.bincount(slots[known], weight[known], minlength=n_slots)
    return np.divide(sums, weights, out=np.full(n_slots, np.nan), where=weights > 0)


def _shares(
    slots: np.ndarray, hits: np.ndarray, weight: np.ndarray, overall: np.ndarray, n_slots: int
) -> np.ndarray:
    known = slots >= 0
    sums = np.column_stack([np.bincount(slots[known], h, minlength=n_slots) for h in hits[known].T])
    weights = np.bincount(slots[known], weight[known], minlength=n_slots)
    # One row more, of the overall shares: no class is impossible for being absent from a slot.
    return (sums + overall) / (weights + 1.0)[:, None]


def _median(y: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted median; half way between two where the weights split evenly."""
    order = np.argsort(y, kind="stable")
    so_far = np.cumsum(weight[order])
    half = so_far[-1] / 2
    low = order[np.searchsorted(so_far, half * (1 - 1e-12))]
    high = order[min(np.searchsorted(so_far, half * (1 + 1e-12), side="right"), len(y) - 1)]
    return float(y[low] + y[high]) / 2
