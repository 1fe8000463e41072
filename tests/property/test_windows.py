"""Laws of windows and durations that hold for all times."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.window import Window, as_utc, format_duration, parse_duration, window_before

SETTINGS = settings(max_examples=100, deadline=None)
INSTANTS = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    timezones=st.integers(-14, 14).map(lambda h: timezone(timedelta(hours=h))),
)
SPANS = st.timedeltas(timedelta(0), timedelta(days=200_000))


@SETTINGS
@given(SPANS)
def test_a_duration_survives_being_written(span: timedelta) -> None:
    """Reading what was written gives the span back, to the microsecond."""
    assert parse_duration(format_duration(span)) == span


@SETTINGS
@given(INSTANTS, INSTANTS)
def test_a_window_survives_being_written(one: datetime, other: datetime) -> None:
    """As text and as JSON a window comes back equal, and in UTC."""
    first, last = sorted((one, other))
    if first == last:
        last += timedelta(microseconds=1)
    window = Window(start=first, end=last)
    assert Window.model_validate(str(window)) == window
    assert Window.model_validate_json(window.model_dump_json()) == window
    assert window.start.utcoffset() == timedelta(0)


@SETTINGS
@given(INSTANTS, st.integers(1, 10_000_000), SPANS.filter(lambda lag: lag.days < 3650))
def test_a_window_before_a_time_has_ended_by_then(
    as_of: datetime, seconds: int, lag: timedelta
) -> None:
    """It has the length asked for, ends in time, and starts no unit too early."""
    span = timedelta(seconds=seconds)
    window = window_before(as_of, span, lag)
    assert window.end - window.start == span
    assert timedelta(0) <= as_utc(as_of) - lag - window.end < timedelta(days=1)


@SETTINGS
@given(INSTANTS, st.integers(1, 60), st.timedeltas(timedelta(0), timedelta(days=1)))
def test_whole_days_do_not_hang_on_the_hour(as_of: datetime, days: int, late: timedelta) -> None:
    """Any two starts on one UTC day mean the same window, cut at midnight."""
    span = timedelta(days=days)
    start = as_utc(as_of).replace(hour=0, minute=0, second=0, microsecond=0)
    late = min(late, timedelta(days=1) - timedelta(microseconds=1))
    assert window_before(start + late, span) == Window(start=start - span, end=start)
    assert start.tzinfo is UTC
