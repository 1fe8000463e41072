"""The steps of a retraining: what keeps one from its way ends none of the others."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from tasks.choosing import _kept, choose_history
from tasks.deciding import searched_alike, searched_window
from tasks.refreshing import Made, Refresh, prepare_refresh, probe_refresh
from tasks.registry import ServedVersion
from tasks.settings import load_workload
from tasks.tracking import client, tracked_run
from twinloop.continuation import continued_result
from twinloop.errors import EmptyWindowError, QuarantineError, TwinloopError
from twinloop.histories import Compared
from twinloop.historyplan import plan_histories
from twinloop.outlook import Hindrance
from twinloop.recipe import Recipe
from twinloop.refresh import History
from twinloop.results import CandidateResult
from twinloop.window import Window

NOW, DAY = datetime(2012, 3, 1, tzinfo=UTC), timedelta(days=1)
WINNER = CandidateResult(
    name="linear", metric="rmsle", folds=(), fit_seconds=0, predict_seconds=0, rows=0
)
MADE = Made(winner=WINNER, recipe=Recipe(candidate="linear"))


def champion(until: datetime) -> ServedVersion:
    """Return a version that has known rows until a moment."""
    known: dict[str, Any] = {"version": "1", "until": int(until.timestamp()) * 1_000_000}
    return ServedVersion.model_construct(**known)


def refresh_of(**known: Any) -> Refresh:
    """Return a refresh of which only so much is known as a step looks at."""
    return Refresh.model_construct(**known)


def raising(error: TwinloopError) -> Any:
    """Return a function that does nothing but fail."""

    def fail(*_: object) -> None:
        raise error

    return fail


def test_unfit_rows_of_before_the_window_leave_the_window_as_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retraining does not fail for rows that it need not be fitted on; the run says why."""
    found = QuarantineError("40% of the rows are unfit.", "Mend them.")
    monkeypatch.setattr("tasks.choosing.prepare_snapshot", raising(found))
    spec = load_workload("bikes")
    with tracked_run(spec, "retraining", window=None, as_of=NOW) as run:
        chosen = choose_history.fn(spec, MADE, 14 * DAY, NOW, run)
    assert chosen == History(span=180 * DAY)
    reason = client().get_run(run.run_id).data.tags["twinloop.history_reason"]
    assert reason == "180d: others could not be compared, 40% of the rows are unfit."


def test_a_choice_is_kept_for_the_window_it_was_made_for(home: Path) -> None:
    """With another window in the workload's file it is made anew, and so it is once it is old."""
    spec = load_workload("bikes")
    base = {"error": 1.0, "gain": 0.0, "standard_error": 0.0, "rows": 9, "cpu_seconds": 0.0}
    own = Compared(history=History(span=180 * DAY), **base)
    best = Compared(history=History(span=90 * DAY), **base | {"error": 0.5, "gain": 0.5})
    with tracked_run(spec, "retraining", window=None, as_of=NOW - 9 * DAY) as run:
        run.log(plan_histories((own, best), spec))
    assert _kept(spec, 180 * DAY, NOW, run) == History(span=90 * DAY)
    assert _kept(spec, 60 * DAY, NOW, run) is None
    assert _kept(spec, 180 * DAY, NOW + 60 * DAY, run) is None


def test_rows_that_cannot_be_split_for_a_refresh_are_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So short a holdout may hold no group that is new: that fails no retraining."""
    found = EmptyWindowError("none of the 9 rows of the holdout is of a new group.")
    monkeypatch.setattr("tasks.refreshing.open_study", raising(found))
    spec = load_workload("bikes")
    refresh = refresh_of(workload=spec, champion=champion(NOW), snapshot=None)
    said = probe_refresh.fn(refresh)
    assert isinstance(said, Hindrance)
    assert (said.lasting, found.message in said.words) == (False, True)


def test_rows_of_one_moment_are_no_division_by_zero(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, no time lies between them."""
    at = NOW - 2 * DAY
    table = pa.table({"timestamp": pa.array([at] * 500, pa.timestamp("us", "UTC"))})
    monkeypatch.setattr(
        "tasks.refreshing.prepare_snapshot",
        lambda *_: SimpleNamespace(table=lambda: table, rows=500),
    )
    monkeypatch.setattr("tasks.refreshing.Refresh", SimpleNamespace)
    spec = load_workload("bikes")
    found = prepare_refresh.fn(spec, champion(NOW - 90 * DAY), MADE, History(span=90 * DAY), NOW)
    assert not isinstance(found, Hindrance)
    assert found.new_rows >= 500


@pytest.mark.parametrize(
    ("holdout", "half_life", "taken"),
    [(14 * DAY, None, True), (9 * DAY, None, False), (14 * DAY, 30 * DAY, False)],
)
def test_a_search_takes_a_history_over_only_where_it_is_judged_on_other_rows(
    holdout: timedelta, half_life: timedelta | None, taken: bool
) -> None:
    """With a holdout longer than the refresh's it would be judged on what chose the history."""
    spec = load_workload("bikes")
    training = spec.training.model_copy(update={"holdout": holdout})
    own, longer = Window(start=NOW - 180 * DAY, end=NOW), Window(start=NOW - 360 * DAY, end=NOW)
    refresh = refresh_of(
        workload=spec.model_copy(update={"training": training}),
        history=History(span=360 * DAY, half_life=half_life),
        window=longer,
        own_holdout=14 * DAY,
        new=60 * DAY,
        like=WINNER,
    )
    assert searched_window(refresh, own) == (longer if taken else own)
    assert searched_window(None, own) == own
    # So its winner is fitted as the refresh is, unless that is no fit at all.
    assert searched_alike(refresh) is taken
    grown = continued_result(WINNER, "1", "0" * 64, 30 * DAY)
    assert not searched_alike(refresh.model_copy(update={"like": grown}))
    assert not searched_alike(None)
