"""Windows are half-open, in UTC and whole; durations have a unit and a sign."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from prefect.types import DateTime
from pydantic import TypeAdapter, ValidationError

from twinloop.window import (
    Duration,
    Window,
    as_utc,
    format_instant,
    newest_parts,
    parse_duration,
    scheduled_windows,
    window_before,
)

DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)
DAY = timedelta(days=1)
ROME = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("180d", timedelta(days=180)),
        ("2w", timedelta(weeks=2)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        (" 1.5 h ", timedelta(minutes=90)),
        ("0s", timedelta(0)),
        ("P1D", DAY),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, span: timedelta) -> None:
    """All documented spellings, and ISO 8601, are read."""
    assert DURATION.validate_python(text) == span


@pytest.mark.parametrize(
    "value", ["7x", "d", "", "-1d", "1d2h", "-P1D", 180, 0.5, True, "99999999999w"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    """No unit, no number, a negative or an endless span: an error, never a guess."""
    with pytest.raises(ValidationError):
        DURATION.validate_python(value)


def test_a_bare_number_is_told_what_it_lacks() -> None:
    """The error shows the value and the expected form."""
    with pytest.raises(ValueError, match=r"180 has no unit; .* 180d"):
        parse_duration(180)


def test_a_window_is_read_from_text() -> None:
    """Dates mean midnight UTC."""
    window = Window.model_validate("2012-01-01/2012-02-01")
    assert window.start == datetime(2012, 1, 1, tzinfo=UTC)
    assert window.end == datetime(2012, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2012-01-01", "'2012-01-01' is no window; expected START/END"),
        ("2012-02-01/2012-01-01", "start must be earlier"),
        ("2012-02-01/2012-02-01", "start must be earlier"),
        ("yesterday/2012-02-01", "start"),
    ],
)
def test_what_is_no_window_is_refused(text: str, told: str) -> None:
    """An empty or backward span, or no span at all, names what is wrong."""
    with pytest.raises(ValidationError, match=told):
        Window.model_validate(text)


def test_times_are_turned_to_utc() -> None:
    """Naive times are read as UTC, others are converted."""
    naive = datetime(2012, 6, 1, 12)  # noqa: DTZ001 - the point of the test
    assert as_utc(naive) == datetime(2012, 6, 1, 12, tzinfo=UTC)
    window = Window(start=datetime(2012, 6, 1, 2, tzinfo=ROME), end=naive)
    assert window.start == datetime(2012, 6, 1, tzinfo=UTC)
    assert window.start.tzinfo is UTC


def test_a_time_that_a_server_told_is_a_time_like_any_other() -> None:
    """What Prefect's server tells loses its zone in arithmetic; schedules are kept anyway."""
    told = TypeAdapter(DateTime).validate_python("2012-06-08T05:00:00Z")
    assert type(as_utc(told)) is datetime
    since = as_utc(told) - 7 * DAY
    windows = scheduled_windows("0 5 * * *", DAY, since, told)
    assert [str(w) for w in windows[::6]] == ["2012-05-31/2012-06-01", "2012-06-06/2012-06-07"]


def test_a_window_cannot_be_changed() -> None:
    """A window is a value."""
    window = Window.model_validate("2012-01-01/2012-02-01")
    with pytest.raises(ValidationError, match="frozen"):
        window.start = datetime(2011, 1, 1, tzinfo=UTC)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (datetime(2012, 6, 1, tzinfo=UTC), "2012-06-01"),
        (datetime(2012, 6, 1, 5, 7, tzinfo=UTC), "2012-06-01T05:07"),
        (datetime(2012, 6, 1, 5, 7, 9, tzinfo=UTC), "2012-06-01T05:07:09"),
        (datetime(2012, 6, 1, 0, 0, 0, 1, tzinfo=UTC), "2012-06-01T00:00:00.000001"),
        (datetime(2012, 6, 1, 2, tzinfo=ROME), "2012-06-01"),
    ],
)
def test_an_instant_is_written_as_briefly_as_it_is_exact(instant: datetime, text: str) -> None:
    """Nothing that tells two instants apart is left out."""
    assert format_instant(instant) == text


@pytest.mark.parametrize("late", [timedelta(0), timedelta(minutes=7), timedelta(hours=18.9)])
def test_a_daily_job_means_the_same_day_however_late_it_starts(late: timedelta) -> None:
    """Whole-day spans end at midnight."""
    window = window_before(datetime(2012, 6, 2, 5, tzinfo=UTC) + late, DAY)
    assert str(window) == "2012-06-01/2012-06-02"


@pytest.mark.parametrize(
    ("span", "end"),
    [
        (timedelta(days=7), "2012-06-02"),
        (timedelta(hours=6), "2012-06-02T05:00"),
        (timedelta(minutes=90), "2012-06-02T05:07"),
        (timedelta(seconds=45), "2012-06-02T05:07:09"),
    ],
)
def test_the_end_is_floored_to_the_unit_of_the_span(span: timedelta, end: str) -> None:
    """Days for whole days, hours for whole hours, and so on."""
    window = window_before(datetime(2012, 6, 2, 5, 7, 9, 10, tzinfo=UTC), span)
    assert format_instant(window.end) == end
    assert window.end - window.start == span


def test_a_lag_moves_the_window_back() -> None:
    """Labels that come two days late are asked of the window two days before."""
    window = window_before(datetime(2012, 6, 5, 5, tzinfo=UTC), DAY, timedelta(days=2))
    assert str(window) == "2012-06-02/2012-06-03"


def days(first: int, last: int) -> Window:
    """Return the span of days of January, the last one excluded."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return Window(start=start + first * DAY, end=start + last * DAY)


def test_each_moment_is_in_the_newest_window_that_has_it() -> None:
    """Weeks that were scored every day share no moment, and together are all that was scored."""
    weeks = [days(n, n + 7) for n in range(10)]
    found = newest_parts([*weeks[5:], *weeks[:5]])
    assert [window for window, _ in found] == weeks[::-1]
    assert [part for _, part in found] == [days(9, 16), *(days(n, n + 1) for n in range(8, -1, -1))]
    apart = [days(0, 2), days(2, 3), days(5, 6)]
    assert newest_parts(apart) == tuple((w, w) for w in apart[::-1])
    # A day made again within a month that was made at once counts for itself.
    assert [p for _, p in newest_parts([days(0, 30), days(29, 30)])] == [days(29, 30), days(0, 29)]


def test_windows_that_are_left_out_cover_nothing_themselves() -> None:
    """Of weeks a day apart every seventh is left, and no day is missing between them."""
    found = newest_parts([days(n, n + 7) for n in range(15)], 0.9)
    assert [part for _, part in found] == [days(14, 21), days(7, 14), days(0, 7)]
    half = newest_parts([days(n, n + 2) for n in range(4)], 0.5)
    assert [part for _, part in half] == [days(3, 5), days(1, 3)]
