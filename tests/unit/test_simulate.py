"""The laws of the simulated city, and the truth of the drift it documents."""

from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xgboost import XGBRegressor

from twinloop.simulate import (
    BATTERY,
    BIKE_DRIFT,
    COMMUTERS,
    FAHRENHEIT,
    GROWTH,
    HOUR,
    LEVELS,
    NULL_RATES,
    DriftEvent,
    simulate_bikes,
)

PAGE = Path(__file__).parents[2] / "docs" / "simulated-data.md"
START = datetime(2011, 1, 1, tzinfo=UTC)
HOURS = 608 * 24
TRAINING = 180 * 24
NAMES = [event.name for event in BIKE_DRIFT]
SCHEMA = pa.schema(
    {
        "timestamp": pa.timestamp("us", "UTC"),
        "holiday": pa.bool_(),
        "workingday": pa.bool_(),
        "weather": pa.string(),
        "temperature": pa.float64(),
        "humidity": pa.float64(),
        "windspeed": pa.float64(),
        "battery_voltage": pa.float64(),
        "rentals": pa.int64(),
    }
)


@cache
def city(only: str | None = None, drift: bool = True) -> pa.Table:
    """Simulate 608 days once, with all events, with none, or with `only` one of them."""
    without = [name for name in NAMES if only is not None and name != only]
    return simulate_bikes(seed=7, hours=HOURS, drift=drift, without=without)


def values(table: pa.Table, column: str) -> NDArray[Any]:
    """Read a column as an array, nulls of numbers as NaN."""
    return np.asarray(table[column].to_numpy())


def active(event: DriftEvent) -> NDArray[np.bool_]:
    """Tell at which rows of `city` the event holds."""
    return event.active(np.arange(HOURS))


