"""Cycles of the calendar: taken for what they are where the past tells, and only there."""

from datetime import timedelta

import numpy as np
import pytest

from twinloop.cycles import periods, waves, which_waves
from twinloop.ordinary import p_values

DAY, WEEK = timedelta(days=1), timedelta(days=7)
MONTH = 365.25 / 12 / 7  # weeks


def chance(
    past: np.ndarray, now: float, span: timedelta | None = WEEK, ahead: float = 1.0
) -> float:
    """Return the p-value of one number after windows of 1,000,000 rows."""
    sizes = np.full(len(past), 1e6)
    return float(p_values(past[:, None], sizes, np.array([now]), 1e6, ahead, span)[0])


def monthly(n: int, spread: float = 0.02) -> np.ndarray:
    """Draw weeks of a number that goes along with the month."""
    noise = np.random.default_rng(0).normal(0, spread, n)
    return np.asarray(np.sin(2 * np.pi * np.arange(n) / MONTH) + noise)


@pytest.mark.parametrize(
    ("span", "n_windows", "wanted"),
    [
        (WEEK, 26, [MONTH, MONTH / 2]),
        (DAY, 26, [7, 7 / 2, 7 / 3]),
        (DAY, 100, [7, 7 / 2, 7 / 3]),
        (timedelta(hours=4), 72, [6, 3]),
        (timedelta(hours=1), 72, []),
        (timedelta(days=30), 24, []),
        (WEEK, 13, []),
        (WEEK, 17, [MONTH]),
        (WEEK, 3, []),
        (None, 1000, []),
        (timedelta(0), 1000, []),
    ],
)
def test_a_cycle_counts_that_was_seen_three_times(
    span: timedelta | None, n_windows: int, wanted: list[float]
) -> None:
    """And has few windows, its waves more than two, as long as twelve windows are left over."""
    assert periods(span, n_windows) == pytest.approx(tuple(wanted))


def test_a_change_smaller_than_the_cycle_is_found() -> None:
    """Half the height of the cycle, at any phase: found with the calendar, and not without."""
    weeks = monthly(34)
    for ahead, value in enumerate(weeks[26:], start=1):
        assert chance(weeks[:26], value, ahead=ahead) > 0.01
        assert chance(weeks[:26], value + 0.5, ahead=ahead) < 1e-6
    assert max(chance(weeks[:26], v + 0.5, None, i + 1.0) for i, v in enumerate(weeks[26:])) > 0.01


@pytest.mark.parametrize(("days", "n"), [(5, 120), (10, 180)])
def test_the_first_days_of_a_month_are_no_alarm(days: int, n: int) -> None:
    """A step, month after month: no wave goes around its edge and takes the edge for an alarm."""
    calendar = np.datetime64("2011-01-01") + np.arange(n + 300)
    of_month = (calendar - calendar.astype("datetime64[M]")).astype(int)
    noise = np.random.default_rng(1).normal(0, 0.1, (n + 300, 40))
    values = (of_month < days)[:, None] + noise
    sizes = np.full(n, 1e6)
    asked = [
        p_values(values[i : i + n], sizes, values[i + n], 1e6, 1.0, DAY) for i in range(0, 300, 3)
    ]
    assert np.mean(np.array(asked) < 1e-3) < 1e-3


def test_the_phase_is_that_of_the_new_window() -> None:
    """What is ordinary at the top of the cycle is an alarm at its bottom."""
    weeks = monthly(34)
    top, bottom = 26 + int(np.argmax(weeks[26:])), 26 + int(np.argmin(weeks[26:]))
    assert chance(weeks[:26], weeks[top], ahead=top - 25.0) > 0.01
    assert chance(weeks[:26], weeks[top], ahead=bottom - 25.0) < 1e-6


def test_weekdays_of_any_shape_are_known() -> None:
    """Three waves tell every day of the week by itself: quiet Sundays are no alarm on a Sunday."""
    days = np.where(np.arange(42) % 7 == 6, -1.0, 0.0)
    days += np.random.default_rng(1).normal(0, 0.02, 42)
    for ahead in range(1, 8):
        sunday = (35 + ahead) % 7 == 0
        assert (chance(days[:35], -1.0, DAY, ahead) > 0.01) is sunday
        assert (chance(days[:35], 0.0, DAY, ahead) > 0.01) is not sunday


def test_a_cycle_beside_a_trend() -> None:
    """Both go on: neither hides the other."""
    weeks = monthly(27) + np.arange(27) / 26
    assert chance(weeks[:26], weeks[26]) > 0.01
    assert chance(weeks[:26], weeks[26] + 1.5) < 1e-4


@pytest.mark.parametrize(("ahead", "found"), [(1, False), (6, True)])
def test_a_cycle_does_not_let_a_trend_go_further(ahead: int, found: bool) -> None:
    """How far the past went is told without the height of the cycle, which is ten times as much."""
    weeks = monthly(26 + ahead) + 0.2 * np.linspace(-1, 1 + 2 * ahead / 25, 26 + ahead) ** 2
    assert (chance(weeks[:26], weeks[-1], ahead=ahead) < 0.01) is found


def test_windows_alike_go_along_with_nothing() -> None:
    """Chance makes a wave of one number in a thousand, and alarms stay as rare as without."""
    draw = np.random.default_rng(2)
    past, now = draw.normal(0, 0.1, (26, 20_000)), draw.normal(0, 0.1, 20_000)
    at = np.arange(26.0)
    W = waves(at, periods(WEEK, 26))
    chosen = which_waves(past, np.ones(26), np.vander(np.linspace(-1, 1, 26), 3), W)
    assert chosen.shape == (2, 20_000)
    assert 0.0005 < chosen.mean() < 0.0015
    sizes = np.full(26, 1000.0)
    assert np.mean(p_values(past, sizes, now, 1000.0, 1.0, WEEK) < 0.01) <= 0.011


def test_a_score_of_no_wave_is_judged_as_ever() -> None:
    """Numbers beside one with a cycle have the p-values that they have alone."""
    draw = np.random.default_rng(3)
    past = np.column_stack([draw.normal(0, 0.1, 26), monthly(26), draw.normal(0, 0.1, 26)])
    sizes, now = np.full(26, 1000.0), np.array([0.2, 0.3, -0.3])
    together = p_values(past, sizes, now, 1000.0, 2.0, WEEK)
    alone = p_values(past, sizes, now, 1000.0, 2.0)
    np.testing.assert_allclose(together[[0, 2]], alone[[0, 2]])
    assert together[1] < 1e-3 < alone[1]
