"""A replay's clock, its policies, and the sums over its ticks."""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.errors import WorkloadError
from twinloop.evaluation import METRICS
from twinloop.replay import Policy, Tick, by_month, clock, overall
from twinloop.scorer import Predictions

START = datetime(2011, 7, 1, tzinfo=UTC)
SPANS = st.integers(1, 10**8).map(lambda n: timedelta(seconds=n))


def tick(at: datetime, error: float | None, labelled: int) -> Tick:
    """Return what one stop of the clock saw."""
    return Tick(as_of=at, scored=labelled, quarantined=0, error=error, labelled=labelled)


@given(st.integers(0, 40), SPANS, st.floats(0, 0.999))
def test_the_clock_stops_at_equal_steps_and_never_passes_the_end(
    steps: int, step: timedelta, rest: float
) -> None:
    """It first stops a step after the start, and last where no other step would fit."""
    end = START + steps * step + rest * step
    stops = clock(START, end, step)
    assert len(stops) == steps
    assert all(b - a == step for a, b in pairwise([START, *stops]))
    assert all(stop <= end for stop in stops)


@pytest.mark.parametrize("step", [timedelta(0), timedelta(days=-1)])
def test_a_clock_that_leads_nowhere_is_refused(step: timedelta) -> None:
    """A step of no length would never reach the end."""
    with pytest.raises(WorkloadError, match="never ends"):
        clock(START, START + timedelta(days=1), step)


@pytest.mark.parametrize(
    ("text", "days", "slug"),
    [
        ("never", None, "never"),
        ("drift", None, "drift"),
        ("every:28d", 28, "every-28d"),
        ("every:4w", 28, "every-28d"),
        ("every:36h", 1.5, "every-36h"),
        ("every:1.5d", 1.5, "every-36h"),
    ],
)
def test_a_policy_is_read_and_spelt(text: str, days: float | None, slug: str) -> None:
    """It knows its span, has a name for a folder, and its own spelling reads back equal."""
    found = Policy.parse(text)
    assert found.every == (None if days is None else timedelta(days=days))
    assert found.slug == slug
    assert Policy.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("drifts", "unknown policy 'drifts'. Did you mean 'drift'?"),
        ("Never", "unknown policy 'Never'. Did you mean 'never' or"),
        ("evry:28d", "unknown policy 'evry:28d'. Did you mean 'every:28d'?"),
        ("sometimes", "Known: drift, every:28d, never."),
        ("", "unknown policy ''"),
        ("drift:7d", "unknown policy 'drift:7d'. Did you mean 'drift'"),
        ("every", "policy 'every': '' is no duration, like every:28d."),
        ("every:28", "policy 'every:28': '28' is no duration"),
        ("every:soon", "'soon' is no duration"),
        ("every:-7d", "'-7d' is no duration"),
        ("every:-P7D", "'-P7D' is no duration"),
        ("every:0d", "no time lies between two trainings"),
    ],
)
def test_a_policy_that_is_none_is_refused(text: str, words: str) -> None:
    """The error names what was given, and the nearest that would do."""
    with pytest.raises(WorkloadError) as caught:
        Policy.parse(text)
    assert words in caught.value.message


@pytest.mark.parametrize("metric", ["rmse", "rmsle", "mae", "log_loss", "brier", "accuracy"])
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 20), min_size=1, max_size=8))
def test_overall_is_the_metric_of_all_rows_at_once(
    metric: str, seed: int, sizes: list[int]
) -> None:
    """However the rows fall into ticks, their sum equals one look at all of them."""
    draw = np.random.default_rng(seed)
    n_rows = sum(sizes)
    classes = metric in ("log_loss", "brier", "accuracy")
    y = draw.integers(0, 2, n_rows) if classes else draw.exponential(10, n_rows)
    shares = draw.dirichlet(np.ones(2), n_rows)
    value = shares.argmax(axis=1) if classes else draw.exponential(10, n_rows)
    predictions = Predictions(value, shares)
    ticks, at = [], 0
    for size in sizes:
        part = np.arange(at, at + size)
        error = METRICS[metric].score(y[part], predictions.take(part)) if size else None
        ticks.append(tick(START, error, size))
        at += size
    found = overall(metric, ticks)
    if n_rows == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(METRICS[metric].score(y, predictions), rel=1e-9)


def test_overall_of_other_metrics_is_the_mean_by_rows() -> None:
    """A tick without labels or without a value, for want of a second class, does not count."""
    errors = [(0.9, 10), (None, 0), (math.nan, 24), (0.6, 20)]
    ticks = [tick(START, error, n) for error, n in errors]
    assert overall("roc_auc", ticks) == pytest.approx(0.7)
    assert math.isnan(overall("roc_auc", ticks[1:3]))


@given(SPANS, st.integers(0, 60))
def test_months_keep_all_ticks_in_order(step: timedelta, n_ticks: int) -> None:
    """Put end to end, the months are the ticks as they came, each month named once."""
    step = min(step, timedelta(days=45))
    ticks = [tick(START + i * step, float(i), i) for i in range(n_ticks)]
    months = by_month(ticks)
    assert [t for _, found in months for t in found] == ticks
    names = [name for name, _ in months]
    assert names == sorted(set(names))
    assert all({f"{t.as_of:%Y-%m}" for t in found} == {name} for name, found in months)


@pytest.mark.parametrize("error", [None, 0.25])
def test_a_tick_says_itself_in_one_line(error: float | None) -> None:
    """When, which version, how many and how good; what did not happen is not mentioned."""
    quiet = Tick(as_of=START, scored=7, quarantined=0, error=error, labelled=7, champion="3")
    assert "2011-07-01  v3 scored 7, error" in quiet.line()
    assert ("0.2500" in quiet.line()) == (error is not None)
    assert not any(word in quiet.line() for word in ("quarantined", "drifted", "trained"))
    busy = quiet.model_copy(
        update={"quarantined": 2, "drifted": ("n", "k"), "trained": True, "verdict": "keep"}
    )
    for word in ("2 quarantined", "drifted: n, k", "trained: keep"):
        assert word in busy.line()
    assert "\n" not in busy.line()
