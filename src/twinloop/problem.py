"""The problem: what an estimator must know before it sees rows, and of the rows besides them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinloop.encoding import Encoding
from twinloop.vocabulary import Task


@dataclass(frozen=True)
class Problem:
    """What an estimator must know before it sees rows.

    Attributes
    ----------
    edges : np.ndarray of float32, shape (n, n_features), or None
        Values that XGBoost's trees may split at, column by column (see `twinloop.edges`); None:
        they come from the rows fitted.
    rounds
        How many trees a booster grows; None: as many as do good.
    gap
        Microseconds left out between rows learned from and rows that stop boosting, by time.
    params
        Settings of the estimator that are not the shipped ones, by name (see
        `twinloop.search_space`).
    """

    task: Task
    n_classes: int
    metric: str
    seed: int
    threads: int
    edges: np.ndarray | None = None
    rounds: int | None = None
    gap: int = 0
    params: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """What is known of fitted rows besides features and target; each may be None.

    Attributes
    ----------
    weight : np.ndarray of float64, shape (n_rows,)
        How much each counts.
    times : np.ndarray of int64, shape (n_rows,)
        Microseconds since 1970.
    groups : np.ndarray of int64, shape (n_rows,)
        Codes of groups.
    """

    weight: np.ndarray | None = None
    times: np.ndarray | None = None
    groups: np.ndarray | None = None

    def weight_of(self, places: np.ndarray) -> np.ndarray | None:
        """Return the weights of some rows, if there are any."""
        return None if self.weight is None else self.weight[places]

    def take(self, places: np.ndarray) -> "Rows":
        """Return what is known of some rows, in this order."""
        known = self.weight, self.times, self.groups
        return Rows(*(None if v is None else v[places] for v in known))


# Makes an unfitted estimator of the user's own.
Make = Callable[[Encoding, Problem], Any]
