"""The page on costs where there is little to show, or far too much of a budget used."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from twinloop.bookkeeping import make_account
from twinloop.budget import Limit
from twinloop.cost_words import account_words, bound_words, used_words
from twinloop.costs_page import write_costs_page
from twinloop.ledger import Entry
from twinloop.page import to_html, to_markdown

START = datetime(2026, 3, 1, tzinfo=UTC)
BILL = {"accuracy/known": 1.0, "time/wall_s": 2.0, "time/cpu_s": 1.0, "cost/money": 0.25}


def run(number: int, kind: str, **known: Any) -> Entry:
    """Return a run of an hour."""
    started = START + number * timedelta(hours=1)
    words: dict[str, Any] = {
        "run_id": str(number),
        "parent": "",
        "workload": "city",
        "kind": kind,
        "status": "FINISHED",
        "started": started,
        "as_of": started,
        "meaning": "holdout",
        "currency": "EUR",
        "name": f"{kind} {number}",
        "metrics": BILL,
    }
    rest = dict.fromkeys(
        ("window", "version", "became", "chosen", "verdict", "digest", "shape"), ""
    )
    return Entry(**(rest | words | known))


def pages(runs: list[Entry], *bounds: Limit) -> tuple[str, str]:
    """Write the page of some runs, as HTML and as Markdown."""
    page = write_costs_page(make_account(runs, "city", "rmsle", "EUR", 1e-5), bounds)
    return to_html(page), to_markdown(page)


@pytest.mark.parametrize(
    ("used", "bound", "words"),
    [
        (0.0, 1.0, "0%"),
        (0.996, 1.0, "99%"),
        (1.0, 1.0, "100%"),
        (9.0, 2.0, "450%"),
        (600.92, 1.0, "601 times the budget"),
        (3.0, 1e-9, "3 billion times the budget"),
        (3.0, 0.0, "more than all"),
    ],
)
def test_a_share_of_a_budget_is_words_a_person_can_read(
    used: float, bound: float, words: str
) -> None:
    """Per cent up to ten times, then how many times; what is nearly spent is not all of it."""
    limit = Limit("budget.month.money", "money", bound, used)
    assert used_words(limit) == words
    assert bound_words(limit, "EUR").endswith(", spent") == (used >= bound > 0 or bound == 0)
    html, text = pages([run(0, "training")], limit)
    assert html.count(words) >= 2  # the tile and the bar
    assert words in text
    assert "inf" not in text
    assert "nan" not in text


def test_without_runs_the_page_says_so() -> None:
    """And nothing else."""
    html, text = pages([])
    assert "There are no runs yet." in html
    assert "unknown" not in text


def test_one_run_is_no_line_over_time() -> None:
    """What it took stands in bars."""
    html, text = pages([run(0, "inference", version="1")])
    assert "All in the hour of 01 Mar 00:00" in html
    assert "0.250" in text


def test_where_all_failed_the_money_is_there_and_no_version() -> None:
    """It is on nobody's bill, and said."""
    failed = [
        run(i, "training", status="FAILED", meaning="none: failed", metrics=BILL | known)
        for i, known in enumerate(({"accuracy/known": 0.0}, {"accuracy/known": 0.0}))
    ]
    html, text = pages(failed)
    assert "0.500" in html
    assert "What a version costs" not in text
    account = make_account(failed, "city", "rmsle", "EUR", 1e-5)
    assert account.without_bill == 0
    assert any("on no version's bill" in words for words in account_words(account))


@pytest.mark.parametrize("missing", ["accuracy/known", "time/wall_s", "cost/money"])
def test_a_run_that_lacks_a_part_of_its_bill_is_said(missing: str) -> None:
    """One that runs still has none yet."""
    metrics = {name: value for name, value in BILL.items() if name != missing}
    runs = [run(0, "training"), run(1, "training", metrics=metrics)]
    account = make_account(runs, "city", "rmsle", "EUR", 1e-5)
    assert account.without_bill == 1
    (words,) = [w for w in account_words(account) if "whole bill" in w]
    assert words.startswith("1 run ended")
    running = [run(0, "training"), run(1, "training", metrics=metrics, status="RUNNING")]
    assert make_account(running, "city", "rmsle", "EUR", 1e-5).without_bill == 0


def test_a_service_is_from_its_first_move_to_the_end_of_its_last() -> None:
    """A version that came back is told as one that served all along."""
    moves = [run(i, "promotion", became=to) for i, to in enumerate("1213")]
    trainings = [run(10 + i, "training", version=v) for i, v in enumerate("123")]
    found = make_account([*moves, *trainings], "city", "rmsle", "EUR", 1e-5)
    hours = [
        tuple(None if at is None else (at - START) / timedelta(hours=1) for at in ends)
        for ends in ((v.served_from, v.served_until) for v in found.versions)
    ]
    assert hours == [(0, 3), (1, 2), (3, None)]


def test_a_training_that_cost_nothing_is_paid_for() -> None:
    """Free hours of a machine, say: page and shell have a row for it, and no division by zero."""
    free = BILL | {"cost/money": 0.0}
    scored = {"rows/scored": 1000.0}
    runs = [
        run(0, "training", version="1", chosen="forest"),
        run(1, "promotion", became="1"),
        run(2, "inference", version="1", window="a", metrics=BILL | scored),
        run(3, "training", version="2", chosen="linear", metrics=free),
        run(4, "promotion", became="2", version="2", metrics=free),
        run(5, "inference", version="2", window="b", metrics=BILL | scored | {"cost/money": 0.1}),
    ]
    (payback,) = [
        v.payback for v in make_account(runs, "city", "rmsle", "EUR", 1e-5).versions if v.payback
    ]
    assert (payback.predictions, payback.share) == (0.0, 1.0)
    for text in pages(runs):
        assert "after 0 predictions against v1; paid" in text
