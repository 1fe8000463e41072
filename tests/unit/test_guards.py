"""Guards: each holds a retraining back, names itself, and lets go in time."""

from datetime import timedelta
from typing import Any

import pytest

from twinloop.decision import NEW_LABELS, Decision, Harm, guarded, rolled_back
from twinloop.guards import Circumstances, holds, probes
from twinloop.workload import Workload

DAY = timedelta(days=1)
KEYS = {
    "name": "w",
    "task": "regression",
    "source": {"kind": "files", "path": "x"},
    "target": "y",
    "retraining": {"min_new_rows": 100},
}
WORKLOAD = Workload.model_validate(KEYS)
TIMED = Workload.model_validate(KEYS | {"time": "at"})


def held(_cause: str = "labels", **found: Any) -> str:
    """Return which guard holds in these circumstances."""
    return holds(_cause, Circumstances.model_validate(found), WORKLOAD)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"since_training": 2 * DAY}, "cooldown: 5 days of 7d left"),
        ({"since_training": 6.5 * DAY}, "cooldown: 12 hours of 7d left"),
        ({"since_training": 7 * DAY}, ""),
        ({"new_rows": 99}, "min_new_rows: 99 scored rows since the champion's training, 100"),
        ({"new_rows": 100}, ""),
        ({"spent": "2 of 2 EUR (budget.month.money)"}, "budget: 2 of 2 EUR (budget.month.money)"),
        ({"spent": ""}, ""),
        ({}, ""),
    ],
)
def test_each_guard_names_itself(found: dict[str, Any], words: str) -> None:
    """It says what there is and what is wanted; what is not known holds nothing."""
    said = held(**found)
    assert said.startswith(words)
    assert bool(said) == bool(words)


@pytest.mark.parametrize(("calls", "days"), [(1, 7), (2, 14), (3, 21), (4, 28)])
def test_labels_that_stay_bad_call_again_ever_later(calls: int, days: int) -> None:
    """The wait grows with each retraining that did not help: ever more rarely."""
    early, late = (held(calls=calls, since_call=(days + d) * DAY) for d in (-1, 0))
    assert early.startswith("one retraining a cause: it was tried")
    assert late == ""


@pytest.mark.parametrize(("worsened", "free"), [(1.1, False), (1.2, True)])
def test_an_error_that_got_clearly_worse_is_a_new_cause(worsened: float, free: bool) -> None:
    """It need not wait for the next turn of the old one."""
    said = held(calls=4, since_call=8 * DAY, worsened=worsened)
    assert (said == "") is free


def test_drift_is_answered_once() -> None:
    """Without labels nothing tells that another retraining would help: it is held for good."""
    said = held("drift: temperature", calls=1, since_call=400 * DAY)
    assert said == "one retraining a cause: drift: temperature had its own 400 days ago"
    assert held("estimate", calls=1, since_call=DAY)
    assert not held("drift: temperature")


def test_a_held_retraining_is_a_watch_that_says_why() -> None:
    """The guard is named among the reasons; what is no retraining is left as it is."""
    found = Circumstances(since_training=DAY)
    wanted = Decision(action="retrain", reasons=("bad",), features=(), cause="labels")
    after = guarded(wanted, found, WORKLOAD)
    assert (after.action, after.cause) == ("watch", "labels")
    assert after.reasons == ("bad", "no retraining now, cooldown: 6 days of 7d left")
    fine = Decision(action="fine", reasons=(), features=())
    assert guarded(fine, found, WORKLOAD) is fine
    assert guarded(wanted, Circumstances(), WORKLOAD) is wanted


@pytest.mark.parametrize(
    ("found", "asks"),
    [
        ({}, True),
        ({"since_any": 14 * DAY}, True),
        ({"since_any": 13 * DAY}, False),
        ({"since_training": 60 * DAY, "idle": 1, "since_answer": 27 * DAY}, False),
        ({"since_training": 60 * DAY, "idle": 1, "since_answer": 28 * DAY}, True),
        ({"since_training": 27 * DAY, "idle": 1, "since_answer": 60 * DAY}, False),
        ({"since_training": None, "since_any": 14 * DAY}, True),
        ({"since_training": 13 * DAY}, False),
        ({"since_training": None}, False),
        ({"new_rows": 99}, False),
        ({"new_rows": None}, False),
        ({"spent": "1 of 1 EUR"}, False),
    ],
)
def test_new_labels_alone_ask_what_a_refresh_would_bring(found: dict[str, Any], asks: bool) -> None:
    """Every two weeks, where enough is new and anything may be spent; the decision stays fine."""
    harm = Harm(
        metric="rmse", expected=1, realised=1, p_value=1, n_rows=9, n_blocks=3, harmful=False
    )
    fine = Decision(action="fine", reasons=("as promised",), features=(), harm=harm)
    known = Circumstances.model_validate({"since_training": 20 * DAY, "new_rows": 100} | found)
    after = guarded(fine, known, TIMED)
    assert (after.action, after.calls, after.cause == NEW_LABELS) == ("fine", asks, asks)
    assert ("100 scored rows whose labels are due are newer" in after.reason) is asks


@pytest.mark.parametrize(("since", "asks"), [(13, False), (14, True), (27, True)])
def test_an_ask_that_was_put_off_is_followed_after_the_usual_time(since: int, asks: bool) -> None:
    """It learned nothing, so that the longer wait goes on from the last that had an answer."""
    found = {"since_training": 90 * DAY, "new_rows": 100, "idle": 2, "since_answer": 56 * DAY}
    known = Circumstances.model_validate(found | {"since_any": since * DAY})
    assert bool(probes(known, TIMED)) is asks
    early = known.model_copy(update={"since_answer": 55 * DAY})
    assert not probes(early, TIMED)


def test_what_calls_is_the_reason_whatever_else_is_said() -> None:
    """New labels alone call: that stays the reason where another voice is heard after it."""
    harm = Harm(
        metric="rmse", expected=1, realised=1, p_value=1, n_rows=9, n_blocks=3, harmful=False
    )
    fine = Decision(action="fine", reasons=("as promised",), features=(), harm=harm)
    after = guarded(fine, Circumstances(since_training=20 * DAY, new_rows=100), TIMED)
    after = after.model_copy(update={"reasons": (*after.reasons, "v2 is on probation")})
    assert "100 scored rows" in after.reason


@pytest.mark.parametrize("cause", ["labels", NEW_LABELS])
def test_after_a_rollback_nothing_is_called_for(cause: str) -> None:
    """Whatever had called, it was measured on a version that serves no more."""
    wanted = Decision(
        action="retrain" if cause == "labels" else "fine",
        reasons=("bad",),
        features=(),
        cause=cause,
    )
    assert wanted.calls
    after = rolled_back(wanted, "rolled back: v2 is worse")
    assert (after.action, after.held, after.calls) == ("watch", "rolled back", False)
    assert after.reasons == ("rolled back: v2 is worse", "bad")


def test_who_gets_a_search_or_has_no_labels_does_not_ask() -> None:
    """A probe is no way to a search, nor is there one without labels or without time."""
    known = Circumstances(since_training=20 * DAY, new_rows=100)
    fine = Decision(action="fine", reasons=(), features=())
    assert not guarded(fine, known, TIMED).calls
    assert probes(known, TIMED)
    rules = {"search": "always"}, {"probe_after": None}
    for rule in rules:
        retraining = TIMED.retraining.model_copy(update=rule)
        assert not probes(known, TIMED.model_copy(update={"retraining": retraining}))
    assert not probes(known, WORKLOAD)
