"""Plots of a search: how far it got by trials and by seconds, and which settings mattered."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinloop.evaluation import METRICS
from twinloop.tuning import Search, Trial

_BLUE, _ORANGE, _GREY = "#2f6db3", "#d9822b", "#8a8f98"


def history_plot(search: Search) -> Figure:
    """Draw the score of each trial and the best so far, over trials and over seconds.

    Only trials that saw all folds can be the best; those given up before are drawn smaller.
    """
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    figure.suptitle(f"Tuning {search.candidate}: mean {search.metric} over folds")
    left.set(xlabel="trials", ylabel=search.metric)
    right.set(xlabel="seconds of searching")
    whole = [t for t in search.trials if t.state == "complete"]
    given_up = [t for t in search.trials if t.state == "pruned"]
    best = _best_so_far([t.score for t in whole], search.metric)
    _draw(left, lambda t: t.number + 1.0, whole, given_up, best)
    _draw(right, lambda t: t.spent, whole, given_up, best)
    _see_the_best(left, [t.score for t in whole])
    left.scatter([], [], s=18, color=_BLUE, label="all folds")
    left.scatter([], [], s=8, color=_GREY, label="given up")
    left.plot([], [], color=_ORANGE, label="best so far")
    left.legend(frameon=False)
    return figure


def _draw(
    axes: Axes,
    at: Callable[[Trial], float],
    whole: Sequence[Trial],
    given_up: Sequence[Trial],
    best: np.ndarray,
) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.scatter([at(t) for t in given_up], [t.score for t in given_up], s=8, color=_GREY)
    axes.scatter([at(t) for t in whole], [t.score for t in whole], s=18, color=_BLUE)
    axes.step([at(t) for t in whole], best, where="post", color=_ORANGE)


def _best_so_far(scores: list[float], metric: str) -> np.ndarray:
    pick = np.fmax if METRICS[metric].greater_is_better else np.fmin
    return pick.accumulate(np.asarray(scores, float))


def _see_the_best(axes: Axes, scores: list[float]) -> None:
    """Let a few hopeless trials lie outside: what matters is the difference among good ones."""
    known = np.asarray(scores, float)
    known = known[np.isfinite(known)]
    if len(known) > 4:
        low, high = np.quantile(known, [0.0, 1.0])
        middle = np.median(known)
        room = 3 * float(np.median(np.abs(known - middle))) or float(high - low) or 1.0
        bottom, top = max(float(low), middle - room), min(float(high), middle + room)
        axes.set_ylim(bottom - 0.1 * room, top + 0.1 * room)


def settings_plot(candidate: str, importance: dict[str, float]) -> Figure:
    """Draw which settings the trials' scores hang on."""
    names = sorted(importance, key=lambda name: importance[name])
    figure = Figure(figsize=(6.4, 1.2 + 0.25 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.set(title=f"Tuning {candidate}: what matters", xlabel="share of the importance")
    axes.spines[["top", "right"]].set_visible(False)
    axes.barh(names, [importance[name] for name in names], color=_BLUE)
    return figure
