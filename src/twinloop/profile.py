"""Profiles: small, mergeable counts of what a table looked like; all that a drift check reads."""

import hashlib
from typing import Self

import numpy as np

from twinloop.encoding import Encoding
from twinloop.scorer import Predictions, Target
from twinloop.vocabulary import Frozen

_BINS = 20
PREDICTION = "prediction"


class ColumnProfile(Frozen):
    """Counts of one column.

    Attributes
    ----------
    edges
        Inner edges of the bins of a quantity, increasing; empty for codes. They are in the binning
        only: a profile that repeated them would be three times as large.
    counts
        Rows by bin (one more than edges) or by code.
    missing
        Rows without a value or with a level unknown to the model.
    """

    name: str
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...]
    missing: int = 0

    def merge(self, other: Self) -> Self:
        """Return the counts of both; exact, whatever the order."""
        if self.name != other.name:
            raise ValueError(f"{self.name!r} and {other.name!r} are different columns")
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return self.model_copy(update={"counts": counts, "missing": self.missing + other.missing})

    def shares(self) -> np.ndarray:
        """Return counts as an array, missing last: shape (n_bins + 1,)."""
        return np.array([*self.counts, self.missing], np.float64)


class Profile(Frozen):
    """Counts of all columns of a model's input, and of its predictions.

    Attributes
    ----------
    bins
        Digest of the binning it was made with.
    read, quarantined
        Rows in the window, and those that broke the contract.
    expected
        What the rows are expected to cost, see `twinloop.gauge`; empty where nothing tells.
    """

    rows: int
    bins: str = ""
    read: int = 0
    quarantined: int = 0
    columns: tuple[ColumnProfile, ...]
    expected: tuple[int, ...] = ()

    def merge(self, other: Self) -> Self:
        """Return the profile of both tables together.

        Raises
        ------
        ValueError
            If they were counted by different bins.
        """
        if self.bins != other.bins:
            raise ValueError(f"profiles have different bins: {self.bins!r} and {other.bins!r}")
        columns = tuple(a.merge(b) for a, b in zip(self.columns, other.columns, strict=True))
        return self.model_copy(
            update={
                "rows": self.rows + other.rows,
                "read": self.read + other.read,
                "quarantined": self.quarantined + other.quarantined,
                "columns": columns,
                "expected": _both(self.expected, other.expected),
            }
        )


