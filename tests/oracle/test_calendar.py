"""Calendar features against Python's own datetime."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.encoding import Encoding, Feature

TIMES = st.datetimes(timezones=st.just(UTC))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENCODING = Encoding(
    features=tuple(
        Feature(name=how, source="t", how=how) for how in ("hour", "weekday", "month", "timestamp")
    )
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | TIMES, min_size=1, max_size=8))
def test_calendar_parts_agree_with_datetime(times: list[datetime | None]) -> None:
    """Hour, weekday from Monday, month from 0, and days since 1970, from year 1 to 9999."""
    table = pa.table({"t": pa.array(times, pa.timestamp("us", "UTC"))})
    wanted = [
        [np.nan] * 4
        if t is None
        else [t.hour, t.weekday(), t.month - 1, (t - EPOCH).total_seconds() / 86400]
        for t in times
    ]
    np.testing.assert_array_equal(ENCODING.encode(table), np.array(wanted, np.float32))
