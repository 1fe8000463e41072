"""Profiles: small, mergeable counts of what a table looked like; all that a drift check reads."""

import hashlib
from datetime import timedelta
from typing import Self

import numpy as np

from twinloop.bins import count_bins, find_bins
from twinloop.moments import Grid
from twinloop.samples import Sample
from twinloop.scorer import Predictions
from twinloop.vocabulary import Frozen

PREDICTION = "prediction"
# Below this share of the model a feature is one that it hardly uses.
MATTERS = 0.02


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
        Rows without a value; with levels unknown to the model too, where these were not told apart.
    new
        Rows with a level unknown to the model.
    total, squares
        Sum and sum of squares of a quantity, in steps of its grid; see `twinloop.moments`.
    """

    name: str
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...]
    missing: int = 0
    new: int = 0
    total: int = 0
    squares: int = 0

    def merge(self, other: Self) -> Self:
        """Return the counts of both; exact, whatever the order."""
        if self.name != other.name:
            raise ValueError(f"{self.name!r} and {other.name!r} are different columns")
        sums = {n: getattr(self, n) + getattr(other, n) for n in _SUMS}
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return self.model_copy(update={"counts": counts} | sums)

    def shares(self) -> np.ndarray:
        """Return counts as an array, missing and new levels last: shape (n_bins + 1,)."""
        return np.array([*self.counts, self.missing + self.new], np.float64)


_SUMS = ("missing", "new", "total", "squares")


class Profile(Frozen):
    """Counts of all columns of a model's input, and of its predictions.

    Attributes
    ----------
    bins
        Digest of the binning it was made with.
    read, quarantined
        Rows in the window, and those that broke the contract.
    columns
        Features, the prediction, then the probability of each of three or more classes.
    sample
        Some of the rows, for what no column shows alone.
    expected
        What the rows are expected to cost, see `twinloop.gauge`; empty where nothing tells.
    """

    rows: int
    bins: str = ""
    read: int = 0
    quarantined: int = 0
    columns: tuple[ColumnProfile, ...]
    sample: Sample = Sample()
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
                "sample": self.sample.merge(other.sample),
                "expected": _both(self.expected, other.expected),
            }
        )


def _both(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Add up; nothing adds nothing."""
    return tuple(x + y for x, y in zip(a, b, strict=True)) if a and b else a or b


class Binning(Frozen):
    """How to count: edges fixed at training time, one entry a feature, then those of the answers.

    Attributes
    ----------
    grids
        By column; None where there are no quantities.
    n_outputs
        How many of the columns are of the model's answer.
    """

    columns: tuple[ColumnProfile, ...]
    grids: tuple[Grid | None, ...] = ()
    n_outputs: int = 1

    @property
    def digest(self) -> str:
        """Name these bins by their content: 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def features(self) -> tuple[ColumnProfile, ...]:
        """The columns of the model's input."""
        return self.columns[: len(self.columns) - self.n_outputs]

    def grid(self, column: int) -> Grid | None:
        """Return the grid of a column, by its place."""
        return self.grids[column] if self.grids else None

    def count(
        self, X: np.ndarray, predictions: Predictions, nulls: np.ndarray | None = None
    ) -> Profile:
        """Count encoded rows and their predictions.

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)
        predictions
            Of the same rows.
        nulls : np.ndarray of int64, shape (n_features,), or None
            Rows without a value, by feature: others that are NaN have a new level. None: none have.
        """
        counter = Counter(self)
        return counter.profile(counter.count(X, predictions, nulls), len(X))

    def empty(self) -> Profile:
        """Return the profile of no rows: merging it changes nothing."""
        columns = (ColumnProfile(name=c.name, counts=c.counts) for c in self.columns)
        return Profile(rows=0, bins=self.digest, columns=tuple(columns))


