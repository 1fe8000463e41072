"""What is told of a verdict: each check with its number, on every page alike."""

import json

import numpy as np
import pytest

from twinloop.evaluation import METRICS
from twinloop.logplan import Metric, Plot, Table, Tag, Text
from twinloop.paired import Gain, Pairing
from twinloop.scorer import Predictions
from twinloop.slices import Slicing
from twinloop.verdict import (
    Verdict,
    baseline_check,
    checks_json,
    compare,
    first_version,
    limit_check,
    no_evidence,
    slice_gains,
    slices_check,
    with_checks,
)
from twinloop.verdictplan import plan_verdict


def judged() -> Verdict:
    """Return a verdict on a gain, with a veto by a limit and two slices."""
    draw = np.random.default_rng(0)
    y, n = np.zeros(300), 300
    old, new = (Predictions(s * draw.normal(size=n)) for s in (1.0, 0.5))
    pairing = Pairing(y, old, new, np.repeat(np.arange(30), 10), METRICS["rmse"])
    gains = slice_gains([Slicing("plan", np.arange(n) % 2, ("a|b", "c"))], pairing)
    checks = [slices_check(gains, "rmse", 0.95), limit_check("size", 7.5, 5.0)]
    return with_checks(compare(pairing, min_rows=30), checks, gains)


def test_every_check_is_a_line_and_a_number() -> None:
    """On the page of the flow run, in Markdown and as metrics."""
    verdict = judged()
    plan = list(plan_verdict(verdict))
    (table,) = (i for i in plan if isinstance(i, Table))
    assert [row[:2] for row in table.rows] == [
        ("gain", "pass"),
        ("slices", "pass"),
        ("size", "fail"),
    ]
    assert table.title.startswith("keep: size 7.5 MB, beyond 5; rmse ")
    numbers = {i.name: i.value for i in plan if isinstance(i, Metric)}
    assert (numbers["verdict/size"], numbers["verdict/size_limit"]) == (7.5, 5.0)
    assert numbers["verdict/gain"] == verdict.gain
    assert {"verdict/low", "verdict/high", "verdict/slices"} <= set(numbers)
    assert "verdict/gain_limit" not in numbers
    page = next(i.content for i in plan if isinstance(i, Text) and i.path == "verdict.md")
    for row in table.rows:
        assert row[5] in page
    assert "| plan = a/b |" in page
    assert Tag("twinloop.verdict", "keep") in plan


def test_the_plot_has_a_line_for_each_interval() -> None:
    """The whole on top, then the slices; none where there was nothing to compare."""
    (plot,) = (i for i in plan_verdict(judged()) if isinstance(i, Plot))
    (axes,) = plot.figure.axes
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names[0] == "fresh rows"
    assert sorted(names[1:]) == ["plan = a|b (150)", "plan = c (150)"]
    assert not [i for i in plan_verdict(no_evidence("rmse", "why")) if isinstance(i, Plot)]


def test_checks_fit_a_tag() -> None:
    """Whole where there is room, with their words cut where there is not, and always JSON."""
    whole = json.loads(checks_json(judged(), 5000))
    assert [c["name"] for c in whole] == ["gain", "slices", "size"]
    assert whole[2]["words"] == "size 7.5 MB, beyond 5"
    text = checks_json(judged(), 450)
    assert len(text) <= 450
    assert [c["outcome"] for c in json.loads(text)] == ["pass", "pass", "fail"]


@pytest.mark.parametrize(("number", "outcome"), [(5.0, "pass"), (5.01, "fail")])
def test_a_limit_may_be_reached_and_not_passed(number: float, outcome: str) -> None:
    """A first version beyond it is kept from serving."""
    check = limit_check("latency", number, 5.0)
    assert check.outcome == outcome
    first = first_version("rmse", 1.0, [check])
    assert first.outcome == ("promote" if outcome == "pass" else "keep")


def test_worse_than_a_constant_is_a_veto() -> None:
    """Where it is clear; where nothing can be told it is open, and vetoes nothing."""
    verdict = judged()
    worse = baseline_check(Gain(1.0, 2.0, -1.0, 90, 9, -1.2, -0.8, 0.0), "rmse")
    unclear = baseline_check(Gain(1.0, 1.1, -0.1, 90, 9, -0.3, 0.1, 0.2), "rmse")
    unknown = baseline_check(Gain(1.0, 1.1, -0.1, 4, 2), "rmse")
    assert [c.outcome for c in (worse, unclear, unknown)] == ["fail", "pass", "open"]
    promoted = verdict.model_copy(update={"outcome": "promote", "checks": verdict.checks[:1]})
    assert with_checks(promoted, [unclear, unknown]).outcome == "promote"
    assert with_checks(promoted, [worse]).outcome == "keep"
