"""Tempering: candidates' probabilities as calibrated as rows outside the fit can make them.

A candidate may rank well and yet say too much or too little: its log loss is then that of its
confidence, not of what it knows. So before candidates are compared or averaged, each has its
probabilities raised to a power (its temperature is 1 / power; Guo et al. 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import log_softmax

from twinloop.calibration import Calibration, drawn_in, is_better, log_losses
from twinloop.row_order import evenly
from twinloop.workload import Workload

# Steps of an eighth: nearer to the best power a row's loss changes by a thousandth of itself.
_POWERS = np.exp(np.linspace(-3, 3, 48))
# One number is as good from so many rows as from more.
_MOST_ROWS = 10_000
# Metrics that read probabilities as such; others look at their order, or at the likeliest class.
_READ = frozenset({"log_loss", "brier"})


def tempers(workload: Workload) -> bool:
    """Tell whether candidates are judged by calibrated probabilities."""
    return workload.metric in _READ and workload.training.calibration == "auto"


def raised(probability: np.ndarray, power: float) -> np.ndarray:
    """Return probabilities raised to a power, summing to 1; a power of 1 leaves them as they are.

    Parameters
    ----------
    probability : np.ndarray of float64, shape (n_rows, n_classes)
    power
        Above 0. Above 1 they get surer, below less sure.
    """
    if power == 1.0:
        return probability
    return Calibration(method="temperature", slope=power).apply(probability)


def best_power(probability: np.ndarray, y: np.ndarray) -> float:
    """Return the power that saves most log loss, or 1.

    It is one of 48. It is taken only where it saves more than one standard error of what it saves
    a row; being fitted on the rows it is judged by, it saves as much by luck in one of twenty.

    Parameters
    ----------
    probability : np.ndarray of float64, shape (n_rows, n_classes)
        What a model that had not seen these rows said of them.
    y : np.ndarray of int64, shape (n_rows,)
        Codes of the true classes; rows of unknown ones, below 0, are left out.
    """
    known = np.flatnonzero(y >= 0)
    known = known[evenly(len(known), _MOST_ROWS)]
    return _best(*_losses(probability[known], y[known]))


def _losses(probability: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's log loss as it is, and with each power: (n_rows,), (n_rows, n_powers)."""
    logs, rows = np.log(drawn_in(probability)), np.arange(len(y))
    losses = [-log_softmax(power * logs, axis=1)[rows, y] for power in _POWERS]
    return log_losses(probability, y), np.stack(losses, axis=1)


def _best(plain: np.ndarray, losses: np.ndarray) -> float:
    if len(plain) == 0:
        return 1.0
    at = int(losses.mean(axis=0).argmin())
    return float(_POWERS[at]) if is_better(losses[:, at], plain) else 1.0


@dataclass(frozen=True)
class Unseen:
    """What the model of a fold said of rows it was not fitted on.

    Attributes
    ----------
    rows : np.ndarray of int64, shape (n_rows,)
        Their places.
    probability : np.ndarray of float64, shape (n_rows, n_classes)
    y : np.ndarray of int64, shape (n_rows,)
        Codes of the true classes.
    """

    rows: np.ndarray
    probability: np.ndarray
    y: np.ndarray

    def known(self, most: int) -> Self:
        """Return rows of known classes: some of them, spread evenly."""
        at = np.flatnonzero(self.y >= 0)
        at = at[evenly(len(at), most)]
        return replace(self, rows=self.rows[at], probability=self.probability[at], y=self.y[at])


def powers_of(folds: Sequence[Unseen], *, ordered: bool) -> tuple[tuple[float, ...], float]:
    """Return a power for each fold that knows nothing of its rows, and the power of all folds.

    That of a fold is fitted on the others, by time on earlier ones, never on a row that the fold
    holds, which repeated folds share; without any it is 1.

    Parameters
    ----------
    folds
        In the order of the split.
    ordered
        Whether folds follow each other in time.
    """
    cap = max(1, _MOST_ROWS // len(folds))
    some = [fold.known(cap) for fold in folds]
    rows = np.concatenate([fold.rows for fold in some])
    number = np.repeat(np.arange(len(some)), [len(fold.rows) for fold in some])
    plain, losses = _losses(
        np.concatenate([fold.probability for fold in some]),
        np.concatenate([fold.y for fold in some]),
    )
    powers = []
    for i, fold in enumerate(folds):
        others = (number < i if ordered else number != i) & ~np.isin(rows, fold.rows)
        powers.append(_best(plain[others], losses[others]))
    return tuple(powers), _best(plain, losses)
