"""Backfill: an old window is scored by the model of its day."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.backfill import backfill
from flows.train_model import train_model
from tasks.registry import (
    ServedVersion,
    champion_at,
    find_champion,
    move_champion,
    resolve_champion,
    versions,
)
from tasks.settings import load_workload
from twinloop.errors import RegistryError, WorkloadError
from twinloop.verdict import Verdict
from twinloop.window import Window
from twinloop.workload import Overrides

FIRST = datetime(2011, 7, 1, tzinfo=UTC)
SECOND = FIRST + timedelta(days=3)
QUICK = Overrides(candidates=("baseline", "linear"), folds=3)

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def two_champions(home: Path) -> Path:
    """Train twice, three days apart, and make the second version champion on its day."""
    train_model("bikes", as_of=FIRST, overrides=QUICK)
    result = train_model("bikes", as_of=SECOND, overrides=QUICK)
    spec = load_workload("bikes")
    champion = find_champion(spec)
    assert champion is not None
    assert champion.version == "1"
    challenger = version_named(result.version)
    verdict = Verdict(outcome="promote", reason="for the test", metric="rmsle")
    move_champion(spec, challenger, champion, verdict, SECOND)
    return home


def version_named(version: str) -> ServedVersion:
    """Find a version by its number."""
    return next(v for v in versions(load_workload("bikes")) if v.version == version)


def test_champion_of_a_date_is_known(two_champions: Path) -> None:
    """Who served at a time is read from the record of moves; before the first, nobody."""
    spec = load_workload("bikes")
    known = {
        days: found.version if (found := champion_at(spec, FIRST + timedelta(days=days))) else None
        for days in (-1, 0, 2, 3, 30)
    }
    assert known == {-1: None, 0: "1", 2: "1", 3: "2", 30: "2"}
    with pytest.raises(RegistryError, match="2011-06-01"):
        resolve_champion.fn(spec, datetime(2011, 6, 1, tzinfo=UTC))


def test_each_window_is_scored_by_the_model_of_its_day(two_champions: Path) -> None:
    """A backfill takes the version of each date, and leaves complete windows as they are."""
    span = Window(start=FIRST, end=FIRST + timedelta(days=5))
    filled = list(backfill("bikes", span))
    used = [m.version.version if m else None for _, m in filled]
    assert used == ["1", "1", "2", "2", "2"]
    assert [m.scored if m else 0 for _, m in filled] == [24] * 5
    again = list(backfill("bikes", span))
    assert all(m is not None and m.reused for _, m in again)


def test_windows_without_rows_are_said_and_passed(two_champions: Path) -> None:
    """A day the source does not have is no reason to stop."""
    late = datetime(2030, 1, 1, tzinfo=UTC)
    filled = list(backfill("bikes", Window(start=late, end=late + timedelta(days=2))))
    assert [m for _, m in filled] == [None, None]


def test_rows_without_time_have_no_span(home: Path) -> None:
    """A workload without a time column cannot be filled window by window."""
    with pytest.raises(WorkloadError, match="no time column"):
        list(backfill("diabetes", Window(start=FIRST, end=SECOND)))
