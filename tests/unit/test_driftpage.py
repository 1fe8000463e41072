"""The page of a drift check: what it says and draws; names are never taken for markup."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest

from twinloop.course import by_effect, draw_columns, draw_course, round_step
from twinloop.decision import Expectation, decide
from twinloop.drift import FeatureDrift
from twinloop.driftpage import short_page, write_drift_page
from twinloop.estimate import Estimate
from twinloop.logplan import Note, Plot, Text, plan_drift_page
from twinloop.page import to_html, to_markdown
from twinloop.watches import Watch
from twinloop.workload import Workload

START = datetime(2026, 1, 5, 6, tzinfo=UTC)
WORKLOAD = Workload.model_validate(
    {"name": "w", "task": "regression", "source": {"kind": "files", "path": "x"}, "target": "y"}
)
FEATURES = tuple(
    FeatureDrift(column=n, distance=d, p_value=0.01, importance=i, drifted=d > 0.2)
    for n, d, i in (
        ("idle", 0.9, 0.0),
        ("used", 0.5, 0.6),
        ("<script>alert(1)</script>", 0.1, 0.4),
        ("prediction", 0.05, 1.0),
    )
)
ESTIMATE = Estimate(metric="rmse", value=1.0, low=0.8, high=1.3, rows=70, checks=4, variance=0.01)


def weeks(n: int) -> list[Watch]:
    """Return weekly watches; the model changes after five, and labels come from the third on."""
    return [
        Watch(
            as_of=START + timedelta(days=7 * i),
            version="1" if i < 5 else "2",
            action=("fine", "watch", "retrain")[i % 3],
            cause="labels" if i % 3 == 2 else "",
            held="cooldown: <b>5 days</b>" if i % 3 == 1 else "",
            estimated=1.0 + 0.01 * i,
            low=0.8,
            high=1.3,
            realised=None if i < 2 else 1.1,
            promised=0.9,
        )
        for i in range(n)
    ]


def page(n: int = 9) -> str:
    """Write the page of the last of some watches."""
    known = Expectation(promised=0.9, estimate=ESTIMATE, realised=1.1)
    decision = decide(FEATURES, None, 0.0, WORKLOAD, known)
    return to_html(write_drift_page(decision, weeks(n), WORKLOAD))


def test_the_page_says_what_was_decided_and_what_it_cannot_know() -> None:
    """Decision, estimate, truth, promise and the words on concept drift are on it."""
    text = page()
    for words in ("w: retrain", "[0.8, 1.3]", "0.9 promised", "A changed concept", "used drifted"):
        assert words in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_names_are_no_markup() -> None:
    """A column or a guard that looks like HTML is shown as it is."""
    text = page()
    assert "<script>" not in text
    assert "<b>5 days" not in text
    assert "&lt;script&gt;" in text


def drawn(watches: list[Watch]) -> ET.Element:
    """Draw, and read the drawing as XML."""
    return ET.fromstring(draw_course(watches, "rmse"))  # noqa: S314 - our own


def test_every_check_and_champion_is_drawn() -> None:
    """One mark a check, a point for each truth, a line where the champion changed."""
    drawing = drawn(weeks(9))
    titles = [t.text for t in drawing.iter("title")]
    assert len(titles) == 9
    assert titles[2] == "2026-01-19: retrain (labels)"
    points = [c for c in drawing.iter("circle") if c.get("fill") == "var(--ink)"]
    assert len(points) == 7
    assert sum(t.text == "v2" for t in drawing.iter("text")) == 1


@pytest.mark.parametrize("n", [1, 2])
def test_young_workloads_have_a_page(n: int) -> None:
    """One check, without labels or an estimate, is drawn as well."""
    bare = [Watch(as_of=START + timedelta(days=i), action="fine") for i in range(n)]
    assert len(list(drawn(bare).iter("title"))) == n
    assert "NaN" not in draw_course(weeks(n), "rmse")


def test_wide_intervals_do_not_hide_the_lines() -> None:
    """An interval a thousand times as wide as the lines is cut off, not the scale stretched."""
    wide = [w.model_copy(update={"high": 1000.0}) for w in weeks(6)]
    scale = [t.text or "" for t in drawn(wide).iter("text") if t.get("text-anchor") == "end"]
    assert max(float(t) for t in scale) < 3


def test_columns_come_by_what_their_drift_does() -> None:
    """Drift of what the model uses comes before larger drift of what it does not."""
    assert [f.column for f in by_effect(FEATURES)][:2] == ["used", "idle"]
    ET.fromstring(draw_columns(FEATURES))  # noqa: S314 - our own


def test_the_short_form_is_markdown() -> None:
    """Reasons and the last checks, for the page of the flow run."""
    known = Expectation(promised=0.9, estimate=ESTIMATE)
    decision = decide(FEATURES, None, 0.0, WORKLOAD, known)
    text = short_page(decision, weeks(4), WORKLOAD)
    assert text.startswith("# w: retrain")
    assert "| 2026-01-26 | v1 |" in text
    assert "<svg" not in text
    assert "<svg" not in to_markdown(write_drift_page(decision, weeks(4), WORKLOAD))


def test_the_plan_holds_page_picture_and_note() -> None:
    """All three, under names that do not change."""
    decision = decide(FEATURES, None, 0.0, WORKLOAD, Expectation(promised=0.9, estimate=ESTIMATE))
    text, plot, note = plan_drift_page(decision, weeks(3), WORKLOAD)
    assert isinstance(text, Text)
    assert isinstance(plot, Plot)
    assert isinstance(note, Note)
    assert (text.path, plot.path, note.name) == (
        "drift.html",
        "plots/metric_over_time.png",
        "drift-check",
    )


@pytest.mark.parametrize(
    ("least", "step"), [(0.9, 1), (1.0, 1), (1.1, 2), (0.03, 0.05), (600, 1000)]
)
def test_scales_have_round_numbers(least: float, step: float) -> None:
    """The next of 1, 2 and 5 times a power of ten."""
    assert round_step(least) == pytest.approx(step)
