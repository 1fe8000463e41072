"""Nearness: least squares on how near rows are to landmarks, with rows left out one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# So many rows are all landmarks. Of more rows some stand for all (Nystroem's method: Williams and
# Seeger 2001), as many as so many products allow, but not fewer than the other number.
_ALL_LANDMARKS, _FEWEST_LANDMARKS = 2000, 400
_PRODUCTS = 4e9
# Directions that say less, beside the one that says most, are rounding.
ROUNDING = 1e-10
CHUNK = 2048


def landmarks_for(n_rows: int) -> int:
    """Return how many of so many rows stand for all."""
    if n_rows <= _ALL_LANDMARKS:
        return n_rows
    return max(_FEWEST_LANDMARKS, int(np.sqrt(_PRODUCTS / n_rows)))


@dataclass(frozen=True)
class FitRows:
    """Rows to fit, their targets about the mean, and how much each counts.

    Attributes
    ----------
    X : np.ndarray of float64, shape (n_rows, n_columns)
    targets : np.ndarray of float64, shape (n_rows, n_outputs)
    weight : np.ndarray of float64, shape (n_rows,)
    """

    X: np.ndarray
    targets: np.ndarray
    weight: np.ndarray

    def take(self, at: np.ndarray) -> "FitRows":
        """Return some of the rows."""
        return FitRows(self.X[at], self.targets[at], self.weight[at])


@dataclass(frozen=True)
class NearFit:
    """Least squares with every ridge there is, and what each says of rows that it leaves out.

    Attributes
    ----------
    judged
        Rows that are left out one at a time.
    directions
        From nearness to directions that have nothing to do with each other, of these lengths.
    along
        The judged rows in these directions.
    pull
        Of the targets in them.
    """

    landmarks: np.ndarray
    judged: FitRows
    directions: np.ndarray
    lengths: np.ndarray
    along: np.ndarray
    pull: np.ndarray

    @classmethod
    def of_all(cls, rows: FitRows, scale: np.ndarray, gamma: float) -> "NearFit":
        """Fit rows by nearness to all of them: one decomposition instead of two."""
        landmarks, root = rows.X / scale, np.sqrt(rows.weight)
        lengths, turn = np.linalg.eigh(root[:, None] * nearness(landmarks, landmarks, gamma) * root)
        kept = lengths > ROUNDING * lengths[-1]
        lengths, turn, sizes = lengths[kept], turn[:, kept], np.sqrt(lengths[kept])
        directions, along = root[:, None] * turn / sizes, turn * sizes / root[:, None]
        pull = sizes[:, None] * (turn.T @ (root[:, None] * rows.targets))
        return cls(landmarks, rows, directions, lengths, along, pull)

    @classmethod
    def of(
        cls,
        rows: FitRows,
        scale: np.ndarray,
        gamma: float,
        marks: np.ndarray,
        judged: np.ndarray,
    ) -> "NearFit":
        """Fit rows by nearness to marks, for some of them to be judged."""
        landmarks = marks / scale
        lengths, turn = np.linalg.eigh(nearness(landmarks, landmarks, gamma))
        kept = lengths > ROUNDING * lengths[-1]
        root = turn[:, kept] / np.sqrt(lengths[kept])
        gram: np.ndarray | float = 0.0
        pull: np.ndarray | float = 0.0
        for i in range(0, len(rows.X), CHUNK):
            part = rows.take(np.arange(i, min(i + CHUNK, len(rows.X))))
            features = nearness(part.X / scale, landmarks, gamma) @ root
            weighed = features * part.weight[:, None]
            gram = gram + features.T @ weighed
            pull = pull + weighed.T @ part.targets
        lengths, turn = np.linalg.eigh(gram)
        directions = root @ turn
        seen = rows.take(judged)
        along = nearness(seen.X / scale, landmarks, gamma) @ directions
        return cls(landmarks, seen, directions, np.maximum(lengths, 0.0), along, turn.T @ pull)

    def left_out(self, ridges: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Yield each ridge, and what it says of each judged row without having fitted it."""
        squares = self.along**2
        for ridge in ridges:
            kept = 1 / (self.lengths + ridge)
            said = self.along @ (kept[:, None] * self.pull)
            own = self.judged.weight * (squares @ kept)
            error = (self.judged.targets - said) / np.maximum(1 - own, ROUNDING)[:, None]
            yield float(ridge), self.judged.targets - error

    def coefficients(self, ridge: float) -> np.ndarray:
        """Return the coefficients of nearness: shape (n_landmarks, n_outputs)."""
        found: np.ndarray = self.directions @ (self.pull / (self.lengths + ridge)[:, None])
        return found


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return squared distances: shape (n_rows of one, n_rows of the other)."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.maximum(squares, 0.0)


def nearness(one: np.ndarray, other: np.ndarray, gamma: float) -> np.ndarray:
    """Return how near rows are, 1 where they are alike: shape as of `distances`."""
    near: np.ndarray = np.exp(-gamma * distances(one, other))
    return near
