"""Policies held against each other."""

import csv
import io
from collections.abc import Sequence

import numpy as np
import pytest

from twinloop.replay import PolicyResult
from twinloop.replay_plots import frontier_plot
from twinloop.standings import compare_policies, frontier, policies_csv


def result(policy: str, error: float, cost: float, metric: str = "rmse") -> PolicyResult:
    """Return what a policy came to."""
    return PolicyResult(
        policy=policy,
        metric=metric,
        currency="EUR",
        error=error,
        trainings=1,
        promotions=1,
        scored=10,
        quarantined=0,
        training_money=cost,
        money=2 * cost,
        seconds=1.0,
        ticks=(),
    )


FOUR = (
    result("never", 1.0, 1.0),
    result("every:28d", 0.6, 4.0),
    result("every:7d", 0.5, 20.0),
    result("drift", 0.55, 3.0),
)


def test_gains_are_held_against_never_and_the_best_schedule() -> None:
    """A policy that halves the gain of the best schedule has half of it; the dearest costs all."""
    never, monthly, weekly, drift = compare_policies(FOUR)
    assert (never.gain, never.share, never.cost) == (0, 0, 0.05)
    assert [monthly.gain, monthly.share] == pytest.approx([0.4, 0.8])
    assert (weekly.gain, weekly.share, weekly.cost) == (0.5, 1.0, 1.0)
    assert [drift.share, drift.cost] == pytest.approx([0.9, 0.15])


def test_more_is_better_for_some_metrics() -> None:
    """Of accuracies the larger is the gain."""
    found = compare_policies(
        [result("never", 0.5, 1, "accuracy"), result("every:7d", 0.75, 2, "accuracy")]
    )
    assert [s.gain for s in found] == [0, 0.25]
    assert [s.frontier for s in found] == [True, True]


@pytest.mark.parametrize(
    ("results", "shares"),
    [
        (FOUR[1:], [None, None, None]),
        ((FOUR[0], FOUR[3]), [None, None]),
        ((FOUR[0], result("every:7d", 1.5, 9.0)), [None, None]),
    ],
    ids=["no never", "no schedule", "no schedule gained"],
)
def test_without_a_measure_there_is_no_share(
    results: Sequence[PolicyResult], shares: list[None]
) -> None:
    """Nothing is divided by a gain that is not there."""
    assert [s.share for s in compare_policies(results)] == shares


def test_the_frontier_is_made_of_schedules() -> None:
    """A schedule that another beats in both is not on it; drift may lie beyond it."""
    worse = result("every:14d", 0.61, 9.0)
    assert [r.policy for r in frontier([worse, *FOUR])] == ["never", "every:28d", "every:7d"]
    standings = {s.policy: s.frontier for s in compare_policies([worse, *FOUR])}
    assert standings == {
        "never": True,
        "every:28d": True,
        "every:7d": True,
        "drift": True,
        "every:14d": False,
    }


def test_the_table_has_a_line_a_policy() -> None:
    """What is not known is left empty."""
    table = list(csv.DictReader(io.StringIO(policies_csv(FOUR[1:], compare_policies(FOUR[1:])))))
    assert [line["policy"] for line in table] == ["every:28d", "every:7d", "drift"]
    assert [line["gain_over_never"] for line in table] == ["", "", ""]
    assert [float(line["training_EUR"]) for line in table] == [4, 20, 3]


@pytest.mark.parametrize("results", [FOUR, FOUR[:1], FOUR[3:], (result("never", 1.0, 0.0),)])
def test_the_frontier_is_drawn(results: Sequence[PolicyResult]) -> None:
    """Each policy has its name in the figure, and the line joins the frontier."""
    figure = frontier_plot(results)
    figure.savefig(io.BytesIO(), format="png", dpi=60)
    (axes,) = figure.axes
    assert {t.get_text() for t in axes.texts} == {r.policy for r in results}
    line = axes.lines[0]
    assert np.asarray(line.get_xdata()).tolist() == [r.training_money for r in frontier(results)]
