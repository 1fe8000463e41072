"""The log plan of how far a score can be trusted: calibration, slices and learning curve."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from twinloop.amounts import brackets
from twinloop.calibration import brier_score, calibration_error, log_losses, reliability
from twinloop.learning_curve import CurvePoint
from twinloop.logplan import LogItem, Metric, Param, Plot, Table, Tag, Text
from twinloop.plots import learning_curve_plot, reliability_plot, slices_plot
from twinloop.rule import Rule
from twinloop.slices import MIN_ROWS, SliceReport, SliceScore

_MOST_SLICES = 10


def plan_rule(
    rule: Rule, y: np.ndarray, before: np.ndarray | None, after: np.ndarray | None
) -> Iterator[LogItem]:
    """Yield the log of calibration and threshold; nothing for regression.

    Parameters
    ----------
    rule
        What was learned from rows outside the fit.
    y : np.ndarray of int64, shape (n_rows,)
        True classes of the holdout's rows.
    before, after : np.ndarray of float64, shape (n_rows, n_classes), or None
        Probabilities of these rows as the estimator gave them, and calibrated.
    """
    if before is None or after is None:
        return
    yield Param("calibration", rule.calibration.method)
    bins = reliability(after, y)
    yield Metric("calibration/brier", brier_score(after, y))
    yield Metric("calibration/log_loss", float(log_losses(after, y).mean()))
    yield Metric("calibration/error", calibration_error(bins))
    yield Metric("calibration/bins", float(len(bins)))
    plain = None
    if rule.calibration.method != "none":
        plain = reliability(before, y)
        yield Metric("calibration/brier_before", brier_score(before, y))
        yield Metric("calibration/log_loss_before", float(log_losses(before, y).mean()))
        yield Metric("calibration/error_before", calibration_error(plain))
        yield Metric("calibration/log_loss_saved", rule.calibration.gain)
    if after.shape[1] == 2:
        yield Metric("calibration/threshold", rule.threshold)
    error, method = calibration_error(bins), rule.calibration.method
    yield Plot("plots/calibration.png", partial(reliability_plot, bins, plain, error, method))


def plan_slices(report: SliceReport, metric: str) -> Iterator[LogItem]:
    """Yield the log of a holdout's slices, the worst first; nothing where there are none."""
    if not report.slices:
        return
    yield Metric("slices/shown", float(len(report.slices)))
    yield Metric("slices/worse", float(len(report.worse)))
    yield Metric(f"slices/worst_{metric}", report.slices[0].score)
    if report.worse:
        yield Tag("twinloop.worse_slices", ", ".join(slice_names(report))[:4000])
    yield Text("slices.json", report.model_dump_json(indent=1))
    yield Table(
        "slices",
        f"Worst slices of the holdout by {metric}, all rows {report.whole.score:.4g}; of at least "
        f"{MIN_ROWS} rows ({report.hidden} others not shown)",
        ("slice", metric, "95 % interval", "rows", "clearly worse"),
        tuple(_row(s) for s in report.slices[:_MOST_SLICES]),
    )
    yield Plot("plots/slices.png", partial(slices_plot, report, metric))


def _row(s: SliceScore) -> tuple[str, ...]:
    name = f"{s.column} = {s.level}"
    mark = "yes" if s.worse else ""
    return name, f"{s.score:.4g}", brackets(s.low, s.high), str(s.rows), mark


def slice_names(report: SliceReport) -> list[str]:
    """Return a short name of each slice clearly worse than the whole: ``plan = basic``."""
    return [f"{s.column} = {s.level}" for s in report.worse]


def plan_curve(points: tuple[CurvePoint, ...], metric: str) -> Iterator[LogItem]:
    """Yield the log of a learning curve, fitted rows as steps; nothing without one."""
    if not points:
        return
    for point in points:
        yield Metric(f"accuracy/curve_{metric}", point.result.valid, round(point.rows))
        yield Metric(f"accuracy/curve_train_{metric}", point.result.train, round(point.rows))
    yield Plot("plots/learning_curve.png", partial(learning_curve_plot, points, metric))
