"""Slices: how good a model is on parts of the holdout, and where it is clearly worse."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.encoding import Encoding, Feature
from twinloop.errors import ColumnError, nearest
from twinloop.evaluation import Metric
from twinloop.intervals import CONFIDENCE, score_intervals
from twinloop.scorer import Predictions
from twinloop.vocabulary import TIME_PARTS, Frozen
from twinloop.workload import Workload

MIN_ROWS = 20
_MOST_COLUMNS = 4
_MOST_LEVELS = 12
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MISSING, _OTHER = "missing", "other"


class SliceScore(Frozen):
    """The metric on the rows with one level of a column.

    Attributes
    ----------
    low, high
        95 % interval; NaN where the rows lie in too few blocks to tell.
    worse
        Whether it is clearly worse than the whole: even the end of an interval that allows for the
        number of slices is.
    """

    column: str
    level: str
    rows: int
    score: float
    low: float
    high: float
    worse: bool = False


class SliceReport(Frozen):
    """All slices of a holdout, the worst first.

    Attributes
    ----------
    whole
        The metric on all rows.
    hidden
        Slices with too few rows to be shown.
    """

    whole: SliceScore
    slices: tuple[SliceScore, ...] = ()
    hidden: int = 0

    @property
    def worse(self) -> tuple[SliceScore, ...]:
        """Those clearly worse than the whole."""
        return tuple(s for s in self.slices if s.worse)


@dataclass(frozen=True)
class Slicing:
    """A column cut into levels.

    Attributes
    ----------
    codes : np.ndarray of int64, shape (n_rows,)
        Place of each row's level in `levels`.
    """

    column: str
    codes: np.ndarray
    levels: tuple[str, ...]


def slice_columns(
    workload: Workload, encoding: Encoding, importance: tuple[float, ...]
) -> tuple[str, ...]:
    """Return what to slice by: what the workload names, or what the model leans on most.

    Parameters
    ----------
    workload
        May name columns.
    encoding
        Tells which features have few levels.
    importance
        Share of each feature in the model.
    """
    if workload.slices is not None:
        return workload.slices
    ranked = sorted(
        (-share, i)
        for i, (feature, share) in enumerate(zip(encoding.features, importance, strict=True))
        if _has_few_levels(feature)
    )
    return tuple(encoding.features[i].name for _, i in ranked[:_MOST_COLUMNS])


def _has_few_levels(feature: Feature) -> bool:
    if feature.how == "category":
        return 1 < len(feature.levels) <= _MOST_LEVELS
    return feature.how == "boolean" or feature.how in TIME_PARTS


def slice_rows(table: pa.Table, name: str, workload: Workload) -> Slicing:
    """Cut rows by a column: by level, by quarter of a number's range, or by part of the time.

    Levels beyond the twelve most frequent go together as ``other``, nulls as ``missing``.

    Raises
    ------
    ColumnError
        If there is no such column.
    """
    part = workload.time_part(name)
    if part is not None:
        return _by_time(table, name, part, str(workload.time))
    if name not in table.schema.names:
        raise ColumnError(
            f"slices names {name!r}, which the rows do not have; "
            f"{nearest(name, table.schema.names)}."
        )
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    few = pc.count_distinct(column).as_py() <= _MOST_LEVELS
    if not few and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return _by_quarter(name, column)
    return _by_level(name, column)


def _by_time(table: pa.Table, name: str, part: str, time: str) -> Slicing:
    encoding = Encoding(features=(Feature(name=name, source=time, how=part),))
    codes = encoding.encode(table)[:, 0].astype(np.int64)
    hours = tuple(f"{h:02d}h" for h in range(24))
    months = tuple(str(m) for m in range(1, 13))
    return Slicing(name, codes, {"hour": hours, "weekday": _WEEKDAYS, "month": months}[part])


def _by_level(name: str, column: pa.ChunkedArray) -> Slicing:
    text = pc.fill_null(column.cast(pa.string()), _MISSING).combine_chunks().dictionary_encode()
    codes, levels = text.indices.to_numpy(), text.dictionary.to_pylist()
    counts = np.bincount(codes, minlength=len(levels))
    ranked = sorted(range(len(levels)), key=lambda i: (-counts[i], levels[i]))
    kept = ranked[:_MOST_LEVELS]
    place = np.full(len(levels), len(kept))
    place[kept] = np.arange(len(kept))
    return Slicing(name, place[codes], (*(levels[i] for i in kept), _OTHER))


def _by_quarter(name: str, column: pa.ChunkedArray) -> Slicing:
    values = column.cast(pa.float64()).to_numpy()
    edges = np.unique(np.nanquantile(values, [0.25, 0.5, 0.75]))
    codes = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values))
    between = (f"{a:.4g} to {b:.4g}" for a, b in pairwise(edges))
    levels = (f"to {edges[0]:.4g}", *between, f"above {edges[-1]:.4g}", _MISSING)
    return Slicing(name, codes, levels)


def score_slices(
    slicings: tuple[Slicing, ...],
    y: np.ndarray,
    predictions: Predictions,
    blocks: np.ndarray,
    metric: Metric,
) -> SliceReport:
    """Score every slice of at least twenty rows.

    A slice is flagged where it is worse than the whole by a one-sided test at 5 %, shared out over
    all slices (Bonferroni): of many slices some are always low by luck. The whole's own error is
    left aside: it holds the slice's rows, and their difference varies less than the slice does.

    Parameters
    ----------
    slicings
        How to cut.
    y : np.ndarray, shape (n_rows,)
        The truth.
    predictions
        Of the same rows.
    blocks : np.ndarray of int64, shape (n_rows,)
        Rows of one block hang together (see `twinloop.intervals.jackknife_error`).
    metric
        What counts.
    """
    marks = [
        (cut.column, cut.levels[code], cut.codes == code)
        for cut in slicings
        for code in np.unique(cut.codes)
    ]
    # A column with one level in these rows cuts nothing off.
    marks = [m for m in marks if not m[2].all()]
    shown = [m for m in marks if m[2].sum() >= MIN_ROWS]
    everything = np.ones(len(y), bool)
    whole, _ = _score("all", "all", everything, y, predictions, blocks, metric, (0.0, 1))
    against = (whole.score, len(shown))
    found = [_score(*mark, y, predictions, blocks, metric, against) for mark in shown]
    known = [(score, margin) for score, margin in found if not np.isnan(score.score)]
    known.sort(key=lambda f: (not f[0].worse, f[1], f[0].column, f[0].level))
    return SliceReport(
        whole=whole.model_copy(update={"worse": False}),
        slices=tuple(score for score, _ in known),
        hidden=len(marks) - len(known),
    )


def _score(
    column: str,
    level: str,
    rows: np.ndarray,
    y: np.ndarray,
    predictions: Predictions,
    blocks: np.ndarray,
    metric: Metric,
    against: tuple[float, int],
) -> tuple[SliceScore, float]:
    """Return a slice's score, and how much better than the whole it is."""
    whole, n_slices = against
    truth, answers = y[rows], predictions.take(rows)
    score = metric.score(truth, answers)
    # One side of a two-sided interval is left out: hence twice the level.
    strict = 1 - 2 * (1 - CONFIDENCE) / n_slices
    (low, high), wide = score_intervals(truth, answers, blocks[rows], metric, (CONFIDENCE, strict))
    best = wide[1] if metric.greater_is_better else wide[0]
    found = SliceScore(
        column=column,
        level=level,
        rows=int(rows.sum()),
        score=score,
        low=low,
        high=high,
        worse=bool(metric.gain(best, whole) < 0),
    )
    return found, metric.gain(score, whole)
