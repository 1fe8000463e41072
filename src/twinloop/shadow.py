"""Shadow: a challenger answers a share of the rows too, where only its owner sees it."""

import logging
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from twinloop.contract import SCORED_ROLES, Checked, Contract, check_rows
from twinloop.digest import mix, row_hashes
from twinloop.scorer import Predictions, Scorer, Target
from twinloop.vocabulary import Frozen

_log = logging.getLogger("twinloop.progress")
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
    absolute
        Sum of the differences between numbers, or between the probabilities of the class that the
        champion chose; that between an infinite number and another one is left out.
    """

    rows: int = 0
    refused: int = 0
    equal: int = 0
    absolute: float = 0.0

    def merge(self, other: Self) -> Self:
        """Return both together."""
        return type(self)(
            rows=self.rows + other.rows,
            refused=self.refused + other.refused,
            equal=self.equal + other.equal,
            absolute=self.absolute + other.absolute,
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
        self, good: pa.Table, source: pa.Table, champion: Predictions, target: Target
    ) -> tuple[pa.Table, Agreement]:
        """Answer a share of the rows.

        Parameters
        ----------
        good
            Rows that keep the champion's contract, shape (n_rows, n_columns).
        source
            The same rows as they came: the challenger may have another contract.
        champion, target
            What the champion said of them, and of what.

        Returns
        -------
        tuple of (pa.Table, Agreement)
            Keys and times with the challenger's answers, and how these compare.
        """
        chosen = np.flatnonzero(self._chosen(good))
        asked, said = self._asked(source.take(chosen))
        asked = chosen[asked]
        rows = good.select([n for n in good.schema.names if n in self._names]).take(asked)
        rows = rows.cast(_plain(rows.schema))
        answers = self.scorer.no_answers() if said is None else self.scorer.columns(said)
        for name, values in answers.items():
            rows = rows.append_column(name, values)
        refused = len(chosen) - len(asked)
        if said is None:
            return rows, Agreement(refused=refused)
        there = champion.take(asked)
        return rows, _compare(there, target, said, self.scorer.target, refused)

    def _asked(self, rows: pa.Table) -> tuple[np.ndarray, Predictions | None]:
        """Answer rows; return which were taken, and what was said of them, None if none were."""
        try:
            checked = self._checked(rows)
            if checked is not None and checked.good.num_rows:
                return np.flatnonzero(checked.kept), self.scorer.predict(checked.good)
        except Exception as err:  # noqa: BLE001 - whatever it raises, nobody is to wait for it
            _log.warning("a challenger cannot answer in shadow: %r", err)
        return np.zeros(0, np.int64), None

    def _checked(self, rows: pa.Table) -> Checked | None:
        """Divide rows by the challenger's contract; None where it asks for a column there is not.

        That is no reason for the champion not to answer.
        """
        if not {c.name for c in self.contract.select(*SCORED_ROLES)} <= set(rows.schema.names):
            return None
        return check_rows(rows, self.contract, roles=SCORED_ROLES, lean=True)

    @property
    def _names(self) -> set[str]:
        return {c.name for c in self.contract.select("key", "time")}

    def _chosen(self, good: pa.Table) -> np.ndarray:
        names = list(self.key) or sorted(good.schema.names)
        drawn: np.ndarray = mix(row_hashes(good, names) ^ _SALT)
        return drawn.astype(np.float64) < self.share * 2.0**64


def _plain(schema: pa.Schema) -> pa.Schema:
    """Spell dictionaries out: Arrow joins none that differ."""
    kinds = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in schema]
    return pa.schema(list(zip(schema.names, kinds, strict=True)))


def _compare(
    champion: Predictions, ours: Target, challenger: Predictions, theirs: Target, refused: int
) -> Agreement:
    rows = len(champion.value)
    if champion.probability is None or challenger.probability is None:
        if ours.classes or theirs.classes:  # one says numbers, the other classes
            return Agreement(rows=rows, refused=refused)
        return _agreement(
            champion.value, challenger.value, champion.value, challenger.value, refused
        )
    # Two versions need not know the same classes, nor count them alike.
    place = {label: i for i, label in enumerate(theirs.classes)}
    known = np.array([place.get(label, len(place)) for label in ours.classes])
    chosen = known[champion.value]
    shares = np.column_stack([challenger.probability, np.zeros(rows)])
    at = np.arange(rows)
    said, heard = champion.probability[at, champion.value], shares[at, chosen]
    return _agreement(chosen, challenger.value, said, heard, refused)


def _agreement(
    ours: np.ndarray, theirs: np.ndarray, said: np.ndarray, heard: np.ndarray, refused: int
) -> Agreement:
    finite = np.isfinite(said) & np.isfinite(heard)
    apart = np.abs(said[finite] - heard[finite])
    return Agreement(
        rows=len(ours),
        refused=refused,
        equal=int(np.count_nonzero(ours == theirs)),
        absolute=float(apart.sum()),
    )