class Counter:
    """Counts rows by a binning, batch after batch: cells to be added up, a profile at the end.

    The cells of a column are its counts, then missing ones, new levels, and its two sums; columns
    follow one another.
    """

    def __init__(self, binning: Binning) -> None:
        self._binning = binning
        self._digest = binning.digest

    def count(
        self, X: np.ndarray, predictions: Predictions, nulls: np.ndarray | None = None
    ) -> np.ndarray:
        """Count encoded rows, their predictions and nulls: int64, shape (n_cells,)."""
        values = [*X.T, *self._answers(predictions)]
        cells = []
        for i, (column, v) in enumerate(zip(self._binning.columns, values, strict=True)):
            counts = count_bins(column.edges, len(column.counts), v)
            missing = counts[-1]
            known = missing if nulls is None or i >= X.shape[1] or column.edges else nulls[i]
            counts[-1] = known
            grid = self._binning.grid(i)
            sums = (0, 0) if grid is None else grid.sums(v, int(missing))
            cells += [counts, np.array([missing - known, *sums], np.int64)]
        return np.concatenate(cells)

    def none(self) -> np.ndarray:
        """Return the cells of no rows."""
        return np.zeros(sum(len(c.counts) + 4 for c in self._binning.columns), np.int64)

    def nothing(self) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Return the cells of no rows, and what a sample of none is made of."""
        values = np.empty((0, len(self._binning.columns)), np.float32)
        return self.none(), (np.empty(0, np.uint64), values)

    def profile(self, cells: np.ndarray, n_rows: int, sample: Sample | None = None) -> Profile:
        """Return the profile that cells make, of how many rows."""
        columns, at = [], 0
        for column in self._binning.columns:
            end = at + len(column.counts) + 4
            *counts, missing, new, total, squares = cells[at:end].tolist()
            columns.append(
                ColumnProfile(
                    name=column.name,
                    counts=tuple(counts),
                    missing=missing,
                    new=new,
                    total=total,
                    squares=squares,
                )
            )
            at = end
        return Profile(
            rows=n_rows,
            bins=self._digest,
            read=n_rows,
            columns=tuple(columns),
            sample=sample or Sample(),
        )

    def values(self, X: np.ndarray, predictions: Predictions, rows: np.ndarray) -> np.ndarray:
        """Take some rows, with their answers, for a sample: float32, shape (n, n_columns)."""
        answers = self._answers(predictions)
        return np.column_stack([X[rows], *(a[rows] for a in answers)]).astype(np.float32)

    def sample(self, hashes: np.ndarray, values: np.ndarray) -> Sample:
        """Make a sample of rows: the bins of what `values` gave, of the smallest hashes."""
        columns = zip(self._binning.columns, values.T, strict=True)
        codes = [find_bins(c.edges, len(c.counts), v) for c, v in columns]
        return Sample.of(hashes, np.column_stack(codes))

    def _answers(self, predictions: Predictions) -> list[np.ndarray]:
        return answers_of(predictions)[: self._binning.n_outputs]


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
    until
        Time of the newest of these rows, microseconds since 1970; None where rows have none.
    sample
        Rows of all windows.
    separations
        How well the rows of each window can be told from those of the others; see
        `twinloop.separation`.
    quarantine
        Whether the windows tell how many rows beside theirs broke the contract; those of older
        releases do not.
    span
        Length of the windows where they follow one another, none left out; None otherwise. Only
        then they tell of cycles.
    """

    binning: Binning
    whole: Profile
    windows: tuple[Profile, ...]
    importance: tuple[float, ...]
    loss: str
    losses: tuple[float, ...]
    until: int | None = None
    sample: Sample = Sample()
    separations: tuple[float, ...] = ()
    quarantine: bool = False
    span: timedelta | None = None

    @property
    def used(self) -> np.ndarray:
        """Which columns the model uses, or answers with: bool, shape (n_columns,)."""
        return used_columns(self.importance, len(self.binning.columns))


def used_columns(importance: tuple[float, ...], n_columns: int) -> np.ndarray:
    """Tell which columns a model uses, or answers with: bool, shape (n_columns,)."""
    used = np.ones(n_columns, bool)
    used[: len(importance)] = np.array(importance) >= MATTERS
    return used


def answers_of(predictions: Predictions) -> list[np.ndarray]:
    """Return what is counted of answers: of two classes a probability, of more the class first."""
    probability = predictions.probability
    if probability is None:
        return [predictions.value]
    if probability.shape[1] == 2:
        return [probability[:, 1]]
    return [predictions.value, *probability.T]


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
