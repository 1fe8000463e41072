"""Histories: how far back a retraining reaches and how fast rows age, chosen on the newest rows.

What is recent is like what comes; what is long is more. Which counts for more differs by table and
changes with time, so the choice is a part of retraining. It is made as candidates are compared: the
champion's recipe is fitted on each history before some stretches of time, and asked about these.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Self

import numpy as np

from twinloop.refresh import History
from twinloop.vocabulary import Frozen

# Shares of the workload's window.
_SHARES = (0.25, 0.5, 1.0, 2.0)
# A history that is to count as longer has so much more than the window.
_LONGER = 1.2
# Of the longest: as many halvings as make its weighted rows about half a window.
_HALVINGS = 6
STRETCHES = 3
# Days of one stretch hang together; a third of it is what differences are averaged over.
_PARTS = 3


def longest_history(window: timedelta) -> timedelta:
    """Return the longest that is ever tried."""
    return window * max(_SHARES)


def histories(window: timedelta, available: timedelta) -> tuple[History, ...]:
    """Return the histories to compare, the workload's own first.

    Parts of the window, the window, twice as much or what there is of it, and the longest of them
    by age: each row half as much as one a sixth of the history newer.

    Parameters
    ----------
    window
        The workload's own.
    available
        From the first row there is to the first stretch that is asked about.
    """
    own = History(span=window)
    spans = [_whole(window * share) for share in _SHARES if share < 1]
    found = [own, *(History(span=span) for span in spans if span < available)]
    longest = min(longest_history(window), _floor(available))
    if longest >= window * _LONGER:
        found.append(History(span=longest))
        found.append(History(span=longest, half_life=_whole(longest / _HALVINGS)))
    return tuple(found)


def _whole(span: timedelta) -> timedelta:
    """Round to days, where there are any."""
    day = timedelta(days=1)
    return max(round(span / day), 1) * day if span >= day else span


def _floor(span: timedelta) -> timedelta:
    day = timedelta(days=1)
    return span // day * day if span >= day else span


class Compared(Frozen):
    """One history on the rows that all were asked about.

    Attributes
    ----------
    history
        Which rows were fitted.
    error
        Mean loss of a row, the loss that `twinloop.evaluation.watched_metric` follows.
    gain, standard_error
        Loss of a row that it saves beside the workload's own window, and how sure that is; 0 of the
        window itself.
    rows
        Fitted in the last stretch.
    cpu_seconds
        Of its fits.
    """

    history: History
    error: float
    gain: float
    standard_error: float
    rows: int
    cpu_seconds: float

    @classmethod
    def of(
        cls,
        history: History,
        losses: np.ndarray,
        own: np.ndarray,
        groups: np.ndarray,
        rows: int,
        cpu_seconds: float,
    ) -> Self:
        """Compare a history with the workload's own window.

        Parameters
        ----------
        losses, own : np.ndarray of float64, shape (n_rows,)
            Of the rows asked about, by the model of this history and by that of the window.
        groups : np.ndarray of int64, shape (n_rows,)
            Neighbours that hang together; see `stretch_groups`.
        """
        gains = own - losses
        _, at = np.unique(groups, return_inverse=True)
        means = np.bincount(at, gains) / np.bincount(at)
        error = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.inf
        return cls(
            history=history,
            error=float(losses.mean()),
            gain=float(gains.mean()),
            standard_error=error,
            rows=rows,
            cpu_seconds=cpu_seconds,
        )

    @property
    def clear(self) -> bool:
        """Whether it saves more than one standard error of what it saves."""
        return self.gain > self.standard_error


def stretch_groups(times: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Put rows into groups of neighbours: a third of a stretch each.

    Parameters
    ----------
    times : np.ndarray of int64, shape (n_rows,)
        Microseconds since 1970.
    bounds
        Where stretches begin, and where the last one ends.

    Returns
    -------
    np.ndarray of int64, shape (n_rows,)
    """
    edges = np.concatenate([np.linspace(a, b, _PARTS + 1)[:-1] for a, b in pairwise(bounds)])
    return np.searchsorted(edges, times, side="right")


def choose(compared: Sequence[Compared]) -> History:
    """Choose the history with the least loss where that is clear, else the workload's own.

    Clear is more than one standard error of the paired differences. More caution cost more than it
    saved: see ``docs/adr/0011-retraining.md``.

    Parameters
    ----------
    compared
        The workload's own window first.
    """
    best = min(compared, key=lambda c: c.error)
    return best.history if best.clear else compared[0].history


def choice_words(compared: Sequence[Compared]) -> str:
    """Say what was chosen and why."""
    chosen, own = choose(compared), compared[0]
    best = min(compared, key=lambda c: c.error)
    if best is own:
        return f"{own.history.words}: none of {len(compared) - 1} others did better"
    share = best.gain / own.error if own.error else 0.0
    how = f"{best.history.words} saves {share:.1%} of the loss of {own.history.words}"
    spread = f"standard error {best.standard_error / own.error:.1%}" if own.error else "no error"
    why = "chosen" if chosen == best.history else "not clear, so the window stays"
    return f"{chosen.words}: {how}, {spread}: {why}"
