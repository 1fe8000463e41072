"""Learning curve: what more rows bring, from the winner fitted on parts of the folds."""

from dataclasses import replace

import numpy as np

from twinloop.results import CandidateResult
from twinloop.splitting import Split
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

# Halving: a curve is read on a logarithmic axis, and all parts together cost less than the whole.
SHARES = (0.125, 0.25, 0.5)
_FEWEST_ROWS = 20


class CurvePoint(Frozen):
    """The winner cross-validated with a share of each fold's fitted rows.

    Attributes
    ----------
    overlap
        Validation rows to one fitted row in whole folds. Parts share no more rows than wholes do;
        by their own ratio the fewest rows would have an interval beyond all reason.
    """

    share: float
    result: CandidateResult
    overlap: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over folds."""
        return self.result.interval_at(self.overlap)

    @property
    def rows(self) -> float:
        """Fitted rows of a fold, on average."""
        folds = self.result.folds
        return sum(f.train_rows for f in folds) / len(folds)


def affordable(result: CandidateResult, spent: float, workload: Workload) -> bool:
    """Tell whether the budget has room for the curve.

    Parameters
    ----------
    result
        Cross-validation of the winner: what it took, in seconds, tells what the curve takes.
    spent
        Seconds used so far.
    workload
        Holds the budget.
    """
    needed = sum(SHARES) * result.fit_seconds + len(SHARES) * result.predict_seconds
    return spent + needed <= 60 * workload.training.budget.minutes


def part_of_folds(
    split: Split,
    share: float,
    *,
    times: np.ndarray | None,
    groups: np.ndarray | None,
    seed: int,
) -> Split:
    """Return the split with a share of each fold's fitted rows; what is held out stays.

    With time the latest rows are kept, with groups whole groups, else rows drawn by the seed. A
    smaller share is part of a larger one.

    Parameters
    ----------
    split
        Of all rows.
    share
        Above 0, up to 1. Twenty rows are kept at least.
    times : np.ndarray of int64, shape (n_rows,), or None
        Of all rows, microseconds since 1970.
    groups : np.ndarray, shape (n_rows,), or None
        Of all rows.
    seed
        Of the draw.
    """
    folds = tuple((_part(train, share, times, groups, seed), valid) for train, valid in split.folds)
    return replace(split, folds=folds)


def _part(
    train: np.ndarray,
    share: float,
    times: np.ndarray | None,
    groups: np.ndarray | None,
    seed: int,
) -> np.ndarray:
    rank = np.random.default_rng(seed).permutation(len(train))
    if times is not None:
        rank = -times[train]
    elif groups is not None:
        _, at = np.unique(groups[train], return_inverse=True)
        rank = np.random.default_rng(seed).permutation(int(at.max()) + 1)[at]
    n_rows = min(len(train), max(_FEWEST_ROWS, int(len(train) * share)))
    chosen = np.argsort(rank, kind="stable")[:n_rows]
    # Rows of one group, or of one instant, stay together.
    last = rank[chosen[-1]]
    return train[rank <= last]
