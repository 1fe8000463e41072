"""Blend: fitted members that answer together, by a weighted mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from twinloop.tempering import raised


class Predicts(Protocol):
    """What a member can be: anything that predicts encoded rows."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict rows: float32, shape (n_rows, n_features)."""


M = TypeVar("M", bound=Predicts)


@dataclass(frozen=True)
class Blend(Generic[M]):
    """Members on one encoding, and how much each counts.

    Attributes
    ----------
    names, members, weights
        As many of each; weights are above 0 and sum to 1.
    floor
        What members say below it counts as it; None: all counts as said. Of a target learned as its
        logarithm it is 0, since no member's answer is published below.
    powers
        What each member's probabilities are raised to (`twinloop.tempering.raised`); none: they are
        left as they are, and so they are by a power of 1.
    """

    names: tuple[str, ...]
    members: tuple[M, ...]
    weights: tuple[float, ...]
    floor: float | None = None
    powers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        total, positive = sum(self.weights), all(w > 0 for w in self.weights)
        same = len(self.names) == len(self.members) == len(self.weights)
        if not (same and positive and abs(total - 1) < 1e-9):
            raise ValueError(
                f"members {self.names!r} with weights {self.weights!r}: expected as many of both, "
                "each weight above 0 and 1 in all"
            )
        fits = len(self.powers) == len(self.members) and all(p > 0 for p in self.powers)
        if self.powers and not fits:
            raise ValueError(f"powers {self.powers!r}: expected one above 0 for each member")

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the weighted mean of what members predict, added up in their order.

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)

        Returns
        -------
        np.ndarray of float64
            Shape (n_rows,) for regression, (n_rows, n_classes) of probabilities otherwise.
        """
        # One after the other: a sum in a fixed order has the same last bits wherever it is made.
        total: np.ndarray | float = 0.0
        powers = self.powers or (1.0,) * len(self.members)
        for weight, power, member in zip(self.weights, powers, self.members, strict=True):
            said = raised(member.predict(X), power)
            total = total + weight * (said if self.floor is None else np.maximum(said, self.floor))
        return np.asarray(total)

    def importance(self, of: Callable[[M], np.ndarray]) -> np.ndarray:
        """Return the weighted mean of the members' importance, as a function gives it."""
        shares = [w * of(member) for w, member in zip(self.weights, self.members, strict=True)]
        return np.sum(shares, axis=0)
