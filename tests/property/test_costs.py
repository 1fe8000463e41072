"""A bill is plain arithmetic, and the same names stand on every bill."""

from dataclasses import fields, replace
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twinloop.costs import (
    Quantities,
    Usage,
    bill,
    cost_metrics,
    energy_words,
    price,
    priced_quantities,
    storage_money,
)
from twinloop.loop_keys import Prices

SECONDS = st.floats(0, 1e7)
BYTES = st.integers(0, 10**12)
PRICE = st.floats(0, 100)
PRICES = st.builds(
    Prices,
    core_hour=PRICE,
    gb_hour=PRICE,
    gpu_hour=PRICE,
    kwh=PRICE,
    storage_gb_month=PRICE,
    grams_co2_per_kwh=st.floats(0, 1000),
    watts_per_core=PRICE,
)
FREE = Prices(core_hour=0, gb_hour=0, gpu_hour=0, kwh=0, grams_co2_per_kwh=0, watts_per_core=0)
AMOUNT = st.floats(0, 1e7)
QUANTITIES = st.builds(Quantities, **dict.fromkeys([f.name for f in fields(Quantities)], AMOUNT))


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


@given(st.lists(QUANTITIES, min_size=1, max_size=6), PRICES, st.sampled_from(["RAPL", ""]))
def test_the_bills_of_parts_are_the_bill_of_the_whole(
    parts: list[Quantities], prices: Prices, measured: str
) -> None:
    """However a use is cut up, and whether its energy was measured or not."""
    known = bool(measured)
    bills = [price(part, prices, measured=known) for part in parts]
    whole = price(sum(parts, Quantities()), prices, measured=known)
    for field in fields(whole):
        value = getattr(whole, field.name)
        assert sum(getattr(b, field.name) for b in bills) == pytest.approx(value)


@given(QUANTITIES, PRICES)
def test_every_quantity_has_its_price(used: Quantities, prices: Prices) -> None:
    """Worked out in fractions, with energy as it was measured; storage is no part of the money."""
    kwh = Fraction(used.cpu_kwh) + Fraction(used.gpu_kwh)
    money = (
        Fraction(used.cpu_seconds) / 3600 * Fraction(prices.core_hour)
        + Fraction(used.gb_seconds) / 3600 * Fraction(prices.gb_hour)
        + Fraction(used.gpu_seconds) / 3600 * Fraction(prices.gpu_hour)
        + kwh * Fraction(prices.kwh)
    )
    found = price(used, prices, measured=True)
    assert found.money == pytest.approx(float(money))
    assert found.energy_kwh == pytest.approx(float(kwh))
    stored = Fraction(used.stored_bytes) / 10**9 * Fraction(prices.storage_gb_month)
    assert storage_money(used.stored_bytes, prices) == pytest.approx(float(stored))


ENERGIES = st.sampled_from([("", ""), ("RAPL", ""), ("", "NVML"), ("RAPL", "NVML")])


@given(QUANTITIES, PRICES, PRICES, ENERGIES)
@example(Quantities(gpu_kwh=1.0), Prices(), Prices(kwh=1.0), ("", "NVML"))
def test_a_bill_can_be_priced_again(
    used: Quantities, prices: Prices, others: Prices, energy: tuple[str, str]
) -> None:
    """From its metrics alone: at its own prices it is itself, at others it is what it had been."""
    cpu_energy, gpu_energy = energy
    # What does not measure counts nothing.
    used = replace(used, cpu_kwh=used.cpu_kwh if cpu_energy else 0.0)
    used = replace(used, gpu_kwh=used.gpu_kwh if gpu_energy else 0.0)
    usage = Usage(1.0, 1.0, 0, own=used, total=used, cpu_energy=cpu_energy, gpu_energy=gpu_energy)
    metrics, words = cost_metrics(usage, prices, None), energy_words(usage, prices)
    again, measured = priced_quantities(metrics, prices, words), bool(cpu_energy)
    for at in (prices, others):
        found, wanted = (price(q, at, measured=measured) for q in (again, used))
        assert found.money == pytest.approx(wanted.money, rel=1e-6, abs=1e-6)
        assert found.co2_grams == pytest.approx(wanted.co2_grams, rel=1e-6, abs=1e-3)
    assert storage_money(again.stored_bytes, others) == pytest.approx(
        storage_money(used.stored_bytes, others)
    )


def test_a_bill_of_earlier_releases_can_be_priced_again() -> None:
    """It priced the peak of memory for the whole time, and so does the new one."""
    old = {"time/wall_s": 100.0, "time/cpu_s": 50.0, "cost/peak_memory_mb": 500.0}
    prices = Prices(gb_hour=7.0)
    found = price(priced_quantities(old, Prices(), ""), prices)
    assert found.money == pytest.approx(bill(100.0, 50.0, 500_000_000, prices).money)


