"""Watches: what is written down of a check is read back, and what the past says of now."""

from datetime import UTC, datetime, timedelta

import pytest

from twinloop.decision import NEW_LABELS, Decision, Expectation, decide
from twinloop.drift import FeatureDrift
from twinloop.estimate import Estimate
from twinloop.harm import Harm, Period
from twinloop.watches import (
    Watch,
    asked_in_vain,
    calls_before,
    loss_names,
    missed_lately,
    numbers_of,
    past_checks,
    past_periods,
    watch_of,
    with_record,
)
from twinloop.workload import Workload

NOW, DAY = datetime(2026, 5, 1, tzinfo=UTC), timedelta(days=1)
WEEK = 7 * DAY
WORKLOAD = Workload.model_validate(
    {"name": "w", "task": "regression", "source": {"kind": "files", "path": "x"}, "target": "y"}
)


def estimate(value: float = 1.0, reach: float = 0.2, metric: str = "rmse") -> Estimate:
    """Return an estimate with its interval."""
    return Estimate(
        metric=metric,
        value=value,
        low=value - reach,
        high=value + reach,
        rows=100,
        checks=5,
        variance=0.01,
    )


def checked(day: int, realised: float, **more: object) -> Watch:
    """Return a watch of some days ago whose labels have come: 1 +- 0.2 was estimated."""
    return Watch.model_validate(
        {
            "as_of": NOW - day * DAY,
            "realised": realised,
            "checked": 1.0,
            "checked_low": 0.8,
            "checked_high": 1.2,
            "checked_variance": 0.01,
            "loss": Period(mean=realised, deviation=0.1, blocks=7),
        }
        | more
    )


def test_what_is_logged_is_read_back() -> None:
    """Every number of a decision comes back from the metrics and tags of its run."""
    known = Expectation(promised=1.0, estimate=estimate(), checked=estimate(1.1), realised=1.2)
    decision = Decision(
        action="watch", reasons=(), features=(), expectation=known, cause="labels", held="cooldown"
    )
    metrics = dict(numbers_of(decision, "rmse"))
    assert metrics["accuracy/estimated_rmse"] == 1.0
    assert (metrics["accuracy/estimated_low_rmse"], metrics["accuracy/estimated_high_rmse"]) == (
        0.8,
        1.2,
    )
    tags = {
        "twinloop.as_of": NOW.isoformat(),
        "twinloop.version": "3",
        "twinloop.decision": "watch",
        "twinloop.cause_of_retraining": "labels",
        "twinloop.held": "cooldown",
    }
    assert Watch.of("rmse", metrics, tags) == watch_of(decision, NOW, "3")


def test_runs_of_before_are_read_as_well() -> None:
    """A check that logged none of it is a watch without numbers."""
    tags = {"twinloop.as_of": NOW.isoformat(), "twinloop.decision": "fine"}
    found = Watch.of("rmse", {"drift/columns": 0.0}, tags)
    assert (found.estimated, found.check, found.loss, found.missed) == (None, None, None, False)


def test_losses_of_another_metric_are_not_read() -> None:
    """Where the workload's metric was changed, what rows lost by the one before says nothing."""
    numbers = {"mean": 0.5, "deviation": 0.1, "blocks": 7.0}
    metrics = {name: numbers[field] for field, name in loss_names("mae").items()}
    tags = {"twinloop.as_of": NOW.isoformat()}
    assert Watch.of("mae", metrics, tags).loss == Period(mean=0.5, deviation=0.1, blocks=7)
    assert Watch.of("rmse", metrics, tags).loss is None
    # Metrics without a loss by the row share the one that stands in for them.
    assert loss_names("accuracy") == loss_names("log_loss")


def test_windows_that_share_rows_count_once() -> None:
    """Of daily watches over a week one a week counts, the newest first."""
    daily = [checked(day, 1.0 + 0.01 * day) for day in range(1, 22)]
    assert [c.realised for c in past_checks(daily, WEEK)] == pytest.approx([1.01, 1.08, 1.15])
    periods = past_periods(daily, WEEK, NOW)
    # Those that share rows with now are left out.
    assert [p.mean for p in periods] == pytest.approx([1.07, 1.14, 1.21])
    assert past_periods([checked(400, 1.0)], WEEK, NOW) == ()


def test_estimates_that_were_wrong_lately_are_not_leant_on() -> None:
    """Two of the last three outside of their interval: the estimate alone retrains nothing."""
    past = [checked(28, 1.0), checked(21, 1.0), checked(14, 2.0), checked(7, 1.5)]
    assert missed_lately(past, WEEK) == (2, 3)
    bad = Expectation(promised=0.5, estimate=estimate())
    trusted = with_record(bad, past[:2], NOW, WEEK)
    assert decide((), None, 0.0, WORKLOAD, trusted).action == "retrain"
    wary = decide((), None, 0.0, WORKLOAD, with_record(bad, past, NOW, WEEK))
    assert wary.action == "watch"
    assert any("2 of the last 3 estimates were wrong" in reason for reason in wary.reasons)


def test_the_check_of_now_is_on_the_record() -> None:
    """Labels that have just come count among the last estimates."""
    known = Expectation(promised=1.0, estimate=estimate(), checked=estimate(), realised=2.0)
    found = with_record(known, [], NOW, WEEK)
    assert (found.missed, found.of, found.trusted) == (1, 1, False)


