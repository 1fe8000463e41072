"""Out of fold: predictions of rows by models that were fitted without them, and their files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from twinloop.scorer import Predictions

# Within the folder of a candidate: what it says of rows it was fitted on.
SEEN = "seen"


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of each fold's validation rows by the model fitted without them.

    Attributes
    ----------
    rows : np.ndarray of int64, shape (n_rows,)
        Places in the snapshot, increasing.
    predictions
        Of these rows.
    """

    rows: np.ndarray
    predictions: Predictions

    @classmethod
    def of(cls, folds: list[tuple[np.ndarray, Predictions]]) -> Self:
        """Put the folds together; of a row that repeated folds predict, the first counts.

        The mean over repeats would be steadier than what the one model that serves predicts, and a
        drift check would take the difference for drift.
        """
        rows, first = np.unique(np.concatenate([r for r, _ in folds]), return_index=True)
        values = np.concatenate([p.value for _, p in folds])
        shares = [p.probability for _, p in folds if p.probability is not None]
        whole = Predictions(values, np.concatenate(shares) if shares else None)
        return cls(rows, whole.take(first))

    def save(self, path: Path) -> None:
        """Write to a file."""
        probability = self.predictions.probability
        shares = np.empty((0, 0)) if probability is None else probability
        np.savez(path, rows=self.rows, value=self.predictions.value, probability=shares)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read from a file."""
        with np.load(path) as arrays:
            shares = arrays["probability"]
            known = shares if shares.shape[1] else None
            return cls(arrays["rows"], Predictions(arrays["value"], known))


def out_of_fold(folder: Path) -> OutOfFold:
    """Put together what the folds of a candidate left in a folder."""
    paths = sorted(folder.glob("*.npz"), key=lambda p: int(p.stem))
    folds = [OutOfFold.load(path) for path in paths]
    return OutOfFold.of([(fold.rows, fold.predictions) for fold in folds])
