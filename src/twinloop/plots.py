"""Plots of a training: figures without a window, a display or a global state."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from twinloop.calibration import Bin
from twinloop.choice import front_names
from twinloop.evaluation import METRICS
from twinloop.front import pareto_front
from twinloop.leaderboard import standing
from twinloop.learning_curve import CurvePoint
from twinloop.results import CandidateResult, Leaderboard
from twinloop.scorer import Predictions, Target
from twinloop.slices import SliceReport
from twinloop.verdict import Verdict
from twinloop.vocabulary import AnyCandidate

_BLUE, _ORANGE, _GREY = "#2f6db3", "#d9822b", "#8a8f98"
_MARKERS = "osD^vPXh"
_TWO_AXES = "front of the two axes alone"
_MOST_FEATURES = 20
_MOST_POINTS = 5000


def _figure(title: str, x: str, y: str, *, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def holdout_plots(
    target: Target, y: np.ndarray, predictions: Predictions, times: np.ndarray | None
) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the name of each figure of what the holdout shows, and what draws it.

    Parameters
    ----------
    target
        What was predicted.
    y : np.ndarray, shape (n_rows,)
        The truth: numbers, or codes of classes.
    predictions
        Of the same rows.
    times : np.ndarray of int64, shape (n_rows,), or None
        Microseconds since 1970, UTC.
    """
    if target.task == "regression":
        yield "predicted_against_true", partial(_scatter, target.name, y, predictions.value)
        if times is not None:
            yield (
                "residuals_over_time",
                partial(_residuals, target.name, y - predictions.value, times),
            )
        return
    assert predictions.probability is not None  # noqa: S101 - classes come with probabilities
    if len(target.classes) == 2 and len(np.unique(y)) == 2:
        yield "roc", partial(_roc, y, predictions.probability[:, 1])
    else:
        yield "confusion", partial(_confusion, target.classes, y, predictions.value)


