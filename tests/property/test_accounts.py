"""Laws of what runs cost and gain: nothing is lost, and payback is where the costs cross."""

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twinloop.accounts import GREATER_IS_BETTER, Shares, VersionAccount, points
from twinloop.amounts import count, decimals_for, money
from twinloop.bookkeeping import by_period, make_account, payback_of, predictions_of
from twinloop.budget import (
    Amounts,
    Limit,
    Past,
    billed_runs,
    duration_words,
    error_of,
    estimate,
    limits_of,
    month_limits,
    outside,
    refusal_words,
    spent_limits,
)
from twinloop.budget_keys import Allowance, Budgets
from twinloop.cost_words import bound_words
from twinloop.evaluation import METRICS
from twinloop.ledger import Entry

START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ("training", "candidate", "inference", "monitoring", "promotion", "replay", "retraining")
AMOUNT = st.floats(0.0, 1e6)
PRICE = st.floats(1e-6, 1e3)


def entry(number: int, kind: str, cost: float, minutes: float, **more: str) -> Entry:
    """Return a run."""
    given = {"run_id": str(number), "parent": "", "version": "", "became": ""} | more
    return Entry(
        workload="w",
        kind=kind,
        status="FINISHED",
        started=START + timedelta(minutes=minutes),
        as_of=START,
        window="",
        chosen="",
        verdict="",
        digest="",
        currency="EUR",
        shape="",
        name="",
        meaning="",
        metrics={"cost/money": cost},
        reused=False,
        **given,
    )


RUNS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        AMOUNT,
        st.floats(0, 60 * 24 * 900),
        st.sampled_from(["", "1", "2"]),
        st.integers(-1, 10),
    ),
    max_size=12,
)


def version(training: float, per_1000: float, predictions: int, latency: float) -> VersionAccount:
    """Return a version that cost so much."""
    return VersionAccount(
        version="2",
        winner="w",
        verdict="",
        trained_at=START,
        served_from=None,
        served_until=None,
        is_champion=False,
        score=1.0,
        latency_ms=latency,
        money=Shares(training=training, inference=per_1000 * predictions / 1000),
        trained_here=True,
        predictions=predictions,
        billed=predictions,
        gain_on_baseline=math.nan,
        gain_on_champion=math.nan,
        payback=None,
        on_front=False,
    )


@given(RUNS)
def test_every_bill_is_counted_once(runs: list[tuple[str, float, float, str, int]]) -> None:
    """Versions and what is on none of them make up the whole; so do periods, and kinds."""
    entries = [
        entry(i, kind, cost, at, version=v, became=v, parent=str(p) if p < i else "")
        for i, (kind, cost, at, v, p) in enumerate(runs)
    ]
    found = make_account(entries, "w", "rmse", "EUR", 1.0)
    whole = sum(cost for _, cost, *_ in runs)
    assert found.money.total == pytest.approx(whole)
    assert sum(p.money.total for p in found.periods) == pytest.approx(whole)
    assert sum(s.money for s in found.spenders) == pytest.approx(whole)
    # What belongs to a version that no run here made is on no version's bill, and said.
    parts = sum(v.money.total for v in found.versions) + found.unversioned
    assert parts == pytest.approx(whole)


@given(RUNS)
def test_another_currency_takes_money_away_and_nothing_else(
    runs: list[tuple[str, float, float, str, int]],
) -> None:
    """Versions and predictions stay as they are; of each only the money is no longer there."""
    entries = [
        entry(i, kind, cost, at, version=v, became=v, parent=str(p) if p < i else "")
        for i, (kind, cost, at, v, p) in enumerate(runs)
    ]
    entries = [
        replace(e, window=str(i % 3), digest="x", metrics={**e.metrics, "rows/scored": 10.0})
        for i, e in enumerate(entries)
    ]
    euros, dollars = (make_account(entries, "w", "rmse", c, 1.0) for c in ("EUR", "USD"))
    assert [v.version for v in dollars.versions] == [v.version for v in euros.versions]
    assert [v.predictions for v in dollars.versions] == [v.predictions for v in euros.versions]
    assert dollars.predictions == euros.predictions == predictions_of(entries)
    assert (dollars.money.total, dollars.unversioned) == (0, 0)
    assert (dollars.runs, dollars.left_out) == (0, len(entries))
    for v in dollars.versions:
        assert (v.money.total, v.payback, v.on_front) == (0, None, False)
        assert math.isnan(v.per_1000)
        assert math.isnan(v.per_1000_in_all)
        assert math.isnan(v.per_point(1.0))


