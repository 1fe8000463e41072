"""Patience: what was asked in vain waits longer each time, and never for ever."""

from datetime import timedelta

import pytest

from twinloop.patience import kept_for, wait_to_ask

DAY = timedelta(days=1)


@pytest.mark.parametrize(("idle", "days"), [(0, 14), (1, 28), (2, 56), (3, 60), (400, 60)])
def test_each_ask_in_vain_doubles_the_wait_up_to_a_third_of_the_window(
    idle: int, days: int
) -> None:
    """By then a third of the rows are others, and no answer of before holds."""
    assert wait_to_ask(14 * DAY, idle, 180 * DAY) == days * DAY


def test_the_wait_is_never_shorter_than_the_workload_says() -> None:
    """Where a third of the window is less than that, nothing is doubled."""
    assert [wait_to_ask(14 * DAY, idle, 30 * DAY) for idle in (0, 5)] == [14 * DAY] * 2


def test_without_a_window_the_wait_doubles_as_rows_do() -> None:
    """It has no third, and stays a time that can be counted."""
    assert [wait_to_ask(DAY, idle, None) / DAY for idle in (0, 3, 10, 10_000)] == [1, 8, 1024, 1024]


def test_a_choice_is_kept_for_a_third_of_the_window() -> None:
    """Of 180 days, for 60; in whole days, unless it is less than one."""
    assert [kept_for(n * DAY) for n in (180, 40, 3)] == [60 * DAY, 13 * DAY, DAY]
    assert kept_for(DAY) == DAY / 3
