"""Inference: what becomes of a batch of rows between its source and what is published."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from twinloop.contract import REASON, SCORED_ROLES, Contract, check_rows, with_reason
from twinloop.digest import ContentDigest
from twinloop.explaining import explain, no_explanation, typical_values
from twinloop.gauge import Gauge, GaugedCounter
from twinloop.profile import Reference
from twinloop.samples import smallest
from twinloop.scorer import Predictions, Scorer
from twinloop.shadow import Agreement, Shadow
from twinloop.tables import nulls_to_nan


@dataclass(frozen=True)
class Scored:
    """What became of a batch.

    Attributes
    ----------
    table
        What is published of the rows scored, in their order.
    bad
        Rows that are not, as they came, with the reason.
    at : np.ndarray of int64, shape (n_bad,)
        Where in the batch each of these was.
    cells : np.ndarray of int64
        Counts for the profile, see `twinloop.profile.Counter`.
    picked
        Rows for its sample: their hashes and values; see `twinloop.profile.Counter.values`.
    digest
        Of all rows as they came.
    shadow, agreement
        What a challenger said, and how it compares; None without one.
    """

    table: pa.Table
    bad: pa.Table
    at: np.ndarray
    cells: np.ndarray
    picked: tuple[np.ndarray, np.ndarray]
    digest: ContentDigest
    shadow: pa.Table | None = None
    agreement: Agreement | None = None


class BatchScorer:
    """Checks, encodes, predicts and counts batches; it keeps no state, so threads may share it.

    Parameters
    ----------
    scorer
        In its compiled form.
    contract, reference
        What rows are held to, and what they are counted by.
    key
        Columns that tell rows apart.
    stamp
        Columns that are the same in every row: who answered.
    explanations
        How many features to name with each answer.
    shadow
        Who answers too.
    gauge
        What estimates the metric without labels.
    """

    def __init__(
        self,
        scorer: Scorer,
        contract: Contract,
        reference: Reference,
        key: tuple[str, ...],
        stamp: Mapping[str, pa.Scalar],
        explanations: int = 0,
        shadow: Shadow | None = None,
        gauge: Gauge | None = None,
    ) -> None:
        self._scorer = scorer
        self._contract = contract
        self._counter = GaugedCounter(reference.binning, gauge)
        self._key = key
        self._stamp = stamp
        self._explanations = explanations
        self._typical = typical_values(reference)
        self._shadow = shadow
        empty = scorer.no_answers() | no_explanation(scorer, explanations)
        answers = [pa.field(name, v.type) for name, v in empty.items()]
        stamped = [pa.field(name, value.type) for name, value in stamp.items()]
        self.schema = pa.schema([*contract.arrow_schema("key", "time"), *answers, *stamped])

    @property
    def counter(self) -> GaugedCounter:
        """What counts rows for the profile."""
        return self._counter

    def score(self, table: pa.Table, repeated: np.ndarray | None = None) -> Scored:
        """Score a batch.

        Parameters
        ----------
        table
            Rows as they came, shape (n_rows, n_columns).
        repeated : np.ndarray of bool, shape (n_rows,), or None
            Rows whose key was scored before; None: there are none.
        """
        # Floats are looked at three times over; without nulls each time is for nothing.
        filled = nulls_to_nan(table)
        digest, hashes = ContentDigest.with_hashes(filled)
        checked = check_rows(filled, self._contract, roles=SCORED_ROLES, lean=True)
        good, kept = checked.good, checked.kept
        bad = with_reason(table, ~kept, checked.bad.column(REASON).to_pylist())
        at = np.flatnonzero(~kept)
        if repeated is not None:
            good, kept = good.filter(pa.array(~repeated[kept])), kept & ~repeated
            reasons = [f"duplicate_key:{'+'.join(self._key)}"] * int(repeated.sum())
            bad = pa.concat_tables([bad, with_reason(table, repeated, reasons)])
            at = np.concatenate([at, np.flatnonzero(repeated)])
        if good.num_rows == 0:
            none = self.schema.empty_table()
            return Scored(none, bad, at, *self._counter.nothing(), digest)
        X = self._scorer.encoding.encode(good)
        predictions = self._scorer.predict_matrix(X)
        finite = _finite(predictions)
        if not finite.all():
            # No answer is no prediction, whatever the model means by it.
            silent = np.zeros(len(kept), bool)
            silent[np.flatnonzero(kept)[~finite]] = True
            bad = pa.concat_tables(
                [bad, with_reason(table, silent, ["no_answer"] * int(silent.sum()))]
            )
            at, kept = np.concatenate([at, np.flatnonzero(silent)]), kept & ~silent
            good, X = good.filter(pa.array(finite)), X[finite]
            predictions = predictions.take(finite)
        cells = self._counter.count(X, predictions, self._scorer.encoding.nulls(good))
        hashes = hashes[kept]
        rows = smallest(hashes)
        picked = hashes[rows], self._counter.values(X, predictions, rows)
        published = self._published(good, predictions, X)
        if self._shadow is None:
            return Scored(published, bad, at, cells, picked, digest)
        came = table if kept.all() else table.filter(pa.array(kept))
        said, agreement = self._shadow.answer(good, came, predictions, self._scorer.target)
        return Scored(published, bad, at, cells, picked, digest, said, agreement)

    def _published(self, good: pa.Table, predictions: Predictions, X: np.ndarray) -> pa.Table:
        columns = {n: good.column(n) for n in self.schema.names if n in good.schema.names}
        columns |= self._scorer.columns(predictions)
        if self._explanations:
            columns |= explain(self._scorer, X, self._explanations, self._typical)
        columns |= {n: pa.repeat(value, good.num_rows) for n, value in self._stamp.items()}
        return pa.table(columns).select(self.schema.names).cast(self.schema)


def _finite(predictions: Predictions) -> np.ndarray:
    if predictions.probability is None:
        return np.isfinite(predictions.value)
    return np.isfinite(predictions.probability).all(axis=1)


def first_of_repeated(
    kept: np.ndarray, places: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of rows whose key occurs more than once, tell those that come too late.

    The first row that keeps the contract is the one that is scored.

    Parameters
    ----------
    kept : np.ndarray of bool, shape (n_rows,)
        Which of them keep the contract.
    places : np.ndarray of int64, shape (n_rows,)
        Which of the repeated keys each has.
    taken : np.ndarray of bool, shape (n_keys,)
        Of the repeated keys, those whose row was scored before.

    Returns
    -------
    tuple of np.ndarray of bool, shape (n_rows,), and np.ndarray of int64
        Rows that are too late, and the keys that these rows have taken.
    """
    at, first = places[kept], np.zeros(int(kept.sum()), bool)
    first[np.unique(at, return_index=True)[1]] = True
    late = np.zeros(len(kept), bool)
    late[kept] = taken[at] | ~first
    return late, at[first & ~taken[at]]
