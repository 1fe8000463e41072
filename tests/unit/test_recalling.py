"""What the ledger tells of earlier checks and of what trainings took."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import recalling
from tasks.recalling import _new_rows, _trainings, circumstances, past_watches, spent_budgets
from tasks.registry import Move, ServedVersion
from tasks.settings import load_workload
from tasks.tracking import TrackedRun, tracked_run
from tests.windows import version
from twinloop.budget_keys import Budgets
from twinloop.decision import NEW_LABELS, Decision
from twinloop.logplan import Metric, Tag
from twinloop.outlookplan import ANSWERED
from twinloop.watches import Watch
from twinloop.window import Window

NOW, DAY = datetime(2012, 3, 1, tzinfo=UTC), timedelta(days=1)


def watch(day: int, action: str, sandbox: str = "", cause: str = "") -> None:
    """Write a check of some days ago into the ledger."""
    spec = load_workload(f"bikes-{sandbox}" if sandbox else "bikes")
    with tracked_run(spec, "monitoring", window=None, as_of=NOW - day * DAY) as run:
        run.log([Tag("twinloop.decision", action), Metric("accuracy/estimated_rmsle", 0.3)])
        run.log([Tag("twinloop.cause_of_retraining", cause)] if cause else [])


def now() -> TrackedRun:
    """Open and close a run of now: whoever asks does not count."""
    with tracked_run(load_workload("bikes"), "monitoring", window=None, as_of=NOW) as run:
        return run


def test_earlier_checks_come_in_order_of_their_moments(home: Path) -> None:
    """Whatever the order they ran in; of two of one moment the last; no other workload's."""
    for day, action in ((1, "fine"), (3, "retrain"), (2, "fine"), (2, "watch")):
        watch(day, action)
    watch(4, "retrain", sandbox="replay-drift")
    found = past_watches(load_workload("bikes"), NOW, now())
    assert [w.as_of for w in found] == [NOW - d * DAY for d in (3, 2, 1)]
    assert [w.action for w in found] == ["retrain", "watch", "fine"]
    assert {w.estimated for w in found} == {0.3}


def test_calls_are_known_though_more_checks_came_since_than_are_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that called for nothing, or were held back, are not: there may be one every hour."""
    monkeypatch.setattr(recalling, "_MOST", 3)
    for day, action, cause in (
        (9, "retrain", "drift: x"),
        (8, "fine", ""),
        (7, "fine", NEW_LABELS),
        (6, "watch", "labels"),
        (3, "fine", ""),
        (2, "retrain", "labels"),
        (1, "fine", ""),
    ):
        watch(day, action, cause=cause)
    found = past_watches(load_workload("bikes"), NOW, now())
    # One of the three is the check that asks.
    assert [w.as_of for w in found] == [NOW - d * DAY for d in (9, 7, 2, 1)]
    assert [w.called for w in found] == [True, True, True, False]


def test_what_comes_later_is_not_known_yet(home: Path) -> None:
    """A watch of a past moment, made again, sees what was before it."""
    for day in (1, 5):
        watch(day, "fine")
    found = past_watches(load_workload("bikes"), NOW - 2 * DAY, now())
    assert [w.as_of for w in found] == [NOW - 5 * DAY]


def test_a_retraining_that_found_nothing_to_do_is_an_answer(home: Path) -> None:
    """Drift is not asked about day after day; a call that was put off, or failed, stands."""
    spec, decision = (
        load_workload("bikes"),
        Decision(action="retrain", reasons=("x drifted",), features=(), cause="drift: x"),
    )
    known: dict[str, Any] = {"version": "1", "until": None, "trained_at": NOW - 9 * DAY}
    champion = ServedVersion.model_construct(**known)
    past = tuple(
        Watch(as_of=NOW - d * DAY, action="retrain", cause="drift: x", version="1") for d in (3, 2)
    )

    def calls() -> int:
        return circumstances(spec, champion, decision, past, now()).calls

    def answer(day: int, word: str, sandbox: str = "") -> None:
        mine = load_workload(f"bikes-{sandbox}" if sandbox else "bikes")
        with tracked_run(mine, "retraining", window=None, as_of=NOW - day * DAY) as run:
            run.log([Tag(ANSWERED, word)])

    assert calls() == 0
    answer(3, "no")
    answer(3, "yes", sandbox="replay-drift")
    with (
        suppress(ZeroDivisionError),
        tracked_run(spec, "retraining", window=None, as_of=NOW - 3 * DAY) as run,
    ):
        run.log([Tag(ANSWERED, "yes")])
        raise ZeroDivisionError
    assert calls() == 0
    answer(3, "yes")
    assert calls() == 1
    answer(2, "yes")
    assert calls() == 2


def test_asks_in_vain_are_counted_from_the_champion_on(home: Path) -> None:
    """New labels that asked before it was made led to it, or to one before; later ones to none."""
    spec = load_workload("bikes")
    fine = Decision(action="fine", reasons=("as promised",), features=())
    past = tuple(Watch(as_of=NOW - d * DAY, action="fine", cause=NEW_LABELS) for d in (9, 6, 3))
    for day in (9, 6, 3):
        with tracked_run(spec, "retraining", window=None, as_of=NOW - day * DAY) as run:
            run.log([Tag(ANSWERED, "yes")])
    known: dict[str, Any] = {"version": "1", "until": None}
    idle = []
    for day in (10, 9, 4, 3):
        champion = ServedVersion.model_construct(**known, trained_at=NOW - day * DAY)
        idle.append(circumstances(spec, champion, fine, past, now()).idle)
    assert idle == [3, 2, 1, 0]


def test_a_champion_that_came_back_has_been_asked_nothing_yet(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ask that led to the version it gave way to for a while was not in vain."""
    spec, fine = load_workload("bikes"), Decision(action="fine", reasons=("x",), features=())
    past = tuple(Watch(as_of=NOW - d * DAY, action="fine", cause=NEW_LABELS) for d in (9, 2))
    for day in (9, 2):
        with tracked_run(spec, "retraining", window=None, as_of=NOW - day * DAY) as run:
            run.log([Tag(ANSWERED, "yes")])
    moves: list[Move] = []
    monkeypatch.setattr(recalling, "champion_moves", lambda _: moves)
    known: dict[str, Any] = {"version": "1", "until": None, "trained_at": NOW - 20 * DAY}
    champion = ServedVersion.model_construct(**known)

    def idle() -> int:
        return circumstances(spec, champion, fine, past, now()).idle

    parts: dict[str, Any] = {"reason": "", "recorded": 0, "run_id": "r"}
    moves.append(Move(at=NOW - 20 * DAY, was="", became="1", **parts))
    moves.append(Move(at=NOW - 9 * DAY, was="1", became="2", **parts))
    assert idle() == 2
    moves.append(Move(at=NOW + DAY, was="2", became="1", **parts))
    assert idle() == 2
    moves.append(Move(at=NOW - 5 * DAY, was="2", became="1", **parts))
    assert idle() == 1