def test_an_estimate_in_line_calms_nobody() -> None:
    """Drift of what the model uses retrains without labels, whatever the estimate says."""
    drift = FeatureDrift(column="x", distance=0.5, p_value=0.0, importance=0.5, drifted=True)
    known = Expectation(promised=1.0, estimate=estimate())
    found = decide((drift,), None, 0.0, WORKLOAD, known)
    assert (found.action, found.cause) == ("retrain", "drift: x")
    assert "a changed concept would not show in it" in found.reasons[0]
    idle = drift.model_copy(update={"importance": 0.01})
    assert decide((idle,), None, 0.0, WORKLOAD, known).action == "fine"


@pytest.mark.parametrize(
    ("metric", "promised", "worse"),
    [
        ("rmse", 0.7, True),
        ("rmse", 0.79, False),
        ("accuracy", 0.95, True),
        ("accuracy", 0.9, False),
    ],
)
def test_worse_is_beyond_the_interval_and_the_tolerance(
    metric: str, promised: float, worse: bool
) -> None:
    """Even the better end of the interval must be above what was promised, by more than 5 %."""
    value = 1.0 if metric == "rmse" else 0.8
    known = Expectation(
        promised=promised, estimate=estimate(value, 0.2 if metric == "rmse" else 0.1, metric)
    )
    assert known.worse(0.05) is worse


def test_lost_ground_is_the_first_reason() -> None:
    """Where the champion promised as little, the reason names what was once reached."""
    harm = Harm(
        metric="rmse",
        expected=1.0,
        realised=1.0,
        p_value=0.5,
        n_rows=100,
        n_blocks=10,
        harmful=False,
        reached=0.5,
        reached_p=0.001,
        lost=True,
    )
    found = decide((), harm, 0.0, WORKLOAD)
    assert (found.action, found.cause) == ("retrain", "reached")
    assert found.reasons[0] == "rmse 1 on 100 labelled rows, 0.5 was once reached, p 0.001"


def call(day: int, cause: str, action: str = "retrain", version: str = "1") -> Watch:
    """Return a watch of some days ago that called for a retraining, or would have."""
    return Watch(as_of=NOW - day * DAY, cause=cause, action=action, realised=1.0, version=version)


def test_calls_in_a_row_are_counted_until_it_was_well() -> None:
    """Answered ones only; a check that found labels fine begins afresh."""
    past = [
        call(60, "labels"),
        call(50, "", "fine"),
        call(40, "labels"),
        call(30, "reached"),
        call(25, "labels", "watch"),
    ]
    trained = [NOW - 38 * DAY, NOW - 30 * DAY]
    assert calls_before(past, "labels", trained, "2") == (2, past[3])
    assert calls_before(past, "labels", [], "2") == (0, None)
    assert calls_before(past, "drift: x", trained, "1") == (0, None)


def test_one_training_answers_one_call_however_often_it_was_called_for() -> None:
    """Of daily calls only the newest before it; those since are open, and so are those before."""
    daily = [call(day, "labels") for day in range(28, 7, -1)]
    at = NOW - 8 * DAY
    assert calls_before(daily, "labels", [at], "1") == (1, daily[-1])
    # Two answers on one day are one.
    assert calls_before(daily, "labels", [at, at], "1") == (1, daily[-1])
    assert calls_before(daily, "labels", [NOW - 20 * DAY, at], "1") == (2, daily[-1])
    assert calls_before(daily, "labels", [NOW - 40 * DAY], "1") == (0, None)


def test_what_new_labels_asked_for_is_no_answer_to_an_older_call() -> None:
    """The newest call is what an answer is to, whatever it was for."""
    asked = Watch(as_of=NOW - 5 * DAY, cause=NEW_LABELS, action="fine", version="1")
    past = [call(9, "drift: x"), asked]
    assert calls_before(past, "drift: x", [NOW - 5 * DAY], "1") == (0, None)
    assert calls_before(past, "drift: x", [NOW - 9 * DAY], "1")[0] == 1


def test_drift_of_the_same_columns_is_the_same_cause() -> None:
    """Fewer columns are nothing new, another one is; so is drift from a new champion's rows."""
    past, trained = [call(9, "drift: x, y")], [NOW - 8 * DAY]
    assert calls_before(past, "drift: x", trained, "1")[0] == 1
    assert calls_before(past, "drift: x, z", trained, "1")[0] == 0
    assert calls_before(past, "drift: x", trained, "2")[0] == 0


def test_only_new_labels_with_an_answer_asked_in_vain() -> None:
    """Harm is no ask, what was put off asked nothing, and what led to the champion was not vain."""
    past = [
        Watch(as_of=NOW - day * DAY, action=action, cause=cause)
        for day, action, cause in (
            (60, "fine", NEW_LABELS),
            (40, "fine", NEW_LABELS),
            (30, "retrain", "labels"),
            (20, "fine", NEW_LABELS),
            (10, "fine", NEW_LABELS),
        )
    ]
    answers = [NOW - day * DAY for day in (60, 40, 30, 10)]
    made = {day: NOW - day * DAY for day in (70, 60, 40, 10)}
    assert {day: asked_in_vain(past, answers, at) for day, at in made.items()} == {
        70: 3,
        60: 2,
        40: 1,
        10: 0,
    }
    assert asked_in_vain((), answers, NOW - 70 * DAY) == 0
