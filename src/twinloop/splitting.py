"""Splitting: folds that never look ahead, and a holdout after all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from twinloop.digest import mix
from twinloop.errors import EmptyWindowError, TargetError
from twinloop.window import format_duration
from twinloop.workload import Workload

_MIN_ROWS = 20


@dataclass(frozen=True)
class Split:
    """Row numbers of one training.

    Attributes
    ----------
    train : np.ndarray of int64
        Rows that the model which the holdout judges is fitted on.
    folds : tuple of (train, valid) pairs of np.ndarray of int64
        None of their rows lies in the holdout, nor with time after it began. Repeated folds follow
        one another, all of the first draw first; within a draw no row is validated twice.
    holdout : np.ndarray of int64
        Rows for the final score; with time, all later than every row of `train`.
    served : np.ndarray of int64
        Rows that the model to serve is fitted on where it is fitted again: all there are, or as
        many of the last as a rolling fold takes.
    description
        One line a person can read.
    """

    train: np.ndarray
    folds: tuple[tuple[np.ndarray, np.ndarray], ...]
    holdout: np.ndarray
    served: np.ndarray
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

    With time and groups both hold: of the rows after a cut, those of groups that were trained on
    are left out. The other way round (training without the groups of the rows after the cut) what
    a model is fitted on would hang on who turns up later, which nobody knows at the time.

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
        return _by_time(workload, times, groups)
    return _by_chance(workload, n_rows, classes, groups, identity)


def _by_time(workload: Workload, times: np.ndarray, groups: np.ndarray | None) -> Split:
    """Cut at instants, so that rows of one instant stay together."""
    training = workload.training
    first, last = int(times.min()), int(times.max())
    if isinstance(training.holdout, timedelta):
        cut = last + 1 - _micros(training.holdout)
    else:
        cut = last + 1 - int((last + 1 - first) * training.holdout)
    gap = _micros(training.gap)
    before, after = np.flatnonzero(times < cut - gap), np.flatnonzero(times >= cut)
    train = _latest(before, times, cut - gap, training.rolling)
    if len(before) < training.folds + 1 or len(train) == 0 or len(after) == 0:
        raise EmptyWindowError(
            f"{len(times)} rows leave {len(train)} to train on before the holdout "
            f"and {len(after)} in it.",
            "Widen training.window or shorten training.holdout and training.gap.",
        )
    # Even a group that a rolling window has left behind had its say in the choice of the winner.
    holdout = _strangers(after, before, groups)
    if len(holdout) == 0:
        raise _no_strangers(workload, f"none of the {len(after)} rows of the holdout")
    folds = _folds_by_time(workload, times, before, gap, groups)
    about = _about_time(workload, len(folds))
    rest = f"the last {len(holdout)} of {len(times)} rows"
    if groups is not None:
        rest = f"{len(holdout)} of the last {len(after)} of {len(times)} rows"
    served = _latest(np.arange(len(times)), times, last + 1, training.rolling)
    return Split(train, folds, holdout, served, f"{about}, holdout {rest}")


def _folds_by_time(
    workload: Workload, times: np.ndarray, rows: np.ndarray, gap: int, groups: np.ndarray | None
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Validate on equal shares of the later rows, train on those a gap before each."""
    training = workload.training
    pairs = []
    for start, end in pairwise(_bounds(np.sort(times[rows]), workload, gap)):
        fitted = _latest(rows[times[rows] < start - gap], times, start - gap, training.rolling)
        within = rows[(times[rows] >= start) & (times[rows] < end)]
        if len(fitted) and len(within):
            pairs.append((fitted, within))
    if not pairs:
        span = training.rolling
        where = f"after {format_duration(span)} and" if span else "on both sides of"
        raise EmptyWindowError(
            f"no fold of {training.folds} has rows {where} a gap of {training.gap}.",
            "Shorten training.gap or training.rolling, or take fewer folds.",
        )
    apart = ((fitted, _strangers(within, fitted, groups)) for fitted, within in pairs)
    folds = tuple((fitted, valid) for fitted, valid in apart if len(valid))
    if not folds:
        raise _no_strangers(workload, f"no row that {len(pairs)} folds could validate on")
    return folds


def _bounds(ordered: np.ndarray, workload: Workload, gap: int) -> list[int]:
    """Return where folds by time begin, and where the last one ends.

    Expanding folds leave the first share of the rows to train on; rolling ones begin where a whole
    window lies before them, so that all are fitted on equally long ones.
    """
    n_folds, rolling = workload.training.folds, workload.training.rolling
    if rolling is None:
        starts = [ordered[len(ordered) * k // (n_folds + 1)] for k in range(1, n_folds + 1)]
    else:
        late = ordered[ordered >= ordered[0] + _micros(rolling) + gap]
        starts = [late[len(late) * k // n_folds] for k in range(n_folds)] if len(late) else []
    return [int(s) for s in starts] + [int(ordered[-1]) + 1]


def _latest(rows: np.ndarray, times: np.ndarray, end: int, span: timedelta | None) -> np.ndarray:
    """Return the rows, all before an instant, that lie no more than a span before it."""
    return rows if span is None else rows[times[rows] >= end - _micros(span)]


def _strangers(rows: np.ndarray, fitted: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return the rows whose group is not among those fitted on."""
    if groups is None:
        return rows
    return rows[~pd.Series(groups[rows]).isin(groups[fitted]).to_numpy()]


def _no_strangers(workload: Workload, what: str) -> EmptyWindowError:
    return EmptyWindowError(
        f"{what} is of a group {workload.group!r} that was not trained on: all go on over time.",
        "If the model is to predict groups it knows, list the column under 'ignore', not 'group'.",
    )


def _about_time(workload: Workload, n_folds: int) -> str:
    span, gap = workload.training.rolling, format_duration(workload.training.gap)
    kind = f"rolling folds of {format_duration(span)}" if span else "expanding folds"
    name = "time" if workload.group is None else f"time, groups of {workload.group!r} apart"
    return f"{name}: {n_folds} {kind}, gap {gap}"


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
        for draw in range(training.repeats)
        for a, b in _cross(
            kind, train, label[train], inner, training.folds, (workload.seed + draw) % 2**32
        )
    )
    name = kind if workload.group is None else f"{kind} of {workload.group!r}"
    often = f" drawn {training.repeats} times" if training.repeats > 1 else ""
    about = f"{name}: {training.folds} folds{often}, holdout {len(holdout)} of {n_rows} rows"
    return Split(train, folds, holdout, rows, about)


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
            f"class {counts.argmin() + 1} of {len(values)} by name, of target {target!r}, has "
            f"{counts.min()} rows outside the holdout; stratified folds need {needed}.",
            "Take fewer folds, or leave the class out.",
        )


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