def test_an_ask_without_an_answer_is_only_a_call(home: Path) -> None:
    """So that what it waits for is told apart from what was asked."""
    spec, fine = load_workload("bikes"), Decision(action="fine", reasons=("x",), features=())
    past = tuple(Watch(as_of=NOW - d * DAY, action="fine", cause=NEW_LABELS) for d in (9, 2))
    known: dict[str, Any] = {"version": "1", "until": None, "trained_at": NOW - 20 * DAY}
    champion = ServedVersion.model_construct(**known)
    found = circumstances(spec, champion, fine, past, now())
    assert (found.since_any, found.since_answer) == (2 * DAY, None)
    with tracked_run(spec, "retraining", window=None, as_of=NOW - 9 * DAY) as run:
        run.log([Tag(ANSWERED, "yes")])
    found = circumstances(spec, champion, fine, past, now())
    assert (found.since_any, found.since_answer) == (2 * DAY, 9 * DAY)


def test_a_budget_that_is_spent_is_named(home: Path) -> None:
    """What trainings of this month took stands against what they may; a replay has no month."""
    spec = load_workload("bikes")
    with tracked_run(spec, "training", window=None, as_of=NOW):
        pass
    spent, left = (
        spec.model_copy(update={"budget": Budgets.model_validate({"training": {"month": bound}})})
        for bound in ({"minutes": 1e-9}, {"minutes": 60})
    )
    assert "(budget.training.month.minutes)" in spent_budgets(spent)
    assert spent_budgets(left) == ""
    assert spent_budgets(spent.model_copy(update={"sandbox": "replay"})) == ""


def test_rows_of_windows_that_overlap_count_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weeks scored every day, 70 rows each: two weeks and a day since the training are 150 rows."""
    spec, day = load_workload("bikes"), timedelta(days=1)
    ends = [NOW - n * DAY for n in range(40)]
    found: list[Any] = [
        SimpleNamespace(window=Window(start=end - 7 * day, end=end), scored=70) for end in ends
    ]
    monkeypatch.setattr(
        recalling,
        "overlapping",
        lambda _, w: [m for m in found if m.window.start < w.end and m.window.end > w.start],
    )
    since = NOW - spec.monitoring.labels_after - 15 * DAY
    champion = version().model_copy(update={"until": int(since.timestamp() * 1e6)})
    assert _new_rows(spec, champion, NOW) == 150


def test_a_second_replay_starts_afresh(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox keeps the first one's versions, which the guards of the second do not know."""
    spec = load_workload("bikes-replay-drift")
    found: list[ServedVersion] = []
    monkeypatch.setattr(recalling, "versions", lambda _: found)
    for number in (1, 2):
        with tracked_run(spec, "replay", window=None, as_of=NOW):
            with tracked_run(spec, "training", window=None, as_of=NOW) as training:
                pass
            at = NOW - number * DAY
            made = {"run_id": training.run_id, "trained_at": at}
            found.append(version(number).model_copy(update=made))
            with tracked_run(spec, "monitoring", window=None, as_of=NOW) as check:
                assert _trainings(spec, check) == [at]
    with tracked_run(spec, "monitoring", window=None, as_of=NOW) as check:
        assert _trainings(spec, check) == [NOW - DAY, NOW - 2 * DAY]
