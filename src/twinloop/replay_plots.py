"""Plots of a replay of several policies."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from twinloop.replay import PolicyResult
from twinloop.standings import frontier, schedules

_BLUE, _ORANGE, _GREY = "#2f6db3", "#d9822b", "#8a8f98"


def frontier_plot(results: Sequence[PolicyResult]) -> Figure:
    """Draw the error of each policy against what its trainings cost, each with its name.

    The line joins the schedules that no other schedule beats: what lies on the better side of it
    does better for its money than any of the schedules.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    metric, currency = results[0].metric, results[0].currency
    axes.set(
        title="Replay: error against cost of training",
        xlabel=f"cost of training, {currency}",
        ylabel=metric,
    )
    axes.spines[["top", "right"]].set_visible(False)
    front = frontier(results)
    axes.plot(
        [r.training_money for r in front],
        [r.error for r in front],
        color=_GREY,
        linewidth=1,
        label="frontier of the schedules",
    )
    by_clock = {r.policy for r in schedules(results)}
    for result in results:
        colour = _BLUE if result.policy in by_clock else _ORANGE
        axes.plot(result.training_money, result.error, "o", color=colour)
        axes.annotate(
            result.policy,
            (result.training_money, result.error),
            xytext=(6, 6),
            textcoords="offset points",
        )
    axes.margins(x=0.15, y=0.12)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
    axes.legend(frameon=False)
    return figure
