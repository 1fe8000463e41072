"""Plots of a training: figures without a window, a display or a global state."""

from collections.abc import Iterator
from datetime import datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinloop.results import Leaderboard
from twinloop.scorer import Predictions, Target

_BLUE, _ORANGE, _GREY = "#2f6db3", "#d9822b", "#8a8f98"
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
) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of what the holdout shows.

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
        yield "predicted_against_true", _scatter(target.name, y, predictions.value)
        if times is not None:
            yield "residuals_over_time", _residuals(target.name, y - predictions.value, times)
        return
    assert predictions.probability is not None  # noqa: S101 - classes come with probabilities
    if len(target.classes) == 2 and len(np.unique(y)) == 2:
        yield "roc", _roc(y, predictions.probability[:, 1])
    else:
        yield "confusion", _confusion(target.classes, y, predictions.value)
    yield "calibration", _calibration(y, predictions.probability)


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


def _calibration(y: np.ndarray, probability: np.ndarray) -> Figure:
    """Draw how often the class given most often came true, by its probability."""
    figure, axes = _figure("Holdout: calibration", "predicted probability", "observed share")
    if probability.shape[1] == 2:
        said, happened = probability[:, 1], (y == 1).astype(float)
    else:
        said, happened = probability.max(axis=1), (probability.argmax(axis=1) == y).astype(float)
    at = np.minimum((said * 10).astype(int), 9)
    n = np.bincount(at, minlength=10)
    full = n > 0
    x = np.bincount(at, said, 10)[full] / n[full]
    axes.plot(x, np.bincount(at, happened, 10)[full] / n[full], marker="o", color=_BLUE)
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
        axes.scatter(
            [f.valid for f in result.folds], [i] * len(result.folds), s=12, color=_GREY, alpha=0.6
        )
        low, high = result.interval
        axes.plot([low, high], [i, i], color=_BLUE, linewidth=2)
        axes.scatter([result.valid], [i], s=40, color=_BLUE, zorder=3)
    axes.set_yticks(range(len(board.candidates)), [c.name for c in board.candidates[::-1]])
    axes.set_ylim(-0.6, len(board.candidates) - 0.4)
    return figure


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


def drift_plot(columns: tuple[tuple[str, float, bool], ...]) -> Figure:
    """Draw columns by their distance from the reference: name, distance, drifted."""
    shown = columns[:_MOST_FEATURES][::-1]
    height = 1.2 + 0.25 * len(shown)
    figure, axes = _figure("Drift by column", "Jensen-Shannon distance", "", height=height)
    colours = [_ORANGE if drifted else _BLUE for _, _, drifted in shown]
    axes.barh([name for name, _, _ in shown], [d for _, d, _ in shown], color=colours)
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
