"""Guards: each holds a retraining back, names itself, and lets go in time."""

from datetime import timedelta
from typing import Any

import pytest

from twinloop.decision import Decision, guarded
from twinloop.guards import Circumstances, holds
from twinloop.workload import Workload

DAY = timedelta(days=1)
WORKLOAD = Workload.model_validate(
    {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
        "retraining": {"min_new_rows": 100},
    }
)


def held(_cause: str = "labels", **found: Any) -> str:
    """Return which guard holds in these circumstances."""
    return holds(_cause, Circumstances.model_validate(found), WORKLOAD)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"since_training": 2 * DAY}, "cooldown: 5 days of 7d left"),
        ({"since_training": 6.5 * DAY}, "cooldown: 12 hours of 7d left"),
        ({"since_training": 7 * DAY}, ""),
        ({"new_rows": 99}, "min_new_rows: 99 labelled rows since the champion's training, 100"),
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
