"""Refresh, search or neither: what is known decides, and says so."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from twinloop.logplan import Tag
from twinloop.loop_keys import Retraining
from twinloop.outlook import (
    Course,
    Hindrance,
    Outlook,
    PastTraining,
    expected_lead,
    expected_money,
    lead_over,
    oldest_recipe,
    refused_in_a_row,
    set_course,
)
from twinloop.outlookplan import ANSWERED, plan_course
from twinloop.results import CandidateResult, Choice, FoldScore, Leaderboard
from twinloop.verdict import Verdict

DAY = timedelta(days=1)
HELPS = Verdict(
    outcome="promote",
    reason="gain",
    metric="rmse",
    champion=1.2,
    challenger=1.0,
    gain=0.2,
    low=0.1,
    high=0.3,
)
IDLE = HELPS.model_copy(
    update={"outcome": "insufficient evidence", "challenger": 1.19, "gain": 0.01, "low": -0.1}
)
RULES = Retraining()


def outlook(probe: Verdict | None = HELPS, **parts: Any) -> Outlook:
    """Return an outlook: the champion a fifth worse than expected, the last search 50 days ago."""
    base = {
        "metric": "rmse",
        "currency": "EUR",
        "expected": 1.0,
        "ripe": True,
        "probe": probe,
        "hindrance": None,
        "tolerance": 0.05,
        "age": 50 * DAY,
        "oldest": 360 * DAY,
        "growth": 1.0,
        "refused": 0,
        "patience": 14 * DAY,
        "lead": 0.01,
        "search_money": 0.5,
        "refresh_money": 0.05,
    }
    return Outlook.model_validate(base | parts)


def past(day: int, *, search: bool = True, promoted: bool = False, **parts: Any) -> PastTraining:
    """Return a training of the past."""
    at = datetime(2024, 1, 1, tzinfo=UTC) + day * DAY
    base = {"as_of": at, "search": search, "promoted": promoted, "lead": None, "rows": 100}
    return PastTraining.model_validate(base | {"money": 1.0} | parts)


def test_a_refresh_that_helps_is_made() -> None:
    """The reason has errors, gain, and what a search would cost beside."""
    course = set_course(outlook(), RULES)
    assert course.way == "refresh"
    for words in ("1.2 (+20.0%", "+0.2 in [+0.1, +0.3]", "1.0% of the error for EUR 0.5", "0.05"):
        assert words in course.reason


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"age": 360 * DAY}, "the last search is 360d old, at most 360d wanted"),
        ({"growth": 2.5}, "2.5 times the rows"),
        ({"lead": 0.08}, "expected to save 8.0%"),
    ],
)
def test_a_search_follows_where_the_recipe_is_old_or_more_is_expected(
    parts: dict[str, Any], words: str
) -> None:
    """Though a refresh would help; never where the workload wants none."""
    course = set_course(outlook(**parts), RULES)
    assert (course.way, words in course.reason) == ("search", True)
    never = RULES.model_copy(update={"search": "never"})
    assert set_course(outlook(**parts), never).way == "refresh"


def test_harm_that_a_refresh_does_not_mend_calls_for_a_search() -> None:
    """Without harm nothing is done, however little the refresh helps."""
    assert set_course(outlook(IDLE), RULES).way == "search"
    calm = set_course(outlook(IDLE, expected=1.19), RULES)
    assert (calm.way, "no harm to mend" in calm.reason) == ("wait", True)
    never = RULES.model_copy(update={"search": "never"})
    assert set_course(outlook(IDLE), never).way == "wait"


def test_while_little_is_new_more_rows_are_waited_for_not_candidates() -> None:
    """A refresh that helps by then is made all the same."""
    course = set_course(outlook(IDLE, ripe=False), RULES)
    assert (course.way, "little is new yet" in course.reason) == ("wait", True)
    assert set_course(outlook(ripe=False), RULES).way == "refresh"


def test_after_refused_searches_the_next_waits_twice_as_long() -> None:
    """14 days after none, 28 after one, 56 after two: at 50 days the third has to wait."""
    ways = [set_course(outlook(IDLE, refused=n), RULES).way for n in (0, 1, 2)]
    assert ways == ["search", "search", "wait"]
    assert "the next may follow in 6d" in set_course(outlook(IDLE, refused=2), RULES).reason


@pytest.mark.parametrize(
    ("age", "oldest", "said"),
    [(50, 360, "310d"), (50, None, "316d"), (366, None, ""), (359, 360, "1d"), (360, 360, "")],
)
@pytest.mark.parametrize("refused", [24, 10_000])
def test_no_number_of_refused_searches_makes_one_wait_for_ever(
    refused: int, age: int, oldest: int | None, said: str
) -> None:
    """It waits until the recipe is too old, or for a year where none gets too old."""
    parts: dict[str, Any] = {"age": age * DAY, "oldest": None if oldest is None else oldest * DAY}
    lasting = Hindrance(words="other classes", lasting=True)
    harmed = outlook(IDLE, **parts, refused=refused, settled=60 * DAY)
    hindered = outlook(None, **parts, refused_since=refused, hindrance=lasting)
    for found in (harmed, hindered):
        course = set_course(found, RULES)
        assert course.way == ("wait" if said else "search")
        assert course.reason.endswith(f"the next may follow in {said}") is bool(said)


def test_without_a_refresh_there_is_a_wait_or_a_search() -> None:
    """More rows mend some hindrances; where they do not, candidates compete."""
    soon = outlook(None, hindrance=Hindrance(words="3 days are new"))
    assert set_course(soon, RULES) == Course(way="wait", reason="3 days are new", put_off=True)
    never = outlook(None, hindrance=Hindrance(words="other classes", lasting=True))
    assert set_course(never, RULES).way == "search"


def test_a_lasting_hindrance_is_not_searched_for_without_end() -> None:
    """Refused searches make the next wait as they do for harm; new labels alone want none."""
    lasting: dict[str, Any] = {
        "probe": None,
        "hindrance": Hindrance(words="other classes", lasting=True),
    }
    found = [set_course(outlook(**lasting, refused_since=n), RULES) for n in (0, 1, 2)]
    assert [course.way for course in found] == ["search", "search", "wait"]
    assert found[2].reason.startswith("other classes; the last search is 50d old")
    assert "the next may follow in 6d" in found[2].reason
    calm = set_course(outlook(**lasting, trigger="new labels"), RULES)
    assert (calm.way, "nothing calls for a search" in calm.reason) == ("wait", True)
    assert set_course(outlook(**lasting, trigger="labels"), RULES).way == "search"
    never = RULES.model_copy(update={"search": "never"})
    assert set_course(outlook(**lasting), never).way == "wait"


@pytest.mark.parametrize(
    ("parts", "words"),
    [({"age": 360 * DAY}, "the last search is 360d old"), ({"growth": 2.5}, "2.5 times the rows")],
)
def test_an_old_recipe_is_searched_anew_though_no_refresh_can_be_made(
    parts: dict[str, Any], words: str
) -> None:
    """Whatever was refused, and be it for new labels alone; where waiting helps it is waited."""
    lasting = {"hindrance": Hindrance(words="other classes", lasting=True), "refused_since": 9}
    for trigger in ("", "labels", "new labels"):
        course = set_course(outlook(None, **lasting, **parts, trigger=trigger), RULES)
        assert (course.way, words in course.reason) == ("search", True)
    never = RULES.model_copy(update={"search": "never"})
    assert set_course(outlook(None, **lasting, **parts), never).way == "wait"
    soon = outlook(None, hindrance=Hindrance(words="3 days are new"), **parts)
    assert set_course(soon, RULES).way == "wait"


def test_where_no_refresh_can_be_made_older_refusals_are_of_another_matter() -> None:
    """Those before the last promotion of any kind make no wait longer."""
    lasting = Hindrance(words="other classes", lasting=True)
    assert set_course(outlook(None, hindrance=lasting, refused=2), RULES).way == "search"


def test_ground_lost_since_better_times_is_harm_though_the_promise_is_kept() -> None:
    """A champion of a bad time promises little: what called for the retraining counts as well."""
    kept = outlook(IDLE, expected=1.19)
    assert set_course(kept, RULES).way == "wait"
    lost = kept.model_copy(update={"trigger": "reached"})
    assert set_course(lost, RULES).way == "search"
    soon = lost.model_copy(update={"ripe": False})
    assert (set_course(soon, RULES).way, set_course(soon, RULES).put_off) == ("wait", True)


def test_a_call_is_answered_unless_rows_to_come_are_waited_for() -> None:
    """So that the next check knows whether to ask again."""
    courses = {
        "harm, little new": outlook(IDLE, ripe=False),
        "harm, refused before": outlook(IDLE, refused=2),
        "no harm": outlook(IDLE, expected=1.19),
        "refresh": outlook(),
    }
    put_off = {name: set_course(found, RULES).put_off for name, found in courses.items()}
    assert [name for name, late in put_off.items() if late] == ["harm, little new"]
    tags = list(plan_course(set_course(outlook(IDLE, ripe=False), RULES), None))
    assert Tag(ANSWERED, "no") in tags
    assert Tag(ANSWERED, "yes") in list(plan_course(set_course(outlook(), RULES), None))


def test_always_is_always() -> None:
    """Whatever is known."""
    always = RULES.model_copy(update={"search": "always"})
    assert set_course(outlook(None), always).way == "search"


def test_harm_is_a_share_of_what_is_left_to_perfection() -> None:
    """An accuracy of 0.85 where 0.9 was expected is half as much again from perfect."""
    probe = IDLE.model_copy(update={"metric": "accuracy", "champion": 0.85})
    found = outlook(probe, metric="accuracy", expected=0.9).harm
    assert found == pytest.approx(0.5)


def test_one_lucky_search_is_no_reason_for_the_next() -> None:
    """The mean is drawn to 1 %, which counts for two searches; refreshes do not count."""
    assert expected_lead([]) == 0.01
    assert expected_lead([past(0, lead=0.09)]) == pytest.approx(0.11 / 3)
    assert expected_lead([past(0, lead=0.09, search=False)]) == 0.01
    assert expected_lead([past(i, lead=0.1) for i in range(18)]) > 0.09


def test_money_is_expected_as_it_was_paid_lately() -> None:
    """The last three of a kind."""
    paid = [past(i, money=float(i)) for i in range(5)]
    assert expected_money(paid, search=True) == 3.0
    # Of one that is billed in another currency nothing is known.
    assert expected_money([*paid, past(9, money=math.nan)], search=True) == 3.0
    assert expected_money([past(9, money=math.nan)], search=True) is None
    assert expected_money(paid, search=False) is None


def test_a_promoted_search_ends_the_row_of_refused_searches() -> None:
    """Refused refreshes neither count nor end it."""
    row = [past(0), past(1, promoted=True), past(2), past(3, search=False), past(4)]
    assert refused_in_a_row(row) == 2
    assert refused_in_a_row([*row, past(5, search=False, promoted=True)]) == 2
    assert refused_in_a_row([*row, past(5, promoted=True)]) == 0


def test_a_promoted_refresh_ends_the_row_where_refreshes_were_still_made() -> None:
    """Refused ones do not."""
    row = [past(0), past(1, search=False, promoted=True), past(2), past(3, search=False), past(4)]
    assert refused_in_a_row(row) == 3
    assert refused_in_a_row(row, refreshes=True) == 2


def test_a_recipe_is_old_after_two_windows_unless_the_workload_says() -> None:
    """Where all rows are fitted there is no window to grow old by."""
    assert oldest_recipe(RULES, 180 * DAY) == 360 * DAY
    assert oldest_recipe(RULES, None) is None
    assert oldest_recipe(RULES.model_copy(update={"search_after": 9 * DAY}), None) == 9 * DAY


def test_a_lead_is_over_the_champions_candidate() -> None:
    """A share of its error; None where it did not compete."""

    def one(name: str, valid: float) -> CandidateResult:
        folds = (FoldScore(train=0.1, valid=valid),)
        base = {"metric": "rmse", "fit_seconds": 0, "predict_seconds": 0, "rows": 1}
        return CandidateResult.model_validate({"name": name, "folds": folds, **base})

    board = Leaderboard(
        candidates=(one("xgboost", 0.9), one("linear", 1.0)),
        choice=Choice(winner="xgboost", reason="best"),
    )
    assert lead_over(board, "linear") == pytest.approx(0.1)
    assert lead_over(board, "xgboost") == 0.0
    assert lead_over(board, "forest") is None


@pytest.mark.parametrize(("high", "way"), [(0.02, "search"), (-0.005, "search"), (-0.02, "wait")])
def test_harm_that_no_search_is_likely_to_mend_is_waited_out(high: float, way: str) -> None:
    """What wins a search is fitted as a refresh that is clearly worse.

    A search is expected to save 1 % of the error here: 0.0125.
    """
    worse = IDLE.model_copy(
        update={"outcome": "keep", "challenger": 1.25, "gain": -0.05, "low": -0.1, "high": high}
    )
    course = set_course(outlook(worse, settled=45 * DAY, alike=True), RULES)
    assert course.way == way
    assert ("more than a search is expected to save (1.0%" in course.reason) is (way == "wait")
    assert not course.put_off
    # By other rows, or another way to fit, it may well do better.
    assert set_course(outlook(worse, settled=45 * DAY), RULES).way == "search"


def test_a_world_that_the_recipe_fails_on_is_searched_all_the_same() -> None:
    """What searches saved is known of other times: one span later than otherwise, not never."""
    worse = IDLE.model_copy(
        update={"outcome": "keep", "challenger": 1.25, "gain": -0.05, "low": -0.1, "high": -0.02}
    )
    parts: dict[str, Any] = {"settled": 45 * DAY, "alike": True}
    early = set_course(outlook(worse, age=89 * DAY, **parts), RULES)
    assert (early.way, early.reason.endswith("the next may follow in 1d")) == ("wait", True)
    assert set_course(outlook(worse, age=90 * DAY, **parts), RULES).way == "search"
    assert set_course(outlook(worse, age=134 * DAY, refused=1, **parts), RULES).way == "wait"
    assert set_course(outlook(worse, age=135 * DAY, refused=1, **parts), RULES).way == "search"
    assert set_course(outlook(worse, age=None, **parts), RULES).way == "search"


@pytest.mark.parametrize(
    ("age", "refused", "way"), [(59, 0, "wait"), (60, 0, "search"), (119, 1, "wait")]
)
def test_what_a_search_found_is_settled_for_a_while(age: int, refused: int, way: str) -> None:
    """Harm alone is no reason to choose again on nearly the same rows; no refresh at all is one."""
    parts = {"age": age * DAY, "refused": refused, "settled": 60 * DAY}
    assert set_course(outlook(IDLE, **parts), RULES).way == way
    lasting = Hindrance(words="classes were a, b", lasting=True)
    assert set_course(outlook(None, hindrance=lasting, **parts), RULES).way == "search"