def test_a_window_that_two_versions_scored_counts_for_both() -> None:
    """And once for each, however often it did; the whole is the sum of the versions."""
    runs = [entry(i, "training", 1.0, i, version=str(i)) for i in (1, 2)]
    for number, version in ((3, "1"), (4, "2"), (5, "2")):
        scored = entry(number, "inference", 1.0, number, version=version)
        rows = {"cost/money": 1.0, "rows/scored": 10.0}
        runs.append(replace(scored, window="a", digest="x", metrics=rows))
    found = make_account(runs, "w", "rmse", "EUR", 1.0)
    assert [v.predictions for v in found.versions] == [10, 10]
    assert found.predictions == predictions_of(runs) == 20


def test_failed_attempts_are_on_the_bill_of_what_came_of_them() -> None:
    """The attempt that ended well owns those before, and all that these held."""
    entries = [
        entry(0, "training", 1.0, 9, version="1"),
        entry(1, "training", 2.0, 0, parent="0"),
        entry(2, "candidate", 4.0, 1, parent="1"),
        entry(3, "training", 8.0, 2),
    ]
    found = make_account(entries, "w", "rmse", "EUR", 1.0)
    assert found.versions[0].money.training == 7.0
    assert found.unversioned == 8.0


@given(RUNS)
def test_periods_follow_one_another_without_gaps(
    runs: list[tuple[str, float, float, str, int]],
) -> None:
    """Each begins where the one before ends; the first and the last hold the ends."""
    entries = [entry(i, kind, cost, at) for i, (kind, cost, at, _, _) in enumerate(runs)]
    unit, periods = by_period(entries)
    starts = [p.start for p in periods]
    assert starts == sorted(set(starts))
    assert len(starts) <= 65
    if entries:
        assert starts[0] <= min(e.started for e in entries)
        assert starts[-1] <= max(e.started for e in entries)
    if unit in ("hour", "day", "week"):
        length = {"hour": 1, "day": 24, "week": 168}[unit] * timedelta(hours=1)
        assert all(b - a == length for a, b in itertools.pairwise(starts))


@given(PRICE, PRICE, PRICE, st.integers(1, 10**6))
def test_payback_is_where_the_two_costs_cross(
    training: float, old: float, new: float, predictions: int
) -> None:
    """After so many predictions, training and scoring cost what scoring with the old one would."""
    found = payback_of(version(training, new, predictions, 1), version(1, old, 1000, 1), 1.0)
    assert found.measured
    if found.predictions is None:
        assert new >= old or old - new < 1e-9 * old
        return
    assume((old - new) > 1e-6 * old)
    after = found.predictions
    assert training + new * after / 1000 == pytest.approx(old * after / 1000, rel=1e-6)


def test_timings_stand_in_where_a_version_never_scored() -> None:
    """10 ms less for 1,000 rows, at 2 EUR a second, save 0.00002 EUR with each prediction."""
    found = payback_of(version(1.0, 0, 0, 10), version(1, 1, 1000, 20), 2.0)
    assert not found.measured
    assert found.predictions == pytest.approx(1.0 / (0.01 / 1000 * 2))
    unknown = payback_of(version(1.0, 0, 0, math.nan), version(1, 1, 1000, 20), 2.0)
    assert unknown.predictions is None


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_points_are_positive_where_a_score_is_better(metric: str) -> None:
    """In the direction in which the metric itself is judged."""
    assert (metric in GREATER_IS_BETTER) == METRICS[metric].greater_is_better
    assert (points(metric, 0.5, 0.4) > 0) == (METRICS[metric].gain(0.4, 0.5) > 0)
    assert abs(points(metric, 0.5, 0.4)) == pytest.approx(10 if metric in GREATER_IS_BETTER else 20)


PASTS = st.lists(st.tuples(st.floats(0.01, 100), st.floats(1, 1000)), min_size=1, max_size=15)


@given(PASTS, st.floats(1, 1000))
def test_an_estimate_lies_within_what_was(past: list[tuple[float, float]], size: float) -> None:
    """It is no lower and no higher than what ten runs took, as they were or by their size."""
    runs = [Past(Amounts(m, m, m), s) for m, s in past]
    found = estimate(runs, size)
    assert found is not None
    rates = [m / s * size if found.scaled else m for m, s in past[:10]]
    assert min(rates) * 0.999 <= found.amounts.minutes <= max(rates) * 1.001
    assert found.runs == min(len(past), 10)


@given(st.lists(st.floats(1, 1000), min_size=4, max_size=10, unique=True), st.floats(1, 1000))
def test_size_counts_where_it_explains_everything(sizes: list[float], size: float) -> None:
    """Runs that took two minutes for each unit of their size foretell the next one exactly."""
    assume(max(sizes) > 1.5 * min(sizes))
    found = estimate([Past(Amounts(s, s, 2 * s), s) for s in sizes], size)
    assert found is not None
    assert found.scaled
    assert found.amounts.minutes == pytest.approx(2 * size)


