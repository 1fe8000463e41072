"""Harm by labels: looks at the newest blocks, and what was once reached."""

import numpy as np
import pytest

from twinloop.harm import Harm, Period, assess_harm, p_of_more
from twinloop.profile import Binning, Profile, Reference


def promised(mean: float, n_blocks: int = 14) -> Reference:
    """Return what a holdout promised, with an ordinary spread from day to day."""
    losses = mean + 0.1 * mean * np.random.default_rng(3).normal(size=n_blocks)
    return Reference(
        binning=Binning(columns=()),
        whole=Profile(rows=0, columns=()),
        windows=(),
        importance=(),
        loss="mae",
        losses=tuple(losses.tolist()),
    )


def assessed(
    losses: np.ndarray,
    looks: tuple[int, ...] = (7, 4),
    past: tuple[Period, ...] = (),
    mean: float = 1.0,
) -> Harm:
    """Assess by the usual rules."""
    found = assess_harm(
        promised(mean),
        losses,
        24 * len(losses),
        alpha=0.05,
        tolerance=0.05,
        of_mean=float,
        looks=looks,
        past=past,
    )
    assert found is not None
    return found


def days(*means: float) -> np.ndarray:
    """Return a loss for each day, spread as on the holdout."""
    draw = np.random.default_rng(1)
    return np.array([m + 0.1 * m * draw.normal() for m in means])


def test_what_began_lately_shows_at_once() -> None:
    """Four bad days after ten good ones are found by themselves, and are lost in the whole."""
    losses = days(*[0.95] * 10, *[1.4] * 4)
    alone = assessed(losses, looks=())
    assert not alone.harmful
    found = assessed(losses)
    assert found.harmful
    assert found.newest == 4
    assert found.newest_realised == pytest.approx(losses[-4:].mean())
    assert found.p_value == pytest.approx(
        min(1.0, 3 * p_of_more(Period.of(losses[-4:]), Period.of(np.array(promised(1.0).losses))))
    )


def test_a_look_costs_what_it_is_worth() -> None:
    """Of calm windows about one in twenty is called harmful at most, with three looks at each."""
    draw = np.random.default_rng(7)
    alarms = 0
    for _ in range(300):
        then = 1 + 0.1 * draw.normal(size=14)
        known = promised(1.0).model_copy(update={"losses": tuple(then.tolist())})
        found = assess_harm(
            known,
            1 + 0.1 * draw.normal(size=14),
            100,
            alpha=0.05,
            tolerance=0.0,
            of_mean=float,
            looks=(7, 4),
        )
        assert found is not None
        alarms += found.harmful
    assert alarms <= 0.05 * 300 + 2 * np.sqrt(0.05 * 300)


GOOD = tuple(Period(mean=m, deviation=0.05, blocks=13) for m in (0.5, 0.52, 0.55, 0.6))


def test_a_champion_that_promised_little_is_held_to_better_times() -> None:
    """An error as bad as promised is lost ground where past periods had half of it."""
    losses = days(*[1.0] * 14)
    assert not assessed(losses).lost
    found = assessed(losses, past=GOOD)
    assert (found.harmful, found.lost) == (False, True)
    # The lower quarter of five: the best may have been luck.
    assert found.reached == pytest.approx(0.52)
    assert found.reached_p < 0.05


@pytest.mark.parametrize("level", [0.5, 0.6, 0.68])
def test_seasons_are_no_lost_ground(level: float) -> None:
    """A rise of less than a third above what was reached may be the season."""
    assert not assessed(days(*[level] * 14), past=GOOD).lost


def test_few_periods_say_nothing_of_what_was_reached() -> None:
    """Three of them with the holdout's own are too few to tell luck from skill."""
    found = assessed(days(*[1.0] * 14), past=GOOD[:2])
    assert (found.reached, found.lost) == (None, False)


def test_once_nothing_better_is_remembered_the_level_is_accepted() -> None:
    """Where most of the past was as bad, that is what can be reached."""
    bad = tuple(p.model_copy(update={"mean": 0.98}) for p in GOOD * 2)
    assert not assessed(days(*[1.0] * 14), past=(*bad, GOOD[0])).lost
