"""Patience: how long an answer of the past holds, and how long what was asked in vain waits."""

from datetime import timedelta

# One choice serves so much of a window: by then as many of its rows are others.
_KEPT = 1 / 3
# Without a window no time is long; after so many doublings nobody will ask again anyway.
_DOUBLINGS = 10


def kept_for(window: timedelta) -> timedelta:
    """Return how long a choice is kept before it is made anew, in days where it takes any."""
    kept, day = window * _KEPT, timedelta(days=1)
    return round(kept / day) * day if kept >= day else kept


def doubled(first: timedelta, times: int) -> timedelta:
    """Return a wait that doubles each time, and stays a time that can be counted."""
    return first * 2 ** min(times, _DOUBLINGS)


def wait_to_ask(first: timedelta, idle: int, window: timedelta | None) -> timedelta:
    """Return how long new labels alone wait: twice as long after each time they asked in vain.

    A table that does not change would be asked for ever, and one that changes says so by harm or by
    drift, which wait for none of this. A choice is kept no longer than for a third of the window,
    and so is the answer that no other model was better.

    Parameters
    ----------
    first
        ``retraining.probe_after``.
    idle
        How often they asked in vain.
    window
        Of training; None: all rows, so that the wait doubles as they do.
    """
    wait = doubled(first, idle)
    return wait if window is None else min(wait, max(first, kept_for(window)))
