"""Cleaning: from rows that keep the contract to rows a model may learn from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.contract import Contract, duplicated
from twinloop.errors import DuplicateKeyError, TargetError
from twinloop.workload import Workload


@dataclass(frozen=True)
class Cleaned:
    """Rows to learn from, and how many were left out for which reason."""

    table: pa.Table
    dropped: dict[str, int]


def clean(table: pa.Table, contract: Contract, workload: Workload, origin: str) -> Cleaned:
    """Drop repeated rows, rows without a label and, where asked for, outliers; sort the rest.

    Parameters
    ----------
    table
        Rows that keep the contract, shape (n_rows, n_columns).
    contract
        Says which columns are features.
    workload
        Its `cleaning` says what to do.
    origin
        Where the rows come from, for errors.

    Raises
    ------
    DuplicateKeyError
        If rows share a key, differ otherwise, and ``cleaning.duplicates`` is ``fail``.
    TargetError
        If no row has a label.
    """
    dropped: dict[str, int] = {}
    unlabelled = table.column(workload.target).is_null().to_numpy()
    table = _drop(table, unlabelled, "no_label", dropped)
    if table.num_rows == 0:
        raise TargetError(f"{origin}: no row has a value in the target {workload.target!r}.")
    order = [*([workload.time] if workload.time else []), *workload.key]
    if order:
        table = table.sort_by([(name, "ascending") for name in order])
    if workload.key:
        repeated = duplicated(table, tuple(table.schema.names))
        table = _drop(table, repeated, "repeated_row", dropped)
        table = _one_per_key(table, workload, origin, dropped)
    if workload.cleaning.outliers is not None:
        outside = _outliers(table, contract, workload.cleaning.outliers)
        table = _drop(table, outside, "outlier", dropped)
    return Cleaned(table.combine_chunks(), dropped)


def _drop(table: pa.Table, mask: np.ndarray, why: str, dropped: dict[str, int]) -> pa.Table:
    if mask.any():
        dropped[why] = int(mask.sum())
        return table.filter(pa.array(~mask))
    return table


def _one_per_key(
    table: pa.Table, workload: Workload, origin: str, dropped: dict[str, int]
) -> pa.Table:
    rule = workload.cleaning.duplicates
    if rule == "last":
        backwards = table.take(pa.array(np.arange(table.num_rows)[::-1]))
        mask = duplicated(backwards, workload.key)[::-1]
    else:
        mask = duplicated(table, workload.key)
    if rule == "fail" and mask.any():
        row = table.slice(int(np.flatnonzero(mask)[0]), 1)
        first = {name: str(row.column(name)[0].as_py()) for name in workload.key}
        raise DuplicateKeyError(
            f"{origin}: {int(mask.sum())} rows repeat the key of another row and differ from it, "
            f"first {first}; a key must identify a row.",
            "Name a fuller 'key', or set cleaning.duplicates to 'first' or 'last'.",
        )
    return _drop(table, mask, "duplicate_key", dropped)


def _outliers(table: pa.Table, contract: Contract, factor: float) -> np.ndarray:
    """Mark rows with a feature beyond Tukey's fences (Exploratory Data Analysis, 1977)."""
    outside = np.zeros(table.num_rows, bool)
    for column in contract.select("feature"):
        if column.kind == "number":
            values = table.column(column.name).to_numpy()
            low, high = pc.quantile(table.column(column.name), [0.25, 0.75]).to_pylist()
            if low is not None and high > low:
                reach = factor * (high - low)
                outside |= (values < low - reach) | (values > high + reach)
    return outside
