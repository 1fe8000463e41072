"""Weighting: how much each fitted row counts."""

from datetime import timedelta

import numpy as np

from twinloop.workload import Workload

# An older row would count for nothing at all, and rows of no weight upset estimators.
_MOST_HALVES = 30.0


def row_weights(
    y: np.ndarray,
    times: np.ndarray | None,
    n_classes: int,
    workload: Workload,
    half_life: timedelta | None = None,
) -> np.ndarray | None:
    """Return the weights of fitted rows, or None where all count alike.

    A row that is one half-life older than the newest weighs half as much, ``0.5 ** (age /
    half_life)``. Where classes are balanced, the weights of each class then have the same sum.

    Parameters
    ----------
    y : np.ndarray, shape (n_rows,)
        Targets: numbers, or codes of classes.
    times : np.ndarray of int64, shape (n_rows,), or None
        Microseconds since 1970.
    n_classes
        0 for regression.
    workload
        Says whether rows age and classes are balanced.
    half_life
        In place of the workload's.

    Returns
    -------
    np.ndarray of float64, shape (n_rows,), or None
        Above 0, with mean 1: penalties and least weights of leaves mean what they mean without.
    """
    half_life = half_life or workload.training.half_life
    weight = np.ones(len(y))
    if half_life is not None and times is not None:
        ages = (times.max() - times) / (half_life.total_seconds() * 1e6)
        weight = 0.5 ** np.minimum(ages, _MOST_HALVES)
    elif not (n_classes and workload.balances):
        return None
    if n_classes and workload.balances:
        sums = np.bincount(y, weight, minlength=n_classes)
        weight = weight / sums[y]
    return weight / weight.mean()