@pytest.mark.parametrize(
    ("cpu", "gpu", "seconds", "words"),
    [
        ("", "", 0.0, "estimated: CPU time x 10 W per core"),
        ("RAPL", "NVML", 0.0, "measured: RAPL"),
        ("RAPL", "NVML", 3.0, "measured: RAPL; GPU measured: NVML"),
        ("", "NVML", 3.0, "estimated: CPU time x 10 W per core; GPU measured: NVML"),
        ("", "", 3.0, "estimated: CPU time x 10 W per core; GPU not known"),
    ],
)
def test_energy_says_how_it_was_got(cpu: str, gpu: str, seconds: float, words: str) -> None:
    """Measured or estimated, and by what; of a GPU only where one was used."""
    used = Quantities(gpu_seconds=seconds)
    usage = Usage(1.0, 1.0, 0, own=used, total=used, cpu_energy=cpu, gpu_energy=gpu)
    assert energy_words(usage, Prices()) == words


USAGE = Usage(
    wall_seconds=10.0,
    total_wall_seconds=40.0,
    peak_bytes=500_000_000,
    own=Quantities(
        cpu_seconds=15.0,
        gb_seconds=4.0,
        gpu_seconds=2.0,
        read_bytes=8e6,
        written_bytes=7e6,
        disk_read_bytes=6e6,
        disk_written_bytes=5e6,
        stored_bytes=250e6,
    ),
    total=Quantities(cpu_seconds=70.0, gb_seconds=9.0, gpu_seconds=2.0, stored_bytes=400e6),
    task_seconds={"fit_winner": 3.0, "judge": 1.5},
    task_cpu_seconds={"fit_winner": 2.0, "judge": 0.5},
)


def test_metrics_of_a_run_have_the_promised_names() -> None:
    """Time and cost stand under the same names for every run, tasks and rows where there are."""
    assert set(cost_metrics(USAGE, Prices(), rows=200)) == {
        *("time/wall_s", "time/cpu_s", "time/wall_total_s", "time/cpu_total_s"),
        *("time/rows", "time/rows_per_s"),
        *("time/task/fit_winner_s", "time/task/judge_s"),
        *("time/task/fit_winner_cpu_s", "time/task/judge_cpu_s"),
        *("cost/money", "cost/money_total", "cost/energy_kwh", "cost/energy_total_kwh"),
        "cost/co2_g",
        *("cost/peak_memory_mb", "cost/memory_gb_s", "cost/gpu_s"),
        *("cost/read_mb", "cost/written_mb", "cost/disk_read_mb", "cost/disk_written_mb"),
        *("cost/stored_mb", "cost/storage_money_per_month"),
    }
    without = set(cost_metrics(USAGE, Prices(), rows=None))
    assert not without & {"time/rows", "time/rows_per_s"}


def test_metrics_of_a_run_have_the_units_of_their_names() -> None:
    """Seconds are seconds, megabytes 10**6 bytes, and rows by the wall second of the run itself."""
    found = cost_metrics(USAGE, Prices(), rows=200)
    assert (found["time/wall_s"], found["time/cpu_s"], found["time/wall_total_s"]) == (10, 15, 40)
    assert (found["time/rows"], found["time/rows_per_s"]) == (200, 20)
    assert (found["cost/peak_memory_mb"], found["cost/memory_gb_s"]) == (500, 4)
    assert (found["time/cpu_total_s"], found["cost/gpu_s"]) == (70, 2)
    moved = ("read", "written", "disk_read", "disk_written", "stored")
    assert [found[f"cost/{name}_mb"] for name in moved] == [8, 7, 6, 5, 250]
    assert found["cost/storage_money_per_month"] == pytest.approx(0.25 * 0.02)
    assert (found["time/task/fit_winner_s"], found["time/task/judge_s"]) == (3.0, 1.5)
    assert (found["time/task/fit_winner_cpu_s"], found["time/task/judge_cpu_s"]) == (2.0, 0.5)
    gpu = 2 / 3600 * 2.0
    assert found["cost/money"] == pytest.approx(bill(1, 15, 4 * 10**9, Prices()).money + gpu)
    assert found["cost/money_total"] == pytest.approx(bill(1, 70, 9 * 10**9, Prices()).money + gpu)


def test_a_run_of_no_time_has_a_speed() -> None:
    """A clock that did not move divides nothing by zero."""
    instant = Usage(0.0, 0.0, 0, own=Quantities(), total=Quantities())
    assert cost_metrics(instant, Prices(), rows=0)["time/rows_per_s"] == 0
