"""The case of a leak: rows about to be learned from, and what checks have in common of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from twinloop.contract import ColumnContract, Contract
from twinloop.scorer import Target
from twinloop.splitting import Split
from twinloop.workload import Workload

# Rows that columns are looked at; what looks suspicious on them is then looked at on all rows.
_SAMPLE = 20_000
# A coincidence over fewer rows proves nothing.
MIN_ROWS, MIN_VARIED = 20, 10
JUDGED_ROWS = 2000  # rows of a fold that are judged where not all are
ROUNDING = 1e-6  # of the target's range: what writing numbers as decimals may change


@dataclass(frozen=True)
class Leak:
    """A finding before it is known how serious the workload takes it."""

    columns: tuple[str, ...]
    numbers: dict[str, float]
    explanation: str
    advice: str


@dataclass(frozen=True)
class Case:
    """Rows, and what checks have in common of them."""

    table: pa.Table
    contract: Contract
    target: Target
    split: Split
    workload: Workload

    @cached_property
    def y(self) -> np.ndarray:
        """The target: numbers, or codes of classes."""
        return self.target.encode(self.table.column(self.target.name))

    @cached_property
    def times(self) -> np.ndarray | None:
        """Microseconds since 1970, or None where rows have no time."""
        name = self.workload.time
        return None if name is None else self.table.column(name).cast(pa.int64()).to_numpy()

    @cached_property
    def sample(self) -> np.ndarray:
        """Row numbers to look at first, increasing."""
        n_rows = self.table.num_rows
        if n_rows <= _SAMPLE:
            return np.arange(n_rows)
        rng = np.random.default_rng(self.workload.seed)
        return np.sort(rng.choice(n_rows, _SAMPLE, replace=False))

    @cached_property
    def sampled(self) -> dict[str, np.ndarray]:
        """Values of each feature on the sample; see `as_numbers`."""
        part = self.table.take(pa.array(self.sample))
        return {c.name: as_numbers(part.column(c.name)) for c in self.features}

    @cached_property
    def cuts(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Pairs of rows fitted on and rows judged on: the folds and the holdout."""
        return (*self.split.folds, (self.split.train, self.split.holdout))

    @property
    def first_folds(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """The folds of the first draw."""
        return self.split.folds[: self.workload.training.folds]

    @cached_property
    def copies(self) -> frozenset[str]:
        """Features that are the target under another name."""
        return frozenset(c.name for c in self.features if self._is_copy(c))

    @property
    def features(self) -> tuple[ColumnContract, ...]:
        """Columns that a model may see."""
        return self.contract.select("feature")

    def column(self, name: str) -> np.ndarray:
        """Return a feature's values on all rows; see `as_numbers`."""
        return as_numbers(self.table.column(name))

    def _is_copy(self, column: ColumnContract) -> bool:
        if self.target.task == "regression":
            if column.kind == "category":
                return False
            times = self.times
            seen = None if times is None else times[self.sample]
            first = _one_order(self.y[self.sample], self.sampled[column.name], seen)
            return first and _one_order(self.y, self.column(column.name), times)
        first = _relabelled(self.y[self.sample], self.sampled[column.name])
        return first and _relabelled(self.y, self.column(column.name))


def as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Return float64 of shape (n_rows,), NaN where missing; of texts, codes without an order."""
    kind = column.type
    if pa.types.is_string(kind):
        codes = pd.factorize(column.to_pandas())[0]
        return np.where(codes < 0, np.nan, codes)
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def tells(y: np.ndarray) -> bool:
    """Tell whether so many rows, and so many that differ, can be no coincidence."""
    if len(y) < MIN_ROWS:
        return False
    _, counts = np.unique(y, return_counts=True)
    return bool(len(y) - counts.max() >= MIN_VARIED)


def _one_order(y: np.ndarray, x: np.ndarray, times: np.ndarray | None) -> bool:
    """Tell whether a number rises or falls with the target, step by step and without exception.

    Scaling, shifting, logarithms and the like change nothing in that.
    """
    known = np.isfinite(x)
    y, x = y[known], x[known]
    if not tells(y):
        return False
    order = np.argsort(x, kind="stable")
    rise, step = np.diff(y[order]) / np.ptp(y), np.diff(x[order]) / (np.ptp(x) or 1.0)
    slack = 1e-9
    if not ((rise >= -slack).all() or (rise <= slack).all()):
        return False
    # The same ties, but for a few that rounding made.
    steps = np.abs(rise) > slack
    if (steps != (step > slack)).sum() > 0.01 * steps.sum():
        return False
    if times is not None and _steady(y, times[known]):
        # What only ever grows goes along with everything else that does. A line is no accident.
        line = np.polyval(np.polyfit(x, y, 1), x)
        return bool(np.abs(line - y).max() <= ROUNDING * np.ptp(y))
    return True


def _steady(y: np.ndarray, times: np.ndarray) -> bool:
    rise = np.diff(y[np.argsort(times, kind="stable")])
    return bool((rise >= 0).all() or (rise <= 0).all())


def _relabelled(y: np.ndarray, x: np.ndarray) -> bool:
    """Tell whether each class has one value of its own."""
    known = ~np.isnan(x)
    y, x = y[known], x[known]
    if not tells(y) or len(np.unique(y)) < 2:
        return False
    frame = pd.DataFrame({"y": y, "x": x})
    return frame["y"].nunique() == frame["x"].nunique() == len(frame.drop_duplicates())
