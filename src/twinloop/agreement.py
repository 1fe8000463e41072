"""Agreement: the compiled form of a model says what the model itself says, or it does not serve."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from twinloop.contract import ColumnContract, Contract
from twinloop.errors import RegistryError
from twinloop.scorer import Predictions, Scorer

# Relative to the larger of 1 and the value.
MOST_APART = 1e-6
# Copied once for each way of being dirty.
_COPIED_ROWS = 20
_NEVER_SEEN = "a level that was never seen"
_LARGEST = float(np.finfo(np.float32).max)
# The first and the last moment that Python's datetime knows, microseconds since 1970.
_MOMENTS = (-62_135_596_800_000_000, 253_402_300_799_999_999)


def refuse_disagreement(plain: Scorer, fast: Scorer, table: pa.Table) -> None:
    """Refuse a compiled scorer that answers a row otherwise than the plain one.

    Numbers and probabilities may differ by `MOST_APART`, relative to the larger of 1 and the plain
    value. Classes must be the same, except where the probabilities that decide are as near to each
    other, or to the threshold.

    Parameters
    ----------
    plain, fast
        See `twinloop.compiled.compiled`.
    table
        Rows that keep the contract, shape (n_rows, n_columns).

    Raises
    ------
    RegistryError
        Naming the first row and what both say.
    """
    if fast is plain or table.num_rows == 0:
        return
    X = plain.encoding.encode(table)
    # Of a logarithm that is far off the number may be infinite; it must be so in both forms.
    with np.errstate(over="ignore"):
        wanted, found = plain.predict_matrix(X), fast.predict_matrix(X)
    if wanted.probability is None or found.probability is None:
        _refuse("numbers", _apart(wanted.value, found.value), wanted.value, found.value, table)
        return
    apart = np.logical_or.reduce(_apart(wanted.probability, found.probability), axis=1)
    _refuse("probabilities", apart, wanted.probability, found.probability, table)
    other = (wanted.value != found.value) & ~_tied(wanted, found, plain)
    _refuse("classes", other, wanted.value, found.value, table)


def _apart(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    # Of infinite ones the difference is NaN, of which nothing is true; equal ones come first.
    with np.errstate(invalid="ignore"):
        near = np.abs(found - wanted) <= MOST_APART * np.maximum(1.0, np.abs(wanted))
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    far: np.ndarray = ~(same | (near & np.isfinite(wanted)))
    return far


def _tied(wanted: Predictions, found: Predictions, plain: Scorer) -> np.ndarray:
    said = wanted.probability
    assert said is not None  # noqa: S101 - for the type checker: classes have probabilities
    if said.shape[1] == 2:
        return np.abs(said[:, 1] - plain.rule.threshold) <= MOST_APART
    rows = np.arange(len(said))
    return np.abs(said[rows, wanted.value] - said[rows, found.value]) <= MOST_APART


def _refuse(
    what: str, broken: np.ndarray, wanted: np.ndarray, found: np.ndarray, table: pa.Table
) -> None:
    if not broken.any():
        return
    row = int(np.flatnonzero(broken)[0])
    raise RegistryError(
        f"row {row}: the model says {wanted[row].tolist()!r}, its compiled form "
        f"{found[row].tolist()!r}; {what} may differ by {MOST_APART:g} at most. {broken.sum()} of "
        f"{len(broken)} rows do; this one is {table.slice(row, 1).to_pylist()[0]!r:.500}.",
        "Leave the candidate out of training.candidates, and report it as a fault of Twinloop.",
    )


def with_dirty_copies(rows: pa.Table, contract: Contract) -> pa.Table:
    """Return rows with copies of some in which a column is as bad as the contract lets it be.

    Parameters
    ----------
    rows
        That keep the contract, shape (n_rows, n_columns).
    contract
        For each of its features, and its time, there are copies with nulls, with a level that was
        never seen, with values at its limits, and with the first and last moment there can be, so
        far as it lets them.

    Returns
    -------
    pa.Table
        The features and the time alone; rows as they came first.
    """
    columns = contract.select("time", "feature")
    rows = rows.select([c.name for c in columns])
    few, made = rows.slice(0, _COPIED_ROWS), [rows]
    for column in columns:
        at = few.schema.get_field_index(column.name)
        field = few.schema.field(at)
        for value in _worst(column):
            cells = pa.array([value] * few.num_rows, field.type)
            made.append(few.set_column(at, field, cells))
    return pa.concat_tables(made)


def _worst(column: ColumnContract) -> Iterator[Any]:
    if not column.required:
        yield None
    if column.kind == "category" and column.levels is None:
        yield _NEVER_SEEN
    if column.kind == "timestamp":
        yield from _MOMENTS
    if column.kind == "number":
        low = -_LARGEST if column.minimum is None else column.minimum
        high = _LARGEST if column.maximum is None else column.maximum
        yield from (max(low, -_LARGEST), min(high, _LARGEST))
