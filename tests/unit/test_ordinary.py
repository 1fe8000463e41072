"""Ordinary variation: what goes on as it went is no surprise, and little past says little."""

import numpy as np
import pytest
from scipy import stats

from twinloop.ordinary import _p_beyond, p_values


def chance(past: np.ndarray, now: float, ahead: float = 1.0, size: float = 1000.0) -> float:
    """Return the p-value of one number after windows of 1,000 rows."""
    sizes = np.full(len(past), 1000.0)
    return float(p_values(past[:, None], sizes, np.array([now]), size, ahead)[0])


def noise(n: int, seed: int = 0, spread: float = 0.1) -> np.ndarray:
    """Draw numbers of past windows."""
    return np.random.default_rng(seed).normal(0, spread, n)


def test_five_windows_are_judged_by_students_interval() -> None:
    """Too few for a line: the p-value is that of a prediction interval for one new value."""
    past = noise(5)
    spread = past.std(ddof=1) * np.sqrt(1 + 1 / 5)
    wanted = 2 * stats.t.sf(abs(0.9 - past.mean()) / spread, 4)
    assert chance(past, 0.9) == pytest.approx(wanted)


def test_the_size_of_the_sample_is_the_least_variation() -> None:
    """Windows that agree by luck, to the last digit, promise no more than their rows can."""
    wanted = 2 * stats.t.sf(0.1 / np.sqrt((1 + 1 / 5) / 1000), 4)
    assert chance(np.zeros(5), 0.1) == pytest.approx(wanted)
    assert chance(np.zeros(5), 0.1, size=1e6) == pytest.approx(wanted)
    assert chance(np.zeros(5), 0.1, size=500) > wanted


@pytest.mark.parametrize("curve", [np.linspace(0, 3, 26), np.linspace(0, 2, 26) ** 2])
def test_what_goes_on_is_no_surprise(curve: np.ndarray) -> None:
    """A trend may go on, straight or bent; where it stops that is no alarm either."""
    past = curve + noise(26, spread=0.02)
    step = curve[-1] - curve[-2]
    assert chance(past, curve[-1] + step) > 0.01
    assert chance(past, past.mean()) > 0.01
    assert chance(past, curve[-1] + 60 * step) < 1e-4


def test_a_cycle_is_no_surprise() -> None:
    """A new window at any phase of a cycle that the past went through many times."""
    cycle = np.sin(2 * np.pi * np.arange(40) / 4.35)
    past = cycle[:26] + noise(26, spread=0.02)
    assert min(chance(past, v, i + 1.0) for i, v in enumerate(cycle[26:])) > 0.01
    assert chance(past, 6.0) < 1e-4


def test_without_a_past_only_what_is_large_surprises() -> None:
    """With three windows the variation is guessed at: a tenth of a deviation is ordinary."""
    past = noise(3, spread=0.02)
    assert chance(past, 0.2) > 0.01
    assert chance(past, 0.8) < 1e-6


def test_chances_are_not_too_small() -> None:
    """Of windows like those of the past, at most 1 in 100 has a chance below 1 in 100."""
    draw = np.random.default_rng(1)
    past, now = draw.normal(0, 0.1, (26, 20_000)), draw.normal(0, 0.1, 20_000)
    p = p_values(past, np.full(26, 1000.0), now, 1000.0)
    assert np.mean(p < 0.01) <= 0.011


@pytest.mark.parametrize(("ahead", "found"), [(1.0, False), (4.0, False), (6.5, True)])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_trend_carries_a_number_half_as_far_again(ahead: float, found: bool, sign: int) -> None:
    """A curve that goes on as it bends forgives half of what all the past went, and no more."""
    past = sign * (np.linspace(0, 2, 26) ** 2 + noise(26, spread=0.02))
    on_it = sign * (2 + ahead * 2 / 25) ** 2
    assert (chance(past, on_it, ahead) < 0.01) is found


def test_what_lies_beyond_is_measured_from_where_a_trend_may_lead() -> None:
    """Within half of the range beyond it nothing is said; what is further is held to the noise."""
    past, variance = np.array([[0.0], [2.0]]), np.array([0.04])
    for now in (-1.0, 0.5, 3.0):
        assert _p_beyond(past, np.array([now]), variance, 23) == 1.0
    for now in (-1.4, 3.4):
        wanted = 2 * stats.t.sf(2.0, 23)
        assert _p_beyond(past, np.array([now]), variance, 23) == pytest.approx(wanted)


def followed(ahead: int, off: float) -> tuple[float, float]:
    """Return p-values of a number that is the square of one with a trend, and moved by so much.

    By itself, and as one that follows.
    """
    place = np.linspace(-0.3, 0.3, 26)
    place = np.append(place, place[-1] + ahead * (place[1] - place[0]))
    place += noise(27, seed=4, spread=0.03)
    both = np.column_stack([place, place**2 + noise(27, seed=5, spread=0.003)])
    both[-1, 1] += off
    sizes = np.full(26, 1e5)
    alone, led = (
        p_values(both[:-1], sizes, both[-1], 1e5, ahead, led=which)[1]
        for which in (None, slice(1, 2))
    )
    return float(alone), float(led)


def test_what_another_number_bends_is_judged_by_what_is_left() -> None:
    """A trend of the place, squared, runs away; that follows from the place and is no surprise."""
    alone, led = followed(7, 0.0)
    assert alone < 1e-3
    assert led > 0.01


def test_what_follows_may_still_surprise() -> None:
    """What the place does not explain is seen, although it is within what the past went."""
    alone, led = followed(1, -0.06)
    assert led < 1e-4 < alone


def test_what_does_not_follow_is_judged_as_ever() -> None:
    """A number of its own has the p-value that it has alone, and so has the one that leads."""
    past, now, sizes = np.column_stack([noise(26, 6), noise(26, 7)]), np.array([0.3, 0.3]), 1000.0
    alone = p_values(past, np.full(26, sizes), now, sizes)
    led = p_values(past, np.full(26, sizes), now, sizes, led=slice(1, 2))
    np.testing.assert_allclose(led, alone)
