"""Plots of a drift check: figures without a window, a display or a global state."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinloop.drift import FeatureDrift
from twinloop.profile import PREDICTION
from twinloop.watches import Watch

_BLUE, _ORANGE, _GREY = "#2f6db3", "#d9822b", "#8a8f98"
_MOST_FEATURES = 20


def drift_plot(features: Sequence[FeatureDrift]) -> Figure:
    """Draw columns by how far they moved, beside how much the model uses them."""
    shown = features[:_MOST_FEATURES][::-1]
    height = 1.4 + 0.27 * len(shown)
    figure = Figure(figsize=(8.4, height), layout="constrained")
    moved, used = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    names = [f.column for f in shown]
    colours = [_ORANGE if f.drifted else _BLUE for f in shown]
    moved.barh(names, [f.distance for f in shown], color=colours)
    moved.set(title="How far columns moved", xlabel="distance; drifted in orange")
    own = [0.0 if f.column == PREDICTION else f.importance for f in shown]
    used.barh(names, own, color=_GREY)
    used.set(title="and what the model uses", xlabel="share of the model")
    for axes in (moved, used):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def course_plot(watches: Sequence[Watch], metric: str) -> Figure:
    """Draw the metric over past checks: estimate with interval, truth, decisions, champions."""
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="check, UTC", ylabel=metric)
    axes.spines[["top", "right"]].set_visible(False)
    moments = np.array([np.datetime64(w.as_of.replace(tzinfo=None)) for w in watches])
    fields = ("estimated", "low", "high", "realised", "promised")
    lines = {f: np.array([getattr(w, f) for w in watches], np.float64) for f in fields}
    axes.fill_between(moments, lines["low"], lines["high"], color=_BLUE, alpha=0.15, linewidth=0)
    style = "o-" if len(watches) < 60 else "-"
    axes.plot(moments, lines["estimated"], style, markersize=3, color=_BLUE, label="estimated")
    axes.plot(moments, lines["realised"], style, markersize=3, color="k", label="realised")
    axes.step(
        moments,
        lines["promised"],
        "--",
        where="post",
        linewidth=1,
        color=_GREY,
        label="promised",
    )
    _scaled(axes, lines)
    changes = [i for i in range(1, len(watches)) if watches[i].version != watches[i - 1].version]
    for i in changes:
        axes.axvline(moments[i], color=_GREY, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"v{watches[i].version}",
            (moments[i], 1.0),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            color=_GREY,
        )
    for action, marker, face in (("watch", "o", "none"), ("retrain", "^", _ORANGE)):
        at = moments[[w.action == action for w in watches]]
        if len(at):
            ground = np.full(len(at), 0.03)
            axes.scatter(
                at,
                ground,
                marker=marker,
                facecolors=face,
                edgecolors=_ORANGE,
                label=action,
                transform=axes.get_xaxis_transform(),
                zorder=3,
            )
    axes.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.04), fontsize=9)
    figure.autofmt_xdate()
    return figure


def _scaled(axes: Axes, lines: dict[str, np.ndarray]) -> None:
    """Have the scale show all lines, and of wide intervals as much as does not hide them."""
    inner = np.concatenate([lines[f] for f in ("estimated", "realised", "promised")])
    inner = inner[np.isfinite(inner)]
    if not len(inner):
        return
    low, high = float(inner.min()), float(inner.max())
    room = max(high - low, 0.1 * abs(high), 1e-9)
    ends = np.concatenate([lines["low"], lines["high"], inner])
    ends = ends[np.isfinite(ends)]
    bottom, top = max(float(ends.min()), low - room), min(float(ends.max()), high + room)
    axes.set_ylim(bottom - 0.12 * (top - bottom), top + 0.03 * (top - bottom))