def _scatter(name: str, y: np.ndarray, predicted: np.ndarray) -> Figure:
    figure, axes = _figure("Holdout: predicted against true", f"true {name}", f"predicted {name}")
    step = max(1, len(y) // _MOST_POINTS)
    axes.scatter(y[::step], predicted[::step], s=6, alpha=0.35, color=_BLUE, linewidths=0)
    ends = [float(min(y.min(), predicted.min())), float(max(y.max(), predicted.max()))]
    axes.plot(ends, ends, color=_GREY, linewidth=1)
    return figure


def _residuals(name: str, residuals: np.ndarray, times: np.ndarray) -> Figure:
    figure, axes = _figure("Holdout: residuals over time", "time, UTC", f"true - predicted {name}")
    order = np.argsort(times, kind="stable")[:: max(1, len(times) // _MOST_POINTS)]
    axes.plot(times[order].astype("datetime64[us]"), residuals[order], color=_BLUE, linewidth=0.8)
    axes.axhline(0, color=_GREY, linewidth=1)
    figure.autofmt_xdate()
    return figure


def _roc(y: np.ndarray, probability: np.ndarray) -> Figure:
    from sklearn.metrics import roc_curve

    figure, axes = _figure("Holdout: ROC", "false positive rate", "true positive rate")
    false, true, _ = roc_curve(y, probability)
    axes.plot(false, true, color=_BLUE)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    return figure


def _confusion(classes: tuple[str, ...], y: np.ndarray, predicted: np.ndarray) -> Figure:
    figure, axes = _figure("Holdout: confusion", "predicted", "true", height=5.5)
    counts = np.zeros((len(classes), len(classes)), int)
    known = y >= 0
    np.add.at(counts, (y[known], predicted[known]), 1)
    axes.imshow(counts, cmap="Blues")
    if len(classes) <= 12:
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes)
        for (i, j), n in np.ndenumerate(counts):
            if n:
                dark = n > counts.max() / 2
                axes.text(j, i, str(n), ha="center", va="center", color="w" if dark else "k")
    return figure


def importance_plot(names: tuple[str, ...], importance: tuple[float, ...]) -> Figure:
    """Draw the features the model leans on most."""
    order = np.argsort(importance)[-_MOST_FEATURES:]
    height = 1.2 + 0.25 * len(order)
    figure, axes = _figure("Feature importance", "share of the model", "", height=height)
    axes.barh([names[i] for i in order], [importance[i] for i in order], color=_BLUE)
    return figure


def leaderboard_plot(board: Leaderboard) -> Figure:
    """Draw the mean over folds with its interval, the winner on top, and every fold."""
    height = 1.2 + 0.45 * len(board.candidates)
    title = "Candidates: mean over folds, 95 % interval"
    figure, axes = _figure(title, board.winner.metric, "", height=height)
    for i, result in enumerate(board.candidates[::-1]):
        folds = [f.valid for f in result.folds]
        axes.scatter(folds, [i - 0.2] * len(folds), s=10, color=_GREY, linewidths=0)
        low, high = result.interval
        axes.plot([low, high], [i, i], color=_BLUE, linewidth=2)
        axes.scatter([result.valid], [i], s=40, color=_BLUE, zorder=3)
    axes.set_yticks(range(len(board.candidates)), [c.name for c in board.candidates[::-1]])
    axes.set_ylim(-0.6, len(board.candidates) - 0.4)
    return figure


def tradeoff_plot(board: Leaderboard) -> Figure:
    """Draw accuracy against latency and against the cost of the fits, the front as a line.

    The line joins the candidates that no other beats in both axes, colour tells those that none
    beats in accuracy, time, size and cost at once. Names stand below, where none hides another. The
    ground is white, whatever the page around.
    """
    figure = Figure(figsize=(9.6, 4.4), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    metric = board.winner.metric
    figure.suptitle(f"What accuracy costs: mean {metric} over folds, 95 % interval")
    left.set(xlabel="ms to predict 1,000 rows", ylabel=metric)
    right.set(xlabel=f"{board.currency} for the fits of all folds".strip())
    known = [(c, c.footprint) for c in board.candidates if c.footprint and not np.isnan(c.valid)]
    looks = _looks(board)
    _tradeoff_axes(left, [(c, 1e3 * f.batch_seconds) for c, f in known], looks)
    _tradeoff_axes(right, [(c, f.fit_money) for c, f in known], looks)
    figure.legend(
        handles=[*looks.values(), Line2D([], [], linestyle="--", color=_GREY, label=_TWO_AXES)],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure


def _looks(board: Leaderboard) -> dict[AnyCandidate, Line2D]:
    """Give each candidate a marker of its own, a colour for where it stands, and a caption."""
    front, looks = front_names(board.candidates), {}
    for i, c in enumerate(board.candidates):
        chosen, unbeaten = c is board.winner, c.name in front
        looks[c.name] = Line2D(
            [],
            [],
            linestyle="",
            marker="*" if chosen else _MARKERS[i % len(_MARKERS)],
            markersize=15 if chosen else 7,
            color=_ORANGE if chosen else _BLUE if unbeaten else _GREY,
            label=", ".join(filter(None, (c.name, standing(c, board, on_front=unbeaten)))),
        )
    return looks


def _tradeoff_axes(
    axes: Axes, placed: list[tuple[CandidateResult, float]], looks: dict[AnyCandidate, Line2D]
) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    costs = [cost for _, cost in placed]
    if costs and min(costs) > 0:
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, 2 * max(costs))
    unbeaten = pareto_front([(cost, METRICS[c.metric].gain(0.0, c.valid)) for c, cost in placed])
    line = sorted((placed[i][1], placed[i][0].valid) for i in unbeaten)
    axes.plot([x for x, _ in line], [y for _, y in line], "--", color=_GREY, linewidth=1.2)
    for c, cost in placed:
        look = looks[c.name]
        axes.vlines(cost, *c.interval, color=look.get_color(), linewidth=2)
        axes.plot(
            [cost],
            [c.valid],
            marker=look.get_marker(),
            markersize=look.get_markersize(),
            color=look.get_color(),
            markeredgecolor="white",
            zorder=3,
        )


def gap_plot(board: Leaderboard) -> Figure:
    """Draw the metric on fitted and on validation rows, by candidate: a wide gap is overfitting."""
    metric = board.winner.metric
    figure, axes = _figure("Train against validation, by fold", "", metric)
    for i, result in enumerate(board.candidates):
        for fold in result.folds:
            axes.plot([i - 0.15, i + 0.15], [fold.train, fold.valid], color=_GREY, linewidth=0.7)
        axes.scatter([i - 0.15] * len(result.folds), [f.train for f in result.folds], color=_BLUE)
        axes.scatter([i + 0.15] * len(result.folds), [f.valid for f in result.folds], color=_ORANGE)
    axes.set_xticks(range(len(board.candidates)), [c.name for c in board.candidates])
    axes.scatter([], [], color=_BLUE, label="train")
    axes.scatter([], [], color=_ORANGE, label="validation")
    axes.legend(frameon=False)
    return figure


def reliability_plot(
    bins: tuple[Bin, ...], before: tuple[Bin, ...] | None, error: float, method: str
) -> Figure:
    """Draw how often what was said came true, with intervals, and how it was uncalibrated."""
    rows = sum(b.rows for b in bins)
    title = f"Holdout: calibration, error {error:.3f} ({len(bins)} bins of {rows} rows)"
    figure, axes = _figure(title, "predicted probability", "observed share")
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    if before is not None:
        axes.plot(
            [b.said for b in before],
            [b.observed for b in before],
            "x--",
            color=_ORANGE,
            label="as the estimator gave them",
        )
    axes.vlines([b.said for b in bins], [b.low for b in bins], [b.high for b in bins], color=_BLUE)
    label = "not calibrated" if before is None else f"calibrated, {method}"
    axes.plot([b.said for b in bins], [b.observed for b in bins], "o-", color=_BLUE, label=label)
    axes.legend(frameon=False)
    return figure


def slices_plot(report: SliceReport, metric: str) -> Figure:
    """Draw the worst slices with their intervals, against the whole."""
    shown = report.slices[:_MOST_FEATURES][::-1]
    height = 1.4 + 0.25 * len(shown)
    figure, axes = _figure("Holdout: worst slices, 95 % interval", metric, "", height=height)
    axes.axvline(report.whole.score, color=_GREY, linewidth=1, label="all rows")
    for i, s in enumerate(shown):
        colour = _ORANGE if s.worse else _BLUE
        axes.plot([s.low, s.high], [i, i], color=colour, linewidth=2)
        axes.scatter([s.score], [i], color=colour, s=24, zorder=3)
    if report.worse:
        axes.scatter([], [], color=_ORANGE, label="clearly worse")
    axes.set_yticks(range(len(shown)), [f"{s.column} = {s.level} ({s.rows})" for s in shown])
    axes.legend(frameon=False)
    return figure


def verdict_plot(verdict: Verdict) -> Figure:
    """Draw the challenger's gain with its interval: on all fresh rows, the jury, and by slice."""
    jury = [c for c in verdict.checks if c.name == "jury" and c.low is not None]
    shown = verdict.slices[:_MOST_FEATURES]
    names = ["fresh rows", *("jury" for _ in jury), *(f"{s.name} ({s.rows})" for s in shown)]
    ends = [(verdict.low, verdict.high), *((c.low, c.high) for c in jury)]
    ends += [(s.low, s.high) for s in shown]
    gains = [verdict.gain, *(c.number for c in jury), *(s.gain for s in shown)]
    bad = [False, *(c.outcome == "fail" for c in jury), *(s.worse for s in shown)]
    height = 1.6 + 0.25 * len(names)
    figure, axes = _figure(f"Verdict: {verdict.outcome}", "", "", height=height)
    axes.set_xlabel(f"gain in {verdict.metric}, with one-sided ends; right of 0 is better")
    axes.axvline(0, color=_GREY, linewidth=1)
    for i, (low, high) in enumerate(np.array(ends, float)):
        colour, whole = _ORANGE if bad[i] else _BLUE, i == 0
        axes.plot([low, high], [-i, -i], color=colour, linewidth=3 if whole else 1.5)
    at, colours = -np.arange(len(names)), [_ORANGE if b else _BLUE for b in bad]
    sizes = [44.0] + [20.0] * (len(names) - 1)
    axes.scatter(np.array(gains, float), at, color=colours, s=sizes, zorder=3)
    if any(bad):
        axes.scatter([], [], color=_ORANGE, label="a veto")
        axes.legend(frameon=False)
    axes.set_yticks(at, names)
    axes.set_ylim(0.6 - len(names), 0.6)
    return figure


def learning_curve_plot(points: tuple[CurvePoint, ...], metric: str) -> Figure:
    """Draw the metric by the number of fitted rows, with intervals over folds."""
    title = "Winner: what more rows bring, 95 % interval"
    figure, axes = _figure(title, "fitted rows of a fold", metric)
    rows = [p.rows for p in points]
    ends = [p.interval for p in points]
    axes.plot(rows, [p.result.train for p in points], "o-", color=_BLUE, label="train")
    axes.plot(rows, [p.result.valid for p in points], "o-", color=_ORANGE, label="validation")
    axes.vlines(rows, [low for low, _ in ends], [high for _, high in ends], color=_ORANGE)
    axes.set_xscale("log")
    axes.set_xticks(rows, [f"{n:.0f}" for n in rows])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def replay_plot(
    ends: dict[str, list[datetime]], errors: dict[str, list[float]], metric: str
) -> Figure:
    """Draw the error over time, one line a policy."""
    figure, axes = _figure("Replay: error by tick", "time, UTC", metric)
    for policy, values in errors.items():
        axes.plot(np.array(ends[policy]), values, label=policy, linewidth=1.2)
    axes.legend(frameon=False)
    figure.autofmt_xdate()
    return figure