def test_size_does_not_count_where_it_explains_nothing() -> None:
    """Runs that all took the same, whatever their size, foretell just that."""
    found = estimate([Past(Amounts(1, 1, 3), s) for s in (1, 5, 9, 70, 300)], 1000.0)
    assert found is not None
    assert not found.scaled
    assert found.amounts.minutes == 3
    assert estimate([], 1.0) is None


@given(AMOUNT, AMOUNT, st.floats(0.01, 1e6))
def test_a_bound_is_spent_once_all_of_it_is_used(before: float, more: float, bound: float) -> None:
    """What was used before counts, and what is used now."""
    (limit,) = limits_of(Allowance(money=bound), "budget.month", Amounts(money=before))
    assert bool(spent_limits([limit], Amounts(money=more))) == (before + more >= bound)


def test_a_refusal_says_what_was_spent_by_what_and_what_to_do() -> None:
    """The bound, the kinds by what they used, the dearest run, the key to raise."""
    spent = [
        ("training", "train a", Amounts(money=2.0)),
        ("candidate", "try b", Amounts(money=5.0)),
        ("candidate", "try c", Amounts(money=1.0)),
        ("candidate", "try d", Amounts(kwh=9.0)),  # its money is in another currency
    ]
    limit = Limit("budget.training.month.money", "money", 7.5, 8.0)
    message, hint = refusal_words(limit, spent, "w", "EUR")
    assert "8.00 of 7.50 EUR (budget.training.month.money)" in message
    first, second = "6.00 by 2 of kind candidate", "2.00 by 1 of kind training"
    assert message.index(first) < message.index(second)
    assert "the most by 'try b' with 5.00" in message
    assert hint.startswith("Raise budget.training.month.money")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (9_999, "9,999"),
        (10_000, "10 thousand"),
        (12_345, "12.3 thousand"),
        (999_499, "999 thousand"),
        (999_999, "1 million"),
        (999_999_999, "1 billion"),
        (2.5e12, "2,500 billion"),
        (math.inf, "inf"),
    ],
)
def test_counts_take_their_unit_once_they_are_rounded(number: float, words: str) -> None:
    """Just below a million is a million, and no number needs an exponent."""
    assert count(number) == words


def test_a_month_holds_every_bill_of_the_workload_and_money_of_its_currency() -> None:
    """Energy and time count whatever the money is called; a run without a bill is not there."""
    here = entry(0, "training", 3.0, 0)
    more = {"cost/money": 5.0, "cost/energy_kwh": 2.0, "time/wall_s": 120.0}
    there = replace(entry(1, "training", 0.0, 0), currency="USD", metrics=more)
    still = replace(entry(2, "training", 0.0, 0), metrics={})
    other = replace(entry(3, "training", 9.0, 0), workload="else")
    found = billed_runs([here, there, still, other], "w", "EUR")
    assert [e.run_id for e in found] == ["0", "1"]
    budgets = Budgets(month=Allowance(money=9, kwh=9, minutes=9))
    used = [limit.before for limit, _ in month_limits(budgets, found)]
    assert used == [3.0, 2.0, 2.0]


def test_what_a_run_contains_is_not_outside_of_it() -> None:
    """Neither an attempt of before nor what that held; a circle of parents ends."""
    runs = [
        entry(0, "training", 1.0, 0),
        entry(1, "training", 1.0, 0, parent="0"),
        entry(2, "candidate", 1.0, 0, parent="1"),
        entry(3, "training", 1.0, 0, parent="gone"),
        entry(4, "candidate", 1.0, 0, parent="5"),
        entry(5, "candidate", 1.0, 0, parent="4"),
    ]
    assert [e.run_id for e in outside(runs, "0")] == ["3", "4", "5"]
    assert outside(runs, "no run") == tuple(runs)


def test_numbers_are_spelt_as_people_read_them() -> None:
    """Three digits that count, seconds and hours, an error as a share."""
    assert (money(12.3456), money(0.0001234), money(1234.5)) == ("12.35", "0.000123", "1,234.50")
    assert (money(1e-9), money(-2e-12), money(0.0)) == ("1e-09", "-2e-12", "0.00")
    assert decimals_for([0.5, 0.0001]) == 3
    limit = Limit("budget.month.minutes", "minutes", 1500.0, 20_000.0)
    assert limit.words(Amounts(), "EUR") == "20,000.00 of 1,500.00 minutes (budget.month.minutes)"
    assert bound_words(limit, "EUR").endswith(": 13 times that used, spent")
    assert Amounts(1500, 2000, 4).words("EUR") == "about 4 min, 1,500.00 EUR, 2,000.00 kWh"
    assert (duration_words(4.2), duration_words(240), duration_words(7200)) == (
        "4.2 s",
        "4 min",
        "2 h",
    )
    assert error_of(2.0, 3.0) == 0.5
    assert error_of(0.0, 3.0) is None
