"""Shadow: a challenger answers a share of the rows too, where only its owner sees it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from twinloop.contract import Contract, check_rows
from twinloop.scorer import Predictions, Scorer
from twinloop.tables import mix, row_hashes
from twinloop.vocabulary import Frozen

# So that rows are not drawn by what folds and holdouts are drawn by.
_SALT = np.uint64(0x5AD0)


class Agreement(Frozen):
    """How two versions answered the same rows.

    Attributes
    ----------
    rows
        That both answered.
    refused
        That the challenger's contract does not take.
    equal
        With one class or number.
    absolute, squared
        Sums of the differences between numbers, or between the probabilities of the class that the
        champion chose.
    """

    rows: int = 0
    refused: int = 0
    equal: int = 0
    absolute: float = 0.0
    squared: float = 0.0

    def merge(self, other: Self) -> Self:
        """Return both together."""
        return type(self)(
            rows=self.rows + other.rows,
            refused=self.refused + other.refused,
            equal=self.equal + other.equal,
            absolute=self.absolute + other.absolute,
            squared=self.squared + other.squared,
        )

    @property
    def share_equal(self) -> float:
        """Share of the rows with one answer; NaN of no rows."""
        return self.equal / self.rows if self.rows else float("nan")

    @property
    def mean_difference(self) -> float:
        """Mean absolute difference; NaN of no rows."""
        return self.absolute / self.rows if self.rows else float("nan")


@dataclass(frozen=True)
class Shadow:
    """A version that answers beside the one that serves.

    Attributes
    ----------
    share
        Of the rows, chosen by their key: the same rows whoever asks.
    """

    scorer: Scorer
    contract: Contract
    key: tuple[str, ...]
    share: float

    def answer(
        self, good: pa.Table, source: pa.Table, champion: Predictions
    ) -> tuple[pa.Table, Agreement]:
        """Answer a share of the rows.

        Parameters
        ----------
        good
            Rows that keep the champion's contract, shape (n_rows, n_columns).
        source
            The same rows as they came: the challenger may have another contract.
        champion
            What the champion said of them.

        Returns
        -------
        tuple of (pa.Table, Agreement)
            Keys and times with the challenger's answers, and how these compare.
        """
        chosen = np.flatnonzero(self._chosen(good))
        roles = ("key", "time", "group", "feature")
        checked = check_rows(source.take(chosen), self.contract, roles=roles, lean=True)
        asked = chosen[checked.kept]
        named = [n for n in good.schema.names if n in self._names]
        rows = good.select(named).take(asked)
        if len(asked) == 0:
            answers = self.scorer.no_answers()
            agreement = Agreement(refused=len(chosen))
        else:
            said = self.scorer.predict(checked.good)
            answers = self.scorer.columns(said)
            agreement = _compare(champion.take(asked), said, len(chosen) - len(asked))
        for name, values in answers.items():
            rows = rows.append_column(name, values)
        return rows, agreement

    @property
    def _names(self) -> set[str]:
        return {c.name for c in self.contract.select("key", "time")}

    def _chosen(self, good: pa.Table) -> np.ndarray:
        names = list(self.key) or sorted(good.schema.names)
        drawn: np.ndarray = mix(row_hashes(good, names) ^ _SALT)
        return drawn.astype(np.float64) < self.share * 2.0**64


def _compare(champion: Predictions, challenger: Predictions, refused: int) -> Agreement:
    ours, theirs = champion.value, challenger.value
    equal = int(np.count_nonzero(ours == theirs))
    if champion.probability is not None and challenger.probability is not None:
        if champion.probability.shape != challenger.probability.shape:
            return Agreement(rows=len(ours), refused=refused, equal=equal)
        at = np.arange(len(ours)), ours
        ours, theirs = champion.probability[at], challenger.probability[at]
    apart = np.abs(ours - theirs)
    return Agreement(
        rows=len(ours),
        refused=refused,
        equal=equal,
        absolute=float(apart.sum()),
        squared=float((apart**2).sum()),
    )
