"""Samples: a few rows of a table, chosen by the hash of each, so that parts merge to the whole's.

The rows with the smallest hashes are a sample without replacement, and the smallest of the smallest
of parts are the smallest of all (bottom-k sketches, Cohen and Kaplan 2007).
"""

import base64
from typing import Self

import numpy as np

from twinloop.vocabulary import Frozen

SIZE = 512


class Sample(Frozen):
    """Rows, each as the bins of its columns.

    Attributes
    ----------
    n_columns
        Bytes to a row.
    hashes
        Of the rows, increasing: uint64, little-endian, as base64.
    rows
        The place of the bin of each column of each row: uint8, as base64.
    """

    n_columns: int = 0
    hashes: str = ""
    rows: str = ""

    @classmethod
    def of(cls, hashes: np.ndarray, rows: np.ndarray) -> Self:
        """Keep the rows with the smallest hashes.

        Parameters
        ----------
        hashes : np.ndarray of uint64, shape (n_rows,)
        rows : np.ndarray of uint8, shape (n_rows, n_columns)
        """
        # Rows of one hash are put in the order of what they hold: a sample hangs on nothing else.
        order = np.lexsort((*rows.T[::-1], hashes))[:SIZE]
        return cls(
            n_columns=rows.shape[1],
            hashes=_text(hashes[order].astype("<u8")),
            rows=_text(np.ascontiguousarray(rows[order])),
        )

    def merge(self, other: Self) -> Self:
        """Return the sample of both tables together; exact, whatever the order."""
        if not self.hashes or not other.hashes:
            return self if self.hashes else other
        hashes = np.concatenate([self.keys(), other.keys()])
        return self.of(hashes, np.concatenate([self.codes(), other.codes()]))

    def keys(self) -> np.ndarray:
        """Return the hashes: uint64, shape (n_rows,)."""
        return np.frombuffer(base64.b64decode(self.hashes), "<u8").astype(np.uint64)

    def codes(self) -> np.ndarray:
        """Return the rows: uint8, shape (n_rows, n_columns)."""
        found = np.frombuffer(base64.b64decode(self.rows), np.uint8)
        return found.reshape(-1, max(self.n_columns, 1))


def smallest(hashes: np.ndarray) -> np.ndarray:
    """Return where the smallest hashes are, in no order; all that tie with the last one too."""
    if len(hashes) <= SIZE:
        return np.arange(len(hashes))
    return np.flatnonzero(hashes <= np.partition(hashes, SIZE - 1)[SIZE - 1])


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