def working_profile(table: pa.Table, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average the rentals of working days by hour over the rows chosen."""
    chosen = rows & values(table, "workingday")
    hours, rentals = np.arange(HOURS)[chosen] % 24, values(table, "rentals")[chosen]
    return np.bincount(hours, rentals, 24) / np.bincount(hours, minlength=24)


def encoded(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn a table into features (n_rows, 9) and log1p of the target (n_rows,)."""
    numbers = [n for n in SCHEMA.names if n not in ("timestamp", "weather", "rentals")]
    stamps = table["timestamp"]
    derived = [
        np.asarray(pc.index_in(table["weather"], pa.array(LEVELS))),
        np.asarray(pc.hour(stamps)),
        np.asarray(pc.day_of_week(stamps)),
    ]
    features = [values(table, name) for name in numbers] + derived
    return np.column_stack(features).astype(np.float64), np.log1p(values(table, "rentals"))


def squared_errors(table: pa.Table) -> NDArray[np.float64]:
    """Fit on the first 180 days and return the squared log error of every hour."""
    features, target = encoded(table)
    model = XGBRegressor(n_estimators=120, max_depth=5, learning_rate=0.1, n_jobs=2, random_state=0)
    model.fit(features[:TRAINING], target[:TRAINING])
    return np.asarray((model.predict(features) - target) ** 2, dtype=np.float64)


@cache
def errors_without_drift() -> NDArray[np.float64]:
    """Score the city in which nothing drifts."""
    return squared_errors(city(drift=False))


@given(seed=st.integers(0, 2**63), hours=st.integers(1, 300), more=st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_prefix_stability(seed: int, hours: int, more: int) -> None:
    """The first n rows are the same however many rows follow."""
    longer = simulate_bikes(seed=seed, hours=hours + more)
    assert longer.slice(0, hours).equals(simulate_bikes(seed=seed, hours=hours))


@pytest.mark.parametrize("hours", [TRAINING + 1, HOURS - 7])
def test_prefix_stability_across_events(hours: int) -> None:
    """A table that ends between events equals the beginning of one that meets them all."""
    assert city().slice(0, hours).equals(simulate_bikes(seed=7, hours=hours))


def test_same_seed_same_bytes() -> None:
    """Two runs with one seed give the same bytes, nulls and all."""
    written = []
    for _ in range(2):
        table = simulate_bikes(seed=3, hours=1000)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        written.append(sink.getvalue().to_pybytes())
    assert written[0] == written[1]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_seeds_differ(seed: int) -> None:
    """Neighbouring seeds differ in every column that is random."""
    one, other = (simulate_bikes(seed=s, hours=200) for s in (seed, seed + 1))
    for column in ("temperature", "humidity", "windspeed", "battery_voltage", "rentals"):
        assert not one[column].equals(other[column])


def test_schema() -> None:
    """The columns and their types are those documented, in that order."""
    assert city().schema.equals(SCHEMA)
    assert city().num_rows == HOURS


@given(
    seed=st.integers(0, 2**32),
    years=st.integers(-60, 140),
    offset=st.integers(0, 8760),
    hours=st.integers(1, 1000),
)
@settings(max_examples=25, deadline=None)
def test_ranges(seed: int, years: int, offset: int, hours: int) -> None:
    """Whatever the seed and start, hours follow each other and values stay within bounds."""
    start = START.replace(year=2011 + years) + offset * HOUR
    table = simulate_bikes(seed=seed, hours=hours, start=start)
    assert table["timestamp"].to_pylist() == [start + i * HOUR for i in range(hours)]
    bounds = {"temperature": (-30, 130), "humidity": (5, 100), "windspeed": (0, 200)}
    for name, (low, high) in bounds.items():
        assert all(low <= value <= high for value in table[name].drop_null().to_pylist())
    assert set(table["weather"].to_pylist()) <= set(LEVELS)
    assert pc.min(table["rentals"]).as_py() >= 0


def test_only_sensors_have_nulls() -> None:
    """Each sensor loses its documented share of readings; no other column has nulls."""
    for name in SCHEMA.names:
        share = city()[name].null_count / HOURS
        assert share == pytest.approx(NULL_RATES.get(name, 0), rel=0.3)


def test_weather_levels() -> None:
    """Fog and hail exist and are rare, snow falls in the cold, clear sky is the rule."""
    table = simulate_bikes(seed=1, hours=50_000, drift=False)
    weather, temperature = values(table, "weather"), values(table, "temperature")
    share = {level: np.mean(weather == level) for level in LEVELS}
    assert 0 < share["fog"] < 0.005
    assert 0 < share["hail"] < 0.005
    assert share["clear"] > 0.5
    assert np.nanmax(temperature[weather == "snow"]) <= 1.0


def test_calendar() -> None:
    """Holidays fall on their dates, and no weekend or holiday is a working day."""
    rows = city().select(["timestamp", "holiday", "workingday"]).to_pylist()
    assert {r["timestamp"].strftime("%m-%d") for r in rows if r["holiday"]} == {
        *("01-01", "01-06", "04-25", "05-01", "06-02"),
        *("08-15", "11-01", "12-08", "12-25", "12-26"),
    }
    for row in rows:
        weekend = row["timestamp"].weekday() >= 5
        assert row["workingday"] == (not weekend and not row["holiday"])


def test_start_in_another_zone() -> None:
    """A start in another time zone means the same instant, and so the same table."""
    start = datetime(2011, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert simulate_bikes(seed=0, hours=50, start=start).equals(simulate_bikes(seed=0, hours=50))


def test_commuters_ride_at_the_peaks() -> None:
    """Working days peak in the morning and evening, leisure days after noon."""
    table = city(drift=False)
    profile = working_profile(table, np.ones(HOURS, dtype=bool))
    assert profile[8] > 2 * profile[11]
    assert profile[17] > 2 * profile[11]
    leisure = ~values(table, "workingday")
    rentals = values(table, "rentals")
    by_hour = [rentals[leisure & (np.arange(HOURS) % 24 == hour)].mean() for hour in range(24)]
    assert np.argmax(by_hour) in range(13, 17)


def test_no_drift_is_every_event_left_out() -> None:
    """Leaving out the events one by one ends at the city without drift."""
    assert simulate_bikes(seed=7, hours=HOURS, without=NAMES).equals(city(drift=False))


@pytest.mark.parametrize("event", [BATTERY, FAHRENHEIT], ids=lambda event: event.name)
def test_covariate_events_leave_the_rest_alone(event: DriftEvent) -> None:
    """A sensor's drift changes its own column within the event, and nothing else anywhere."""
    usual = simulate_bikes(seed=7, hours=HOURS, without=[event.name])
    assert city().drop_columns(event.column).equals(usual.drop_columns(event.column))
    assert event.column is not None
    drifted, expected = values(city(), event.column), values(usual, event.column)
    changed = (drifted != expected) & ~np.isnan(expected)
    assert not changed[~active(event)].any()
    assert changed[active(event)].mean() > 0.95


def test_fahrenheit_is_visible() -> None:
    """Within the event the mean temperature lies above 45 and is the true one in Fahrenheit."""
    rows = active(FAHRENHEIT)
    shown = np.nanmean(values(city(), "temperature")[rows])
    celsius = np.nanmean(values(city(drift=False), "temperature")[rows])
    assert shown > 45
    assert shown == pytest.approx(celsius * 1.8 + 32, abs=0.1)


def test_battery_is_visible() -> None:
    """From the event on every voltage lies above every voltage before it."""
    volts, rows = values(city(), "battery_voltage"), active(BATTERY)
    assert volts[rows].min() > volts[~rows].max()


def test_commuters_are_visible() -> None:
    """From the event on working days peak two hours later and lower than without it."""
    table, rows = city(only=COMMUTERS.name), active(COMMUTERS)
    before = working_profile(city(drift=False), rows)
    after = working_profile(table, rows)
    assert np.argmax(before[:12]) == 8
    assert np.argmax(after[:12]) == 10
    assert after.max() < 0.8 * before.max()
    earlier = values(city(drift=False), "rentals")[~rows]
    assert np.array_equal(values(table, "rentals")[~rows], earlier)


def test_growth_is_visible() -> None:
    """In the second year demand is higher by 30 % a year of its first level."""
    year = slice(8760, HOURS)
    grown = values(city(only=GROWTH.name), "rentals")[year].mean()
    usual = values(city(drift=False), "rentals")[year].mean()
    assert grown / usual == pytest.approx(1 + 0.30 * (8760 + HOURS) / 2 / 8766, rel=0.03)


@pytest.mark.parametrize("event", BIKE_DRIFT, ids=lambda event: event.name)
def test_harm(event: DriftEvent) -> None:
    """In its later half a harmful event raises an old model's error by 15 %, a harmless by none."""
    rows = np.flatnonzero(active(event))
    later = rows[len(rows) // 2 :]
    drifted = np.sqrt(squared_errors(city(only=event.name))[later].mean())
    usual = np.sqrt(errors_without_drift()[later].mean())
    assert drifted > 1.15 * usual if event.harmful else drifted < 1.03 * usual


def test_a_model_beats_the_mean_by_far() -> None:
    """Without drift a model errs by 0.25 to 0.35 RMSLE, and the mean by three times as much."""
    target = np.log1p(values(city(drift=False), "rentals"))
    error = np.sqrt(errors_without_drift()[TRAINING:].mean())
    assert 0.25 < error < 0.35
    assert np.std(target[TRAINING:]) > 3 * error


def test_events_are_met_after_training() -> None:
    """But for the growth, events begin after 180 days, end within 608, and have unique names."""
    assert len(set(NAMES)) == len(NAMES)
    for event in set(BIKE_DRIFT) - {GROWTH}:
        assert timedelta(days=180) < event.offset
        assert event.offset + (event.duration or timedelta(0)) < timedelta(days=608)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hours": 0}, r"hours=0: expected at least 1"),
        ({"hours": -5}, r"hours=-5"),
        ({"seed": -1}, r"seed=-1: expected an integer of 0 or more"),
        ({"start": START.replace(tzinfo=None)}, r"2011, 1, 1.* has no time zone"),
        ({"start": START + HOUR / 2}, r"30.* expected a whole hour"),
        ({"without": ["farenheit"]}, r"'farenheit': expected \['fahrenheit'\]"),
        ({"without": "growth"}, r"unknown event 'g'"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    """A refused argument is named with its value and what was expected."""
    with pytest.raises(ValueError, match=message):
        simulate_bikes(**({"seed": 0, "hours": 1} | arguments))


@pytest.mark.parametrize("event", BIKE_DRIFT, ids=lambda event: event.name)
def test_page_tells_the_events(event: DriftEvent) -> None:
    """The page has a row for the event, with its kind, harm and dates from the default start."""
    row = next(line for line in PAGE.read_text().splitlines() if f"| `{event.name}` |" in line)
    begin = START + event.offset
    end = "for ever" if event.duration is None else f"{begin + event.duration:%Y-%m-%d}"
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    harm = "yes" if event.harmful else "no"
    assert cells[1:6] == [event.kind, f"`{event.column}`", harm, f"{begin:%Y-%m-%d}", end]


@pytest.mark.parametrize("column", SCHEMA.names)
def test_page_tells_the_columns(column: str) -> None:
    """The page has a row for the column."""
    assert f"\n| `{column}` |" in PAGE.read_text()
