"""Encoding: from Arrow columns to one float32 matrix."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.contract import Contract
from twinloop.tables import floats_of, is_null
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

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
            In Fortran's order: each column lies together, as it is written and counted.
        """
        matrix = np.empty((len(self.features), table.num_rows), np.float32)
        for row, feature in zip(matrix, self.features, strict=True):
            row[:] = _encode(table.column(feature.source), feature)
        return matrix.T

    def nulls(self, table: pa.Table) -> np.ndarray:
        """Return how many rows have no value: int64, shape (n_features,).

        What is NaN in a category besides has a level that the encoding does not know.
        """
        return np.array([table.column(f.source).null_count for f in self.features], np.int64)


@dataclass(frozen=True)
class SharedMatrix:
    """Rows encoded once, from which every fold gets what fitting on its own rows would give it.

    Only the levels of categories hang on the rows fitted: which there are, and in which order. Here
    they are places in the list of all levels; a fold counts its own rows and renames them.

    Attributes
    ----------
    features
        With all levels, in alphabetical order.
    X : np.ndarray of float32, shape (n_rows, n_features)
        Missing levels are the place after the last.
    codes : np.ndarray of int32, shape (n_rows, n_categories)
        Those of `X`, as whole numbers that no other column has.
    """

    features: tuple[Feature, ...]
    X: np.ndarray
    codes: np.ndarray

    def fit(self, rows: np.ndarray) -> Encoding:
        """Learn the levels of categories from rows, and only from these rows.

        Parameters
        ----------
        rows : np.ndarray of int64
        """
        counts = np.bincount(self.codes[rows].ravel(), minlength=self._starts[-1])
        starts = iter(self._starts)
        return Encoding(
            features=tuple(
                f.model_copy(update={"levels": _common(f.levels, counts[next(starts) :])})
                if f.how == "category"
                else f
                for f in self.features
            )
        )

    @property
    def _starts(self) -> list[int]:
        """The first code of each category, and one past the last of all."""
        return _starts(self.features)

    def encode(self, rows: np.ndarray, encoding: Encoding) -> np.ndarray:
        """Return the matrix of rows by an encoding that was fitted on some: as from the table.

        Returns
        -------
        np.ndarray of float32, shape (len(rows), n_features)
        """
        X = self.X[rows]
        renamed = self._names(encoding).take(self.codes[rows])
        for k, i in enumerate(_categories(self.features)):
            X[:, i] = renamed[:, k]
        return X

    def _names(self, encoding: Encoding) -> np.ndarray:
        """Return what an encoding calls each code; of levels it does not know, NaN."""
        names: list[float] = []
        for every, known in zip(self.features, encoding.features, strict=True):
            if every.how == "category":
                place = {level: float(code) for code, level in enumerate(known.levels)}
                names += [place.get(level, np.nan) for level in every.levels] + [np.nan]
        return np.array(names, np.float32)


def share(table: pa.Table, contract: Contract, workload: Workload) -> SharedMatrix:
    """Encode all rows of a table for folds to be made of them.

    Parameters
    ----------
    table
        Rows, typed as the contract says, shape (n_rows, n_columns).
    contract, workload
        Say which columns are features, and which calendar parts of the time are.
    """
    features = [
        Feature(name=c.name, source=c.name, how=c.kind, levels=_every(table.column(c.name)))
        if c.kind == "category"
        else Feature(name=c.name, source=c.name, how=c.kind)
        for c in contract.select("feature")
    ]
    if workload.time is not None:
        features += [
            Feature(name=f"{workload.time}.{part}", source=workload.time, how=part)
            for part in workload.calendar
        ]
    # Folds take rows out of it, one by one.
    X = np.ascontiguousarray(Encoding(features=tuple(features)).encode(table))
    places, starts = _categories(features), _starts(features)
    codes = np.empty((len(X), len(places)), np.int32)
    for k, i in enumerate(places):
        X[:, i] = np.nan_to_num(X[:, i], nan=float(len(features[i].levels)))
        codes[:, k] = X[:, i].astype(np.int32) + starts[k]
    return SharedMatrix(tuple(features), X, codes)


def _categories(features: Sequence[Feature]) -> list[int]:
    return [i for i, f in enumerate(features) if f.how == "category"]


def _starts(features: Sequence[Feature]) -> list[int]:
    sizes = [len(f.levels) + 1 for f in features if f.how == "category"]
    return [0, *itertools.accumulate(sizes)]


def _every(column: pa.ChunkedArray) -> tuple[str, ...]:
    return tuple(sorted(pc.unique(column.drop_null()).to_pylist()))


def _common(levels: tuple[str, ...], counts: np.ndarray) -> tuple[str, ...]:
    """Return the levels that occur, the most frequent first, then by the alphabet."""
    ranked = np.argsort(-counts[: len(levels)], kind="stable")[:_MAX_LEVELS]
    return tuple(levels[i] for i in ranked if counts[i])


def _encode(column: pa.ChunkedArray, feature: Feature) -> np.ndarray:
    if feature.how == "category":
        return _places(column, feature.levels)
    if feature.how in ("number", "boolean"):
        return floats_of(column)
    return _calendar(column, feature.how)


def _places(column: pa.ChunkedArray, levels: tuple[str, ...]) -> np.ndarray:
    """Return the place of each cell in a list of levels; NaN if it is not there."""
    known = pa.array(levels, pa.string())
    if not pa.types.is_dictionary(column.type):
        return floats_of(pc.index_in(column, known))
    cells = column.combine_chunks()
    # Levels are few, rows are many: each level is looked up once.
    places = floats_of(pc.index_in(cells.dictionary.cast(pa.string()), known))
    at = cells.indices.fill_null(len(places)).to_numpy()
    return np.append(places, np.nan).astype(np.float32).take(at)


def _calendar(column: pa.ChunkedArray, part: str) -> np.ndarray:
    """Take a part of UTC times; weeks start on Monday (0), months count from 0."""
    missing = is_null(column)
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
