"""Windows: half-open spans of event time, in UTC."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Self

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

_UNITS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_SECOND = 1_000_000  # microseconds
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([wdhms])")


def parse_duration(value: Any) -> Any:
    """Read a duration such as ``180d``, ``12h`` or ``30m``.

    Parameters
    ----------
    value
        A string of a number and one of w, d, h, m, s; ISO 8601 and what is a duration already
        pass through.

    Raises
    ------
    ValueError
        If a string is not of that form, or a number has no unit.
    """
    if isinstance(value, int | float):
        raise ValueError(f"{value!r} has no unit; expected a duration like 180d or 12h")  # noqa: TRY004 - pydantic reports ValueErrors
    if not isinstance(value, str) or value.startswith(("P", "-P")):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        raise ValueError(
            f"{value!r} is no duration; expected a number and a unit, like 180d or 12h"
        )
    try:
        return timedelta(microseconds=round(Decimal(found[1]) * _UNITS[found[2]] * _SECOND))
    except OverflowError as err:
        raise ValueError(f"{value!r} is longer than any history") from err


def _not_negative(span: timedelta) -> timedelta:
    if span < timedelta(0):
        raise ValueError(f"{span} is negative; a duration is 0 or more")
    return span


def format_duration(span: timedelta) -> str:
    """Write a duration the way workload files spell it, like ``7d``."""
    micros = span // timedelta(microseconds=1)
    for unit in ("d", "h", "m", "s"):
        if micros and micros % (_UNITS[unit] * _SECOND) == 0:
            return f"{micros // (_UNITS[unit] * _SECOND)}{unit}"
    return f"{Decimal(micros) / _SECOND:f}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    AfterValidator(_not_negative),
    PlainSerializer(format_duration, return_type=str),
]


def as_utc(value: datetime) -> datetime:
    """Give a time its zone: naive times are read as UTC.

    What comes back is a plain `datetime`: subclasses, such as Prefect's, lose their zone in
    arithmetic.
    """
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return datetime.combine(aware, aware.time(), UTC)


class Window(BaseModel):
    """A half-open span ``[start, end)`` of event time, UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: datetime = Field(description="First instant of the window, UTC")
    end: datetime = Field(description="First instant after the window, UTC")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            start, slash, end = value.partition("/")
            if not slash:
                raise ValueError(
                    f"{value!r} is no window; expected START/END, like 2012-01-01/2012-02-01"
                )
            return {"start": start.strip(), "end": end.strip()}
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        object.__setattr__(self, "start", as_utc(self.start))
        object.__setattr__(self, "end", as_utc(self.end))
        if self.start >= self.end:
            raise ValueError(
                f"window starts at {self.start} and ends at {self.end}: start must be earlier"
            )
        return self

    def __str__(self) -> str:
        return f"{format_instant(self.start)}/{format_instant(self.end)}"


def format_instant(value: datetime) -> str:
    """Write a time as briefly as it is exact: a date, or date and minutes."""
    utc = as_utc(value)
    if utc.timetz().replace(tzinfo=None) == datetime.min.time():
        return utc.strftime("%Y-%m-%d")
    if utc.second == 0 and utc.microsecond == 0:
        return utc.strftime("%Y-%m-%dT%H:%M")
    return utc.replace(tzinfo=None).isoformat()


def window_before(as_of: datetime, span: timedelta, lag: timedelta = timedelta(0)) -> Window:
    """Return the newest whole window of a length that had ended at a time.

    The end is rounded down to the largest of day, hour, minute or second that divides `span`, so
    that a daily job means whole days however late it starts.

    Parameters
    ----------
    as_of
        The moment the work is meant for, UTC.
    span
        Length of the window.
    lag
        How long before `as_of` the window must have ended.
    """
    seconds = span.total_seconds()
    unit = next((u for u in (86400, 3600, 60) if seconds % u == 0), 1)
    end = (as_utc(as_of) - lag).timestamp() // unit * unit
    last = datetime.fromtimestamp(end, UTC)
    return Window(start=last - span, end=last)


def newest_parts(
    windows: Sequence[Window], least: float = 0.0
) -> tuple[tuple[Window, Window], ...]:
    """Return windows with the part of each that no newer one covers: each moment counts once.

    Newer is what ends later, and of two that end together the shorter one.

    Parameters
    ----------
    windows
        In any order.
    least
        Windows of which no more than this share is left are left out, and cover nothing.

    Returns
    -------
    tuple of pairs of Window and Window
        Window and part, the newest first. Parts share no moment.
    """
    found: list[tuple[Window, Window]] = []
    for window in sorted(windows, key=lambda w: (w.end, w.start), reverse=True):
        # Those before end no earlier: what they cover of this one reaches up to its end.
        end = min([window.end, *(w.start for w, _ in found)])
        if end - window.start > least * (window.end - window.start):
            found.append((window, Window(start=window.start, end=end)))
    return tuple(found)


def check_cron(expression: str) -> str:
    """Return a cron expression that makes sense.

    Raises
    ------
    ValueError
        If it does not.
    """
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as err:
        raise ValueError(
            f"{expression!r} is no cron expression ({err}); expected five fields like '0 5 * * *'"
        ) from err
    return expression


Cron = Annotated[str, AfterValidator(check_cron)]


def scheduled_windows(cron: str, span: timedelta, since: datetime, until: datetime) -> list[Window]:
    """Return the windows of a scheduled job's runs, the oldest first, each once.

    Parameters
    ----------
    cron
        When it runs, UTC.
    span
        Length of its windows.
    since, until
        Runs from then on, and before then, UTC.
    """
    windows: dict[Window, None] = {}
    # The iterator starts after the moment it is given.
    for tick in CronSim(cron, as_utc(since) - timedelta(seconds=1)):
        if tick >= as_utc(until):
            break
        windows[window_before(tick, span)] = None
    return list(windows)
