"""Prices: shared by all workloads in one file, and each workload's own come before them."""

from pathlib import Path

import pytest

from tasks.settings import load_workload, read_prices
from twinloop.errors import WorkloadError
from twinloop.loop_keys import Prices
from twinloop.workload import Workload
from twinloop.workload_file import parse_prices, parse_workload

LEAST = """
name: bikes
task: regression
source: {kind: files, path: raw/*.parquet}
target: rentals
"""


def read(more: str, shared: str) -> Workload:
    """Read a workload beside shared prices."""
    prices = parse_prices(shared, "prices.yaml", {"SUN": "0.01"})
    return parse_workload(LEAST + more, "bikes.yaml", {}, prices)


def test_own_prices_come_before_shared_ones() -> None:
    """Key by key: its own, then the file's, then those there are by default."""
    found = read("prices: {kwh: 0.5}", "{kwh: 0.1, core_hour: 0.2}").prices
    assert found == Prices(kwh=0.5, core_hour=0.2)


def test_shared_prices_reach_a_workload_that_names_none() -> None:
    """A workload without the key has those of the file, variables filled in."""
    assert read("", "{currency: USD, kwh: 0.1}").prices == Prices(currency="USD", kwh=0.1)
    assert read("", "kwh: ${SUN}").prices == Prices(kwh=0.01)
    assert read("", "{}").prices == Prices()


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ("core_hours: 1", "prices.yaml: unknown key 'core_hours'.*'core_hour'"),
        ("kwh: -1", "prices.yaml: kwh: .*greater than or equal to 0"),
        ("kwh: .inf", "prices.yaml: kwh: .*finite"),
        ("{kwh: 1, kwh: 2}", "prices.yaml: not valid YAML: .*duplicate"),
        ("kwh: ${GONE}", "needs the variable GONE"),
        ("- kwh", "prices.yaml: expected keys like 'core_hour:' and 'kwh:'"),
    ],
)
def test_what_is_no_price_is_refused(shared: str, words: str) -> None:
    """The error names the file, the key and, for a misspelt one, the nearest."""
    with pytest.raises(WorkloadError, match=words):
        read("", shared)


def test_own_prices_are_checked_as_ever() -> None:
    """Shared prices hide no mistake in a workload's own."""
    with pytest.raises(WorkloadError, match=r"bikes.yaml: unknown key 'prices.kwhs'.*'kwh'"):
        read("prices: {kwhs: 1}", "kwh: 2")
    with pytest.raises(WorkloadError, match=r"bikes.yaml: prices: .*\[1\]"):
        read("prices: [1]", "kwh: 2")


def test_two_currencies_do_not_meet_on_one_bill() -> None:
    """Money is never converted: a workload in another currency takes no price from the file."""
    shared = "{currency: USD, kwh: 0.1, grams_co2_per_kwh: 50}"
    with pytest.raises(WorkloadError, match=r"kwh would come from the shared prices.*'USD'"):
        read("prices: {currency: EUR, core_hour: 1}", shared)
    found = read("prices: {currency: EUR, kwh: 0.2}", shared).prices
    assert (found.currency, found.kwh, found.grams_co2_per_kwh) == ("EUR", 0.2, 50)


def test_the_file_is_beside_the_folder_of_workloads(home: Path) -> None:
    """Where ``data/prices.yaml`` is, every workload of the installation reads it."""
    before = load_workload("diabetes").prices
    (home / "data" / "prices.yaml").write_text("grams_co2_per_kwh: 12\n")
    after = load_workload("diabetes").prices
    assert after == before.model_copy(update={"grams_co2_per_kwh": 12.0})
    assert read_prices(home / "data" / "prices.yaml") == {"grams_co2_per_kwh": 12.0}
    with pytest.raises(WorkloadError, match="cannot read the prices file"):
        read_prices(home / "none.yaml")
