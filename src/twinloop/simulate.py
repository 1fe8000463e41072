"""Simulate the hourly bike rentals of a city whose drift is known.

The events in `BIKE_DRIFT` are the truth against which drift checks and retraining policies are
measured; ``docs/simulated-data.md`` tells it to people. The clocks of the city show UTC.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

HOUR: Final = timedelta(hours=1)
HOURS_A_YEAR: Final = 8765.82
# One stream of random numbers a name, so that no column's draws depend on another's. The position
# is part of every table already made: append, never reorder.
_STREAMS: Final = (
    *("temperature", "temperature_null", "wetness", "fog", "humidity", "humidity_null"),
    *("windspeed", "windspeed_null", "battery_voltage", "demand", "rentals"),
)
NULL_RATES: Final = {"temperature": 0.015, "humidity": 0.01, "windspeed": 0.003}
LEVELS: Final = ("clear", "clouds", "rain", "snow", "hail", "fog")
_CLEAR, _CLOUDS, _RAIN, _SNOW, _HAIL, _FOG = range(len(LEVELS))
# Upper bounds of clear, clouds and rain in standard deviations of wetness: 62 %, 86 % and 99.9 %.
_WETNESS_BOUNDS: Final = (0.305, 1.080, 3.090)
_FOG_RATE: Final = 0.002
_WEATHER_EFFECT: Final = np.array([0.0, -0.10, -0.75, -1.10, -1.40, -0.40])
# Month and day as one number: 0501 is the first of May.
_HOLIDAYS: Final = (101, 106, 425, 501, 602, 815, 1101, 1208, 1225, 1226)
_BEST_TEMPERATURE: Final = 22.0
_COLD_EFFECT, _HEAT_EFFECT = -0.0024, -0.0010  # on log demand, by the square of degrees Celsius
_WIND_EFFECT: Final = -0.008  # on log demand, by km/h
_NOISE: Final = 0.20  # standard deviation of log demand
_GROWTH_A_YEAR: Final = 0.30  # of the first level: a compound rate would overflow in a century
_BATTERY_SHIFT: Final = 0.9  # volts
# Volts to a step of the voltmeter. With rare readings at the ends a tree would fit their noise, and
# every shifted row would fall there: the event would be less harmless than it claims.
_BATTERY_STEP: Final = 0.05


@dataclass(frozen=True, slots=True)
class DriftEvent:
    """Describe one change of the simulated city.

    A concept event changes the target given the features, a covariate event one feature, a trend
    the target slowly all along. It is harmful if a model trained before it predicts worse for it.
    """

    name: str  # unique in BIKE_DRIFT
    kind: Literal["concept", "covariate", "trend"]
    harmful: bool
    column: str | None  # whose values change
    offset: timedelta  # from the start of the simulation, whole hours
    duration: timedelta | None  # whole hours; None stays for ever
    description: str

    def active(self, elapsed: Ints) -> Bools:
        """Tell at which of the hours since the start, int64 (n_rows,), the event holds."""
        first = self.offset // HOUR
        begun = elapsed >= first
        return begun if self.duration is None else begun & (elapsed < first + self.duration // HOUR)


GROWTH: Final = DriftEvent(
    name="growth",
    kind="trend",
    harmful=True,
    column="rentals",
    offset=timedelta(0),
    duration=None,
    description="Demand grows every year by 30 % of its first level.",
)
BATTERY: Final = DriftEvent(
    name="new_battery",
    kind="covariate",
    harmful=False,
    column="battery_voltage",
    offset=timedelta(days=231),
    duration=None,
    description="The weather station gets a battery of 0.9 V more; rentals do not depend on it.",
)
FAHRENHEIT: Final = DriftEvent(
    name="fahrenheit",
    kind="covariate",
    harmful=True,
    column="temperature",
    offset=timedelta(days=266),
    duration=timedelta(weeks=8),
    description="The temperature sensor reports degrees Fahrenheit instead of Celsius.",
)
COMMUTERS: Final = DriftEvent(
    name="late_commuters",
    kind="concept",
    harmful=True,
    column="rentals",
    offset=timedelta(days=420),
    duration=None,
    description="Offices open later and fares rise: peaks of working days are later and lower.",
)
BIKE_DRIFT: Final[tuple[DriftEvent, ...]] = (GROWTH, BATTERY, FAHRENHEIT, COMMUTERS)


@dataclass(frozen=True, slots=True)
class _Clock:
    """Hold what follows from the hour alone, each array of shape (n_rows,)."""

    timestamp: NDArray[np.datetime64]  # microseconds, UTC
    elapsed: Ints  # hours since the start
    hour: Ints
    year_phase: Floats  # radians since New Year
    holiday: Bools
    workingday: Bools


@dataclass(frozen=True, slots=True)
class _Air:
    """Hold the true weather, before any sensor reports it, each array of shape (n_rows,)."""

    weather: Ints  # index into LEVELS
    temperature: Floats  # degrees Celsius
    humidity: Floats  # percent
    windspeed: Floats  # km/h


def simulate_bikes(
    *,
    seed: int,
    hours: int,
    start: datetime = datetime(2011, 1, 1, tzinfo=UTC),
    drift: bool = True,
    without: Collection[str] = (),
) -> pa.Table:
    """Simulate the bikes rented in a city, one row an hour.

    The first n rows are the same for every ``hours >= n``; the same arguments give the same bytes.

    Parameters
    ----------
    seed : int
        Not negative. Cities of different seeds share their laws and differ in weather and noise.
    hours : int
        Number of rows, at least 1.
    start : datetime
        Time of the first row, with a time zone, on a whole hour of UTC.
    drift : bool
        False leaves out every event of `BIKE_DRIFT`: but for the seasons nothing changes.
    without : collection of str
        Names of the events to leave out one by one.

    Returns
    -------
    pyarrow.Table
        ``timestamp`` (timestamp[us, UTC]), ``holiday`` and ``workingday`` (bool), ``weather``
        (string), ``temperature`` (double, degrees Celsius, nulls), ``humidity`` (double, percent,
        nulls), ``windspeed`` (double, km/h, nulls), ``battery_voltage`` (double, volts) and the
        target ``rentals`` (int64, bikes rented within the hour).

    Raises
    ------
    ValueError
        When an argument is out of its range or an event is unknown.
    """
    _check(seed, hours, start, without)
    events = [event for event in BIKE_DRIFT if drift and event.name not in without]
    draws = {name: np.random.default_rng([seed, i]) for i, name in enumerate(_STREAMS)}
    clock = _read_clock(start, hours)
    air = _make_air(clock, draws)
    features = _report(clock, air, events, draws)
    return pa.table(features | {"rentals": _rent(clock, air, events, draws)})


def _check(seed: int, hours: int, start: datetime, without: Collection[str]) -> None:
    if seed < 0:
        raise ValueError(f"seed={seed!r}: expected an integer of 0 or more")
    if hours < 1:
        raise ValueError(f"hours={hours!r}: expected at least 1, the number of rows to simulate")
    if start.utcoffset() is None:
        raise ValueError(f"start={start!r} has no time zone: expected one, such as tzinfo=UTC")
    if (utc := start.astimezone(UTC)) != utc.replace(minute=0, second=0, microsecond=0):
        raise ValueError(f"start={start!r}: expected a whole hour of UTC, with no minutes")
    names = [event.name for event in BIKE_DRIFT]
    for name in without:
        if name not in names:
            near = get_close_matches(name, names) or names
            raise ValueError(f"without names an unknown event {name!r}: expected {near!r}")


def _read_clock(start: datetime, rows: int) -> _Clock:
    elapsed = np.arange(rows)
    first = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us")
    timestamp = first + elapsed * np.timedelta64(1, "h")
    day, month = timestamp.astype("M8[D]"), timestamp.astype("M8[M]")
    year = timestamp.astype("M8[Y]")
    month_and_day = (month - year).astype(np.int64) * 100 + (day - month).astype(np.int64) + 101
    holiday = np.isin(month_and_day, _HOLIDAYS)
    monday_is_zero = (day.astype(np.int64) + 3) % 7
    since_new_year = (timestamp.astype("M8[h]") - year).astype(np.int64)
    return _Clock(
        timestamp=timestamp,
        elapsed=elapsed,
        hour=since_new_year % 24,
        year_phase=since_new_year * (2 * np.pi / HOURS_A_YEAR),
        holiday=holiday,
        workingday=(monday_is_zero < 5) & ~holiday,
    )


def _wander(draw: np.random.Generator, rows: int, memory: float) -> Floats:
    """Draw an AR(1) series of mean 0 and deviation 1, stationary from its first row on."""
    # Half a second to import, which who reads files need not wait for.
    from scipy.signal import lfilter

    shocks = draw.standard_normal(rows)
    shocks[1:] *= np.sqrt(1 - memory**2)
    return np.asarray(lfilter([1.0], [1.0, -memory], shocks), dtype=np.float64)


def _make_air(clock: _Clock, draws: dict[str, np.random.Generator]) -> _Air:
    rows = len(clock.elapsed)
    day_cycle = np.cos((clock.hour - 15) * (2 * np.pi / 24))  # warmest at three in the afternoon
    year_cycle = np.cos(clock.year_phase - 3.5)  # warmest on 22 July
    wander = _wander(draws["temperature"], rows, 0.985)
    temperature = 11.5 + 10.5 * year_cycle + 3.5 * day_cycle + 3.5 * wander
    wetness = _wander(draws["wetness"], rows, 0.93)
    weather = np.searchsorted(_WETNESS_BOUNDS, wetness)
    weather = np.array([_CLEAR, _CLOUDS, _RAIN, _HAIL])[weather]
    weather[(weather == _RAIN) & (temperature < 1.0)] = _SNOW
    weather[(weather <= _CLOUDS) & (draws["fog"].random(rows) < _FOG_RATE)] = _FOG
    humid = 64 - 9 * day_cycle + 11 * wetness + 6 * draws["humidity"].standard_normal(rows)
    windspeed = np.exp(2.3 + 0.5 * _wander(draws["windspeed"], rows, 0.9))
    return _Air(weather, temperature, np.clip(humid, 5.0, 100.0), windspeed)


def _report(
    clock: _Clock, air: _Air, events: list[DriftEvent], draws: dict[str, np.random.Generator]
) -> dict[str, pa.Array]:
    """Read the sensors, with their faults: the features as the table shows them."""
    rows = len(clock.elapsed)
    temperature = air.temperature
    if FAHRENHEIT in events:
        wrong = FAHRENHEIT.active(clock.elapsed)
        temperature = np.where(wrong, temperature * 1.8 + 32, temperature)
    volts = 12.6 + _BATTERY_STEP * draws["battery_voltage"].integers(-3, 4, rows)
    if BATTERY in events:
        volts += _BATTERY_SHIFT * BATTERY.active(clock.elapsed)
    sensors = {"temperature": temperature, "humidity": air.humidity, "windspeed": air.windspeed}
    lost = {name: draws[f"{name}_null"].random(rows) < rate for name, rate in NULL_RATES.items()}
    return {
        "timestamp": pa.array(clock.timestamp, pa.timestamp("us", "UTC")),
        "holiday": pa.array(clock.holiday),
        "workingday": pa.array(clock.workingday),
        "weather": pa.DictionaryArray.from_arrays(air.weather, LEVELS).cast(pa.string()),
        **{name: pa.array(np.round(sensors[name], 1), mask=lost[name]) for name in sensors},
        "battery_voltage": pa.array(np.round(volts, 2)),
    }


def _bump(peak: float, width: float) -> Floats:
    """Return a bell of height 1 over the 24 hours of a day, which closes at midnight."""
    distance = np.abs(np.arange(24) - peak)
    bell: Floats = np.exp(-0.5 * (np.minimum(distance, 24 - distance) / width) ** 2)
    return bell


def _log_profiles() -> Floats:
    """Return log bikes an hour by kind of day (leisure, commuting, late commuting) and hour."""
    leisure = 20 + 330 * _bump(14.5, 3.6) + 40 * _bump(23.5, 2.0)
    daytime = 16 + 130 * _bump(14.0, 4.5)
    commuting = daytime + 420 * _bump(8.0, 0.9) + 480 * _bump(17.5, 1.3)
    late = daytime + 210 * _bump(10.0, 0.9) + 260 * _bump(19.5, 1.3)
    return np.log(np.stack([leisure, commuting, late]))


def _rent(
    clock: _Clock, air: _Air, events: list[DriftEvent], draws: dict[str, np.random.Generator]
) -> pa.Array:
    """Draw the rentals, which follow the true weather and not what a sensor says of it."""
    kind_of_day = clock.workingday.astype(np.int64)
    if COMMUTERS in events:
        kind_of_day += clock.workingday & COMMUTERS.active(clock.elapsed)
    warmer = air.temperature - _BEST_TEMPERATURE
    log_demand = _log_profiles()[kind_of_day, clock.hour] + _WEATHER_EFFECT[air.weather]
    log_demand += np.where(warmer < 0, _COLD_EFFECT, _HEAT_EFFECT) * warmer**2
    log_demand += _WIND_EFFECT * air.windspeed
    log_demand += _NOISE * draws["demand"].standard_normal(len(log_demand))
    demand = np.exp(log_demand)
    if GROWTH in events:
        demand *= 1 + _GROWTH_A_YEAR * clock.elapsed / HOURS_A_YEAR
    return pa.array(draws["rentals"].poisson(demand), pa.int64())
