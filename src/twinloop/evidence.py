"""Evidence: what a fit and its holdout have shown, as plain values for the model card."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.calibration import brier_score, calibration_error, log_losses, reliability
from twinloop.encoding import Encoding
from twinloop.evaluation import block_ids
from twinloop.profile import Reference
from twinloop.rule import Rule
from twinloop.scorer import Predictions, Scorer
from twinloop.slices import SliceReport
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MOST_LEVELS = 8


class Span(Frozen):
    """Some rows, and when they lie.

    Attributes
    ----------
    first, last
        Times of the oldest and newest row, UTC; None where rows have no time.
    days
        Days (UTC) that have a row; 0 without time.
    """

    rows: int
    first: datetime | None = None
    last: datetime | None = None
    days: int = 0


class Reliability(Frozen):
    """How well probabilities of the holdout's rows meant what they said, before and after.

    Attributes
    ----------
    brier, log_loss, error
        Of the calibrated probabilities; the error is the mean distance over bins.
    brier_before, log_loss_before, error_before
        Of what the estimator gave.
    """

    brier: float
    log_loss: float
    error: float
    brier_before: float
    log_loss_before: float
    error_before: float


class Evidence(Frozen):
    """What a model card tells of a fit and of the holdout that judged it.

    Attributes
    ----------
    score
        The metric on the holdout.
    slices
        Scores of its parts, and of the whole with its interval.
    holdout, served
        Rows that judged the model, and rows the served model was fitted on.
    shares
        What the model leans on: feature and share, the largest first; none where nothing is known.
    levels
        Levels of each category that the served model tells apart.
    target_range
        Smallest and largest target among the served model's rows; None for classes.
    classes
        Of the target; none for regression.
    untested
        Where the holdout could not look, in words.
    """

    score: float
    rule: Rule
    reliability: Reliability | None
    slices: SliceReport
    holdout: Span
    served: Span
    shares: tuple[tuple[str, float], ...]
    levels: dict[str, tuple[str, ...]]
    target_range: tuple[float, float] | None
    classes: tuple[str, ...]
    untested: tuple[str, ...]


def gather_evidence(
    workload: Workload,
    table: pa.Table,
    fitted: np.ndarray,
    held: pa.Table,
    judged: tuple[Scorer, Predictions],
    slices: SliceReport,
    reference: Reference,
) -> Evidence:
    """Gather what the card tells of a fit.

    Parameters
    ----------
    workload
        What was to be learned.
    table
        All rows of the snapshot, shape (n_rows, n_columns).
    fitted : np.ndarray of int64
        Those that the served model was fitted on.
    held
        Those that judged it.
    judged
        The model they judged, and what its estimator said of them, not yet calibrated.
    slices, reference
        Scores of parts of the holdout; importance of features.
    """
    scorer, before = judged
    known, target = table.take(pa.array(fitted)), scorer.target
    y = target.encode(held.column(target.name))
    ends = pc.min_max(known.column(target.name)) if target.task == "regression" else None
    names = (c.name for c in reference.binning.features)
    ranked = sorted(zip(names, reference.importance, strict=True), key=lambda p: -p[1])
    return Evidence(
        score=slices.whole.score,
        rule=scorer.rule,
        reliability=_reliability(y, before, scorer),
        slices=slices,
        holdout=span_of(held, workload),
        served=span_of(known, workload),
        shares=tuple((name, share) for name, share in ranked if share > 0),
        levels={f.name: f.levels for f in scorer.encoding.features if f.levels},
        target_range=None if ends is None else (_number(ends["min"]), _number(ends["max"])),
        classes=target.classes,
        untested=tuple(_untested(known, held, scorer.encoding, workload)),
    )


def _number(value: pa.Scalar) -> float:
    return float(value.as_py())


def _reliability(y: np.ndarray, before: Predictions, scorer: Scorer) -> Reliability | None:
    if before.probability is None:
        return None
    after = scorer.decided(before).probability
    assert after is not None  # noqa: S101 - probabilities stay probabilities
    return Reliability(
        brier=brier_score(after, y),
        log_loss=float(log_losses(after, y).mean()),
        error=calibration_error(reliability(after, y)),
        brier_before=brier_score(before.probability, y),
        log_loss_before=float(log_losses(before.probability, y).mean()),
        error_before=calibration_error(reliability(before.probability, y)),
    )


def span_of(table: pa.Table, workload: Workload) -> Span:
    """Return how many rows a table has, and when they lie."""
    if workload.time is None or table.num_rows == 0:
        return Span(rows=table.num_rows)
    times = _micros(table, workload.time)
    return Span(
        rows=table.num_rows,
        first=_moment(times.min()),
        last=_moment(times.max()),
        days=len(np.unique(block_ids(times, table.num_rows))),
    )


def _micros(table: pa.Table, time: str) -> np.ndarray:
    values: np.ndarray = table.column(time).cast(pa.int64()).to_numpy()
    return values


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(int(micros) // 1_000_000, UTC)


def _untested(
    known: pa.Table, held: pa.Table, encoding: Encoding, workload: Workload
) -> Iterator[str]:
    """Say which times of year and levels the holdout has no row of."""
    if workload.time is not None:
        fitted, judged = (_months(t, workload.time) for t in (known, held))
        if unjudged := sorted(fitted - judged):
            yield f"months without a row in the holdout: {_named(unjudged)}"
        if unseen := sorted(set(range(12)) - fitted - judged):
            yield f"months without any row: {_named(unseen)}"
    for feature in encoding.features:
        if not feature.levels:
            continue
        there = set(pc.unique(held.column(feature.source).cast(pa.string())).to_pylist())
        missing = [level for level in feature.levels if level not in there]
        if missing:
            more = (
                "" if len(missing) <= _MOST_LEVELS else f" and {len(missing) - _MOST_LEVELS} more"
            )
            yield (
                f"levels of {feature.name} without a row in the holdout: "
                f"{', '.join(missing[:_MOST_LEVELS])}{more}"
            )


def _months(table: pa.Table, time: str) -> set[int]:
    return {int(m) - 1 for m in pc.unique(pc.month(table.column(time))).to_pylist()}


def _named(months: list[int]) -> str:
    return ", ".join(_MONTHS[m] for m in months)
