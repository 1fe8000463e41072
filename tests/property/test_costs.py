"""A bill is plain arithmetic, and the same names stand on every bill."""

from dataclasses import fields
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.costs import Usage, bill, cost_metrics
from twinloop.loop_keys import Prices

SECONDS = st.floats(0, 1e7)
BYTES = st.integers(0, 10**12)
PRICE = st.floats(0, 100)
PRICES = st.builds(
    Prices,
    core_hour=PRICE,
    gb_hour=PRICE,
    kwh=PRICE,
    grams_co2_per_kwh=st.floats(0, 1000),
    watts_per_core=PRICE,
)
FREE = Prices(core_hour=0, gb_hour=0, kwh=0, grams_co2_per_kwh=0, watts_per_core=0)


@given(SECONDS, SECONDS, BYTES, PRICES)
def test_bill_agrees_with_exact_units(wall: float, cpu: float, peak: int, prices: Prices) -> None:
    """Hours, gigabytes and kilowatt-hours, each worked out in fractions, give the same figures."""
    hours, core_hours = Fraction(wall) / 3600, Fraction(cpu) / 3600
    gigabytes = Fraction(peak) / 10**9
    kwh = core_hours * Fraction(prices.watts_per_core) / 1000
    money = (
        core_hours * Fraction(prices.core_hour)
        + gigabytes * hours * Fraction(prices.gb_hour)
        + kwh * Fraction(prices.kwh)
    )
    found = bill(wall, cpu, peak, prices)
    assert found.money == pytest.approx(float(money))
    assert found.energy_kwh == pytest.approx(float(kwh))
    assert found.co2_grams == pytest.approx(float(kwh * Fraction(prices.grams_co2_per_kwh)))


def test_bill_of_an_hour() -> None:
    """One core and two gigabytes for an hour at the default prices cost what they say."""
    found = bill(3600, 3600, 2 * 10**9, Prices())
    assert found.money == pytest.approx(0.04 + 2 * 0.005 + 0.010 * 0.30)
    assert (found.energy_kwh, found.co2_grams) == pytest.approx((0.010, 3.0))


@given(SECONDS, SECONDS, BYTES, PRICES, st.integers(1, 100))
def test_bill_is_linear(wall: float, cpu: float, peak: int, prices: Prices, times: int) -> None:
    """Time n times as long costs n times as much, and CPU and memory are billed apart."""
    one = bill(wall, cpu, peak, prices)
    many = bill(times * wall, times * cpu, peak, prices)
    parts = [bill(wall, cpu, 0, prices), bill(wall, 0, peak, prices)]
    for field in fields(one):
        value = getattr(one, field.name)
        assert getattr(many, field.name) == pytest.approx(times * value)
        assert sum(getattr(p, field.name) for p in parts) == pytest.approx(value)


@given(SECONDS, SECONDS, BYTES)
def test_what_has_no_price_costs_nothing(wall: float, cpu: float, peak: int) -> None:
    """With all prices at zero a bill is zero, and so it is for a run that used nothing."""
    assert bill(wall, cpu, peak, FREE).money == 0
    assert bill(wall, cpu, peak, FREE).co2_grams == 0
    nothing = bill(0, 0, 0, Prices())
    assert (nothing.money, nothing.energy_kwh, nothing.co2_grams) == (0, 0, 0)


USAGE = Usage(
    wall_seconds=10.0,
    cpu_seconds=15.0,
    peak_bytes=500_000_000,
    total_wall_seconds=40.0,
    total_cpu_seconds=70.0,
    task_seconds={"fit_winner": 3.0, "judge": 1.5},
)


def test_metrics_of_a_run_have_the_promised_names() -> None:
    """Time and cost stand under the same names for every run, tasks and rows where there are."""
    assert set(cost_metrics(USAGE, Prices(), rows=200)) == {
        *("time/wall_s", "time/cpu_s", "time/wall_total_s", "time/rows", "time/rows_per_s"),
        *("time/task/fit_winner_s", "time/task/judge_s"),
        *("cost/money", "cost/money_total", "cost/energy_kwh", "cost/co2_g"),
        "cost/peak_memory_mb",
    }
    without = set(cost_metrics(USAGE, Prices(), rows=None))
    assert not without & {"time/rows", "time/rows_per_s"}


def test_metrics_of_a_run_have_the_units_of_their_names() -> None:
    """Seconds are seconds, megabytes 10**6 bytes, and rows by the wall second of the run itself."""
    found = cost_metrics(USAGE, Prices(), rows=200)
    assert (found["time/wall_s"], found["time/cpu_s"], found["time/wall_total_s"]) == (10, 15, 40)
    assert (found["time/rows"], found["time/rows_per_s"]) == (200, 20)
    assert found["cost/peak_memory_mb"] == 500
    assert (found["time/task/fit_winner_s"], found["time/task/judge_s"]) == (3.0, 1.5)
    assert found["cost/money"] == bill(10, 15, 500_000_000, Prices()).money
    assert found["cost/money_total"] == bill(40, 70, 500_000_000, Prices()).money


def test_a_run_of_no_time_has_a_speed() -> None:
    """A clock that did not move divides nothing by zero."""
    instant = Usage(0.0, 0.0, 0, 0.0, 0.0)
    assert cost_metrics(instant, Prices(), rows=0)["time/rows_per_s"] == 0
