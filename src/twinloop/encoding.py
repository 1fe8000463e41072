"""Encoding: from Arrow columns to one float32 matrix."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.contract import Contract
from twinloop.workload import Frozen, Workload

_MAX_LEVELS = 64
_CALENDAR_SIZES = {"hour": 24, "weekday": 7, "month": 12}
_MICROSECONDS = {"hour": 3_600_000_000, "day": 86_400_000_000}


class Feature(Frozen):
    """One column of the matrix: where it comes from and how.

    Attributes
    ----------
    name
        Name in plots and profiles.
    source
        Column of the table.
    how
        ``number`` (as it is), ``boolean`` (0 or 1), ``category`` (place in `levels`), ``timestamp``
        (days since 1970), or a calendar part of a time: ``hour``, ``weekday``, ``month``.
    levels
        Levels of a category, most frequent first; others become missing.
    """

    name: str
    source: str
    how: str
    levels: tuple[str, ...] = ()

    @property
    def n_levels(self) -> int:
        """How many codes there are; 0 for a plain number."""
        return len(self.levels) or _CALENDAR_SIZES.get(self.how, 0)


class Encoding(Frozen):
    """A fitted encoding.

    Missing values and unseen levels become NaN, which every candidate knows how to take.
    """

    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the matrix."""
        return tuple(f.name for f in self.features)

    @property
    def coded(self) -> tuple[int, ...]:
        """Columns of the matrix that hold codes, not quantities."""
        return tuple(i for i, f in enumerate(self.features) if f.n_levels)

    def encode(self, table: pa.Table) -> np.ndarray:
        """Return the matrix of a conforming table.

        Parameters
        ----------
        table
            Shape (n_rows, n_columns), typed as the contract says.

        Returns
        -------
        np.ndarray of float32, shape (n_rows, n_features)
        """
        matrix = np.empty((table.num_rows, len(self.features)), np.float32)
        for i, feature in enumerate(self.features):
            matrix[:, i] = _encode(table.column(feature.source), feature)
        return matrix


def fit_encoding(table: pa.Table, contract: Contract, workload: Workload) -> Encoding:
    """Learn the levels of categories from rows, and only from these rows.

    Parameters
    ----------
    table
        Training rows, typed as the contract says, shape (n_rows, n_columns).
    contract, workload
        Say which columns are features, and which calendar parts of the time are.
    """
    features = [
        Feature(name=c.name, source=c.name, how=c.kind, levels=_levels(table.column(c.name)))
        if c.kind == "category"
        else Feature(name=c.name, source=c.name, how=c.kind)
        for c in contract.select("feature")
    ]
    if workload.time is not None:
        features += [
            Feature(name=f"{workload.time}.{part}", source=workload.time, how=part)
            for part in workload.calendar
        ]
    return Encoding(features=tuple(features))


def _levels(column: pa.ChunkedArray) -> tuple[str, ...]:
    counts = pc.value_counts(column.drop_null()).to_pylist()
    ranked = sorted(counts, key=lambda c: (-c["counts"], c["values"]))
    return tuple(c["values"] for c in ranked[:_MAX_LEVELS])


def _encode(column: pa.ChunkedArray, feature: Feature) -> np.ndarray:
    if feature.how == "category":
        codes = pc.index_in(column, pa.array(feature.levels, pa.string()))
        return _floats(codes)
    if feature.how in ("number", "boolean"):
        return _floats(column)
    return _calendar(column, feature.how)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    values: np.ndarray = column.cast(pa.float32(), safe=False).to_numpy()
    return values


def _calendar(column: pa.ChunkedArray, part: str) -> np.ndarray:
    """Take a part of UTC times; weeks start on Monday (0), months count from 0."""
    missing = column.is_null().to_numpy()
    micros = column.cast(pa.int64()).fill_null(0).to_numpy()
    if part == "hour":
        values = micros // _MICROSECONDS["hour"] % 24
    elif part == "weekday":
        values = (micros // _MICROSECONDS["day"] + 3) % 7
    elif part == "month":
        values = pc.fill_null(pc.month(column), 1).to_numpy() - 1
    else:
        values = micros / _MICROSECONDS["day"]
    return np.where(missing, np.nan, values.astype(np.float32))
