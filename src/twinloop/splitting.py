"""Splitting: folds that never look ahead, and a holdout after all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from twinloop.errors import EmptyWindowError, TargetError
from twinloop.tables import mix
from twinloop.workload import Workload

_MIN_ROWS = 20


@dataclass(frozen=True)
class Split:
    """Row numbers of one training.

    Attributes
    ----------
    train : np.ndarray of int64
        Rows that folds are made of.
    folds : tuple of (train, valid) pairs of np.ndarray of int64
        Within `train`.
    holdout : np.ndarray of int64
        Rows for the final score; with time, all later than every row of `train`.
    description
        One line a person can read.
    """

    train: np.ndarray
    folds: tuple[tuple[np.ndarray, np.ndarray], ...]
    holdout: np.ndarray
    description: str


def split_rows(
    workload: Workload,
    n_rows: int,
    *,
    times: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    identity: np.ndarray | None = None,
) -> Split:
    """Divide rows as the workload says.

    Without time, a row's place in the holdout hangs on its own identity (with groups: its group's)
    and the seed alone. So it stays there when the table grows, equal rows never straddle, and what
    one version's holdout never showed to it is just as unseen to the next.

    Parameters
    ----------
    workload
        Kind of split, folds, gap, holdout and seed.
    n_rows
        How many rows there are.
    times : np.ndarray of int64, shape (n_rows,), or None
        Microseconds since 1970, UTC.
    classes : np.ndarray of int64, shape (n_rows,), or None
        Codes of the target's classes; None for regression.
    groups : np.ndarray, shape (n_rows,), or None
    identity : np.ndarray of uint64, shape (n_rows,), or None
        Hashes that stand for the rows; None: their numbers.

    Raises
    ------
    EmptyWindowError
        If there are too few rows for what was asked.
    """
    if n_rows < _MIN_ROWS:
        raise EmptyWindowError(
            f"{n_rows} rows are too few to train on; at least {_MIN_ROWS} needed."
        )
    if workload.split == "time":
        assert times is not None  # noqa: S101 - the workload was validated
        return _by_time(workload, times)
    return _by_chance(workload, n_rows, classes, groups, identity)


def _by_time(workload: Workload, times: np.ndarray) -> Split:
    """Cut at instants, so that rows of one instant stay together."""
    training = workload.training
    first, last = int(times.min()), int(times.max())
    if isinstance(training.holdout, timedelta):
        cut = last + 1 - _micros(training.holdout)
    else:
        cut = last + 1 - int((last + 1 - first) * training.holdout)
    gap = _micros(training.gap)
    train = np.flatnonzero(times < cut - gap)
    holdout = np.flatnonzero(times >= cut)
    if len(train) < training.folds + 1 or len(holdout) == 0:
        raise EmptyWindowError(
            f"{len(times)} rows leave {len(train)} to train on before the holdout "
            f"and {len(holdout)} in it.",
            "Widen training.window or shorten training.holdout and training.gap.",
        )
    folds = tuple(_expanding(times, train, training.folds, gap))
    if not folds:
        raise EmptyWindowError(
            f"no fold of {training.folds} has rows on both sides of a gap of {training.gap}.",
            "Shorten training.gap or take fewer folds.",
        )
    about = (
        f"time: {len(folds)} expanding folds, gap {training.gap}, "
        f"holdout the last {len(holdout)} of {len(times)} rows"
    )
    return Split(train, folds, holdout, about)


def _expanding(
    times: np.ndarray, train: np.ndarray, n_folds: int, gap: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Validate on each of the last `n_folds` equal shares of the rows, train on all before it."""
    ordered = np.sort(times[train])
    bounds = [int(ordered[len(ordered) * k // (n_folds + 1)]) for k in range(1, n_folds + 1)]
    bounds.append(int(ordered[-1]) + 1)
    for start, end in pairwise(bounds):
        fitted = train[times[train] < start - gap]
        valid = train[(times[train] >= start) & (times[train] < end)]
        if len(fitted) and len(valid):
            yield fitted, valid


def _by_chance(
    workload: Workload,
    n_rows: int,
    classes: np.ndarray | None,
    groups: np.ndarray | None,
    identity: np.ndarray | None,
) -> Split:
    training = workload.training
    rows = np.arange(n_rows)
    share = training.holdout
    assert isinstance(share, float)  # noqa: S101 - the workload was validated
    kind = workload.split
    if kind == "group":
        identity = pd.util.hash_array(np.asarray(groups, object))
    held = _draw(rows if identity is None else identity, share, workload.seed)
    train, holdout = rows[~held], rows[held]
    label = np.zeros(n_rows) if classes is None else classes
    if kind == "stratified" and classes is not None:
        _enough_of_each(classes, train, training.folds, workload.target)
    if len(holdout) == 0 or len(train) <= training.folds:
        raise EmptyWindowError(
            f"{n_rows} rows leave {len(train)} to train on and {len(holdout)} for the holdout.",
            "Change training.holdout.",
        )
    inner = None if groups is None else groups[train]
    folds = tuple(
        (train[a], train[b])
        for a, b in _cross(kind, train, label[train], inner, training.folds, workload.seed)
    )
    about = f"{kind}: {len(folds)} folds, holdout {len(holdout)} of {n_rows} rows"
    return Split(train, folds, holdout, about)


def _draw(identity: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mark a share of the rows by their identity and the seed: bool, shape (n_rows,)."""
    salted = np.asarray(identity, np.uint64) ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    held: np.ndarray = mix(salted) < np.uint64(int(share * (2**64 - 1)))
    return held


def _cross(
    kind: str,
    rows: np.ndarray,
    label: np.ndarray,
    groups: np.ndarray | None,
    n_folds: int,
    seed: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    if kind == "group":
        assert groups is not None  # noqa: S101 - the workload was validated
        n_groups = len(np.unique(groups))
        if n_groups < n_folds:
            raise EmptyWindowError(f"{n_groups} groups are too few for {n_folds} folds.")
        return iter(GroupKFold(n_folds, shuffle=True, random_state=seed).split(rows, label, groups))
    if kind == "stratified":
        return iter(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(rows, label))
    return iter(KFold(n_folds, shuffle=True, random_state=seed).split(rows))


def _enough_of_each(classes: np.ndarray, train: np.ndarray, needed: int, target: str) -> None:
    # A class whose rows all lie in the holdout counts too: with 0.
    values, codes = np.unique(classes, return_inverse=True)
    counts = np.bincount(codes[train], minlength=len(values))
    if counts.min() < needed:
        raise TargetError(
            f"class number {values[counts.argmin()]} of target {target!r} has {counts.min()} rows "
            f"outside the holdout; stratified folds need {needed}.",
            "Take fewer folds, or leave the class out.",
        )


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