def _both(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Add up; nothing adds nothing."""
    return tuple(x + y for x, y in zip(a, b, strict=True)) if a and b else a or b


class Binning(Frozen):
    """How to count: edges fixed at training time, one entry a feature and one for predictions."""

    columns: tuple[ColumnProfile, ...]

    @property
    def digest(self) -> str:
        """Name these bins by their content: 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def count(self, X: np.ndarray, predictions: Predictions) -> Profile:
        """Count encoded rows and their predictions.

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)
        predictions
            Of the same rows.
        """
        counter = Counter(self)
        return counter.profile(counter.count(X, predictions), len(X))

    def empty(self) -> Profile:
        """Return the profile of no rows: merging it changes nothing."""
        columns = (ColumnProfile(name=c.name, counts=c.counts) for c in self.columns)
        return Profile(rows=0, bins=self.digest, columns=tuple(columns))


class Counter:
    """Counts rows by a binning, batch after batch: cells to be added up, a profile at the end.

    The cells of a column are its counts, then its missing ones; columns follow one another.
    """

    def __init__(self, binning: Binning) -> None:
        self._binning = binning
        self._digest = binning.digest

    def count(self, X: np.ndarray, predictions: Predictions) -> np.ndarray:
        """Count encoded rows and their predictions: int64, shape (n_cells,)."""
        values = [*X.T, _predicted(predictions)]
        return np.concatenate(
            [_count(c, v) for c, v in zip(self._binning.columns, values, strict=True)]
        )

    def none(self) -> np.ndarray:
        """Return the cells of no rows."""
        return np.zeros(sum(len(c.counts) + 1 for c in self._binning.columns), np.int64)

    def profile(self, cells: np.ndarray, n_rows: int) -> Profile:
        """Return the profile that cells make, of how many rows."""
        columns, at = [], 0
        for column in self._binning.columns:
            *counts, missing = cells[at : at + len(column.counts) + 1].tolist()
            columns.append(ColumnProfile(name=column.name, counts=tuple(counts), missing=missing))
            at += len(column.counts) + 1
        return Profile(rows=n_rows, bins=self._digest, read=n_rows, columns=tuple(columns))


def _count(column: ColumnProfile, values: np.ndarray) -> np.ndarray:
    size = len(column.counts)
    if not column.edges and size > 1:
        # Of NaN and a number, fmin takes the number: missing codes come after the last.
        codes = np.fmin(values, size).astype(np.intp)
        return np.bincount(codes, minlength=size + 1)
    missing = int(np.count_nonzero(np.isnan(values)))
    # Comparing all rows with each of some twenty edges is many times faster than to search the
    # edges for each row.
    above = [int(np.count_nonzero(values >= edge)) for edge in _edges(column, values.dtype)]
    counts = -np.diff([len(values) - missing, *above, 0])
    return np.append(counts, missing)


def _edges(column: ColumnProfile, kind: np.dtype) -> np.ndarray:
    """Return edges as the type of the values, such that the same values are above."""
    edges = np.array(column.edges, np.float64)
    if kind != np.float32:
        return edges
    with np.errstate(over="ignore"):
        near = edges.astype(np.float32)
        return np.where(near < edges, np.nextafter(near, np.float32(np.inf)), near)


class Reference(Frozen):
    """What a model was trained on, for later comparison.

    Attributes
    ----------
    whole
        Profile of all training rows, with predictions of rows outside the fit.
    windows
        Profiles of the training rows window by window: what ordinary variation looks like.
    importance
        Share of each feature in the model, same order as the features.
    losses
        Mean loss of each holdout block (a day, or a bunch of rows), of the metric in `loss`.
    """

    binning: Binning
    whole: Profile
    windows: tuple[Profile, ...]
    importance: tuple[float, ...]
    loss: str
    losses: tuple[float, ...]


def learn_binning(
    encoding: Encoding, X: np.ndarray, predictions: Predictions, target: Target
) -> Binning:
    """Fix the bins: quantiles for quantities, one bin a level for codes.

    Parameters
    ----------
    encoding
        Tells quantities from codes.
    X : np.ndarray of float32, shape (n_rows, n_features)
        Training rows.
    predictions
        Predictions to take the edges of their bins from.
    target
        Tells how many classes there are.
    """
    columns = [
        _bins(feature.name, X[:, i], feature.n_levels)
        for i, feature in enumerate(encoding.features)
    ]
    # A class is a code; a probability of two is more telling than the class it leads to.
    codes = len(target.classes) if len(target.classes) > 2 else 0
    columns.append(_bins(PREDICTION, _predicted(predictions), codes))
    return Binning(columns=tuple(columns))


def _predicted(predictions: Predictions) -> np.ndarray:
    probability = predictions.probability
    if probability is not None and probability.shape[1] == 2:
        return probability[:, 1]
    return predictions.value


def _bins(name: str, values: np.ndarray, n_levels: int) -> ColumnProfile:
    if n_levels:
        return ColumnProfile(name=name, counts=(0,) * n_levels)
    known = values[np.isfinite(values)].astype(np.float64)
    if len(known) == 0:
        return ColumnProfile(name=name, counts=(0,))
    cuts = np.quantile(known, np.linspace(0, 1, _BINS + 1))
    # The outermost bins hold what lies outside of all that was seen: empty now, telling later.
    cuts[-1] = np.nextafter(cuts[-1], np.inf)
    edges = tuple(np.unique(cuts).tolist())
    return ColumnProfile(name=name, edges=edges, counts=(0,) * (len(edges) + 1))


def window_numbers(times: np.ndarray | None, n_rows: int, span_micros: int) -> np.ndarray:
    """Return the window each row falls in, counted back from the newest row.

    Rows without time fall into ten windows of equal size, in their order.

    Parameters
    ----------
    times : np.ndarray of int64, shape (n_rows,), or None
        Microseconds since 1970, UTC.
    n_rows
        How many rows.
    span_micros
        Length of a window, microseconds.
    """
    if times is None:
        return np.arange(n_rows) * 10 // max(n_rows, 1)
    return (int(times.max()) - times) // span_micros


def combine(profiles: list[Profile], binning: Binning) -> Profile:
    """Merge profiles made with one binning."""
    total = binning.empty()
    for profile in profiles:
        total = total.merge(profile)
    return total
