"""Budgets by real flows: what is foretold, what ends a run, and what refuses one."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.runtime import flow_run

from flows.score_batch import score_batch
from flows.train_model import train_model
from tasks import costing
from tasks.bookkeeping import read_account
from tasks.budgeting import BUDGET_EVENT, used_by, within_budget
from tasks.costing import publish_costs
from tasks.registry import find_champion
from tasks.settings import load_workload
from tasks.tracking import client, tracked_run
from twinloop.accounts import Account
from twinloop.budget import Limit
from twinloop.costs_page import write_costs_page
from twinloop.errors import BudgetError
from twinloop.logplan import Metric, Tag
from twinloop.page import Page
from twinloop.window import Window

NOW = datetime(2026, 2, 15, tzinfo=UTC)
CITY = """
name: city
task: regression
source: {{kind: simulated, hours: 1440, start: "2026-01-01T00:00:00Z"}}
time: timestamp
key: [timestamp]
target: rentals
metric: rmsle
training: {{holdout: 7d, folds: 2, {training}}}
budget: {budget}
{more}
"""
QUICK = "candidates: [baseline, linear]"
PARTS = ("training", "candidate", "promotion")
DAY = timedelta(days=1)
WEEK = Window(start=NOW, end=NOW + 7 * DAY)

pytestmark = pytest.mark.usefixtures("prefect")


def set_city(home: Path, budget: str, training: str = QUICK, more: str = "") -> None:
    """Write a workload whose trainings take seconds, with a budget."""
    text = CITY.format(training=training, budget=budget, more=more)
    (home / "data" / "workloads" / "city.yaml").write_text(text)


def runs_of(kind: str) -> list[Any]:
    """Return the city's runs of a kind, the newest first."""
    found = client().get_experiment_by_name("city")
    assert found is not None
    return list(client().search_runs([found.experiment_id], f"tags.`twinloop.kind` = '{kind}'"))


def page_of(run_id: str, home: Path) -> str:
    """Return the page on costs that a run has kept."""
    return Path(client().download_artifacts(run_id, "costs.html", str(home))).read_text()


def last_state(flow: str) -> tuple[str, str | None]:
    """Ask Prefect for the type and the name of the newest flow run's state."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as prefect:
        (run,) = prefect.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )
    assert run.state is not None
    return run.state.type.value, run.state.name


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect what is told to the world."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("tasks.budgeting.emit_event", lambda **event: told.append(event))
    return told


@pytest.mark.parametrize("measure", ["money: 1e-9", "kwh: 1e-12", "minutes: 1e-6"])
def test_a_budget_too_small_stops_a_training_and_keeps_the_best_so_far(
    home: Path, events: list[dict[str, Any]], measure: str
) -> None:
    """The third candidate never starts; the better one of two is judged, and serves."""
    three = "candidates: [baseline, linear, forest]"
    set_city(home, f"{{training: {{run: {{{measure}}}}}}}", three)
    result = train_model("city", as_of=NOW)
    assert result.board is not None
    assert result.board.skipped == ("forest",)
    assert result.winner == "linear"
    assert result.champion == "1"
    (run,) = runs_of("training")
    assert run.info.status == "FINISHED"
    key = f"budget.training.run.{measure.partition(':')[0]}"
    assert key in run.data.tags["twinloop.over_budget"]
    assert last_state("train-model") == ("COMPLETED", "OverBudget")
    (event,) = events
    assert event["event"] == BUDGET_EVENT == "twinloop.budget.exceeded"
    assert event["payload"]["budgets"] == [key]
    assert event["payload"]["refused"] is False


def test_a_search_ends_with_the_budget_of_the_training(home: Path) -> None:
    """Once the money of the run is gone no trial starts, however many there were to be."""
    search = "candidates: [baseline, xgboost], tuning: {trials: 50}"
    set_city(home, "{training: {run: {money: 1e-9}}}", search)
    result = train_model("city", as_of=NOW)
    assert result.winner == "xgboost"
    assert runs_of("trial") == []
    (run,) = runs_of("tuning")
    assert "budget" in str(run.data.to_dictionary())


def test_a_month_that_is_spent_refuses_a_training_and_says_by_what(
    home: Path, events: list[dict[str, Any]]
) -> None:
    """The first training spends the month; the second does not start, and nothing else changes."""
    set_city(home, "{training: {month: {money: 1e-9}}}")
    train_model("city", as_of=NOW)
    with pytest.raises(BudgetError, match=r"budget.training.month.money") as refused:
        train_model("city", as_of=NOW + DAY)
    said = str(refused.value)
    assert "TL600" in said
    assert "of kind training" in said
    assert "train city 2026-02-15" in said or "try" in said
    assert "Raise budget.training.month.money" in said
    assert last_state("train-model") == ("FAILED", "OverBudget")
    champion = find_champion(load_workload("city"))
    assert champion is not None
    assert champion.version == "1"
    assert [r.info.status for r in runs_of("training")] == ["FAILED", "FINISHED"]
    assert [e["payload"]["refused"] for e in events] == [False, True]


def test_scoring_goes_on_over_budget_and_says_so_unless_it_is_hard(
    home: Path, events: list[dict[str, Any]]
) -> None:
    """Predictions are published; with `hard` they are refused, and the lake stays as it was."""
    set_city(home, "{month: {money: 1e-9}}")
    train_model("city", as_of=NOW)
    events.clear()
    manifest = score_batch("city", WEEK, NOW + 7 * DAY)
    assert manifest.scored > 0
    assert last_state("score-batch") == ("COMPLETED", "OverBudget")
    assert "budget.month.money" in runs_of("inference")[0].data.tags["twinloop.over_budget"]
    assert len(events) == 1
    set_city(home, "{month: {money: 1e-9}, inference: {hard: true}}")
    later = Window(start=WEEK.end, end=WEEK.end + DAY)
    with pytest.raises(BudgetError):
        score_batch("city", later, later.end)
    assert last_state("score-batch") == ("FAILED", "OverBudget")


def test_hard_scoring_keeps_the_parts_it_has_and_goes_on_with_more(home: Path) -> None:
    """A run that is stopped publishes nothing; with a budget the next one ends as if it had not."""
    small = "inference: {part_rows: 20, batch_rows: 10}"
    set_city(home, "{inference: {hard: true, run: {money: 1e-9}}}", more=small)
    train_model("city", as_of=NOW)
    with pytest.raises(BudgetError, match="What is done is kept"):
        score_batch("city", WEEK, WEEK.end)
    set_city(home, "{inference: {hard: true}}", more=small)
    assert score_batch("city", WEEK, WEEK.end).scored == 7 * 24


def test_an_estimate_is_logged_before_and_its_error_after(home: Path) -> None:
    """The first run has none; the second is told by the first, and says how far off that was."""
    set_city(home, "{}")
    for day in range(2):
        train_model("city", as_of=NOW + day * DAY)
    second, first = runs_of("training")
    assert "cost/estimated_money" not in first.data.metrics
    said, took = second.data.metrics, second.data.metrics
    assert said["cost/estimated_money"] == first.data.metrics["cost/money_total"]
    assert said["time/estimated_s"] == first.data.metrics["time/wall_total_s"]
    assert said["cost/estimated_kwh"] == first.data.metrics["cost/energy_total_kwh"]
    error = took["cost/money_total"] / said["cost/estimated_money"] - 1
    # The bill closes a moment after the error is told.
    assert math.isclose(took["cost/estimate_error"], error, abs_tol=0.1)
    assert "from the one training before" in second.data.tags["twinloop.estimate"]


def test_an_estimate_is_made_from_runs_that_did_something_and_are_billed_alike(
    home: Path,
) -> None:
    """A window that was there already tells nothing; nor does a bill in another currency."""
    set_city(home, "{}")
    train_model("city", as_of=NOW)
    first = score_batch("city", WEEK, WEEK.end)
    assert score_batch("city", WEEK, WEEK.end) == first.model_copy(update={"reused": True})
    later = Window(start=WEEK.end, end=WEEK.end + 7 * DAY)
    score_batch("city", later, later.end)
    tags = runs_of("inference")[0].data.tags
    assert "from the one inference before" in tags["twinloop.estimate"]
    set_city(home, "{}", more="prices: {currency: SEK, core_hour: 1, gb_hour: 1, kwh: 1}")
    last = Window(start=later.end, end=later.end + DAY)
    score_batch("city", last, last.end)
    assert "twinloop.estimate" not in runs_of("inference")[0].data.tags


@flow(name="retried", retries=1)
def retried() -> tuple[float, float]:
    """Fail once; tell what was used of the month, and what this run has used of that."""
    city = load_workload("city")
    with (
        tracked_run(city, "training", window=None, as_of=NOW) as run,
        within_budget(city, "training", None, run) as here,
    ):
        if flow_run.run_count < 2:
            raise ConnectionError
        (limit,) = here.limits
        return limit.before, used_by(run).money


def test_a_retried_run_counts_its_attempts_once_against_the_month(home: Path) -> None:
    """They are part of what it uses itself; the bill of another training was there before."""
    set_city(home, "{training: {month: {money: 100}}}")
    with tracked_run(load_workload("city"), "training", window=None, as_of=NOW):
        pass
    before, used = retried()
    _, attempt, other = runs_of("training")
    assert before == pytest.approx(other.data.metrics["cost/money"])
    assert used > attempt.data.metrics["cost/money"] > 0


def test_the_page_on_costs_is_kept_with_a_training(home: Path) -> None:
    """Of the last moment: the bill of the training until then is on it, all but the page's own."""
    set_city(home, "{month: {money: 100}}")
    result = train_model("city", as_of=NOW)
    text = page_of(result.run_id, home)
    assert "v1 " in text
    assert "budget.month.money" in text
    spent = sum(r.data.metrics["cost/money"] for k in PARTS for r in runs_of(k))
    account = read_account(load_workload("city"))
    assert math.isclose(account.money.total, spent, rel_tol=1e-9)
    (own,) = [r.data.metrics["cost/money"] for r in runs_of("training")]
    assert own > 0.02 * spent  # or nothing is compared
    tile = re.search(r"<dt>Spent in all</dt>\s*<dd>([\d.,]+)", text)
    assert tile is not None
    shown = float(tile[1].replace(",", ""))
    assert spent - own / 2 < shown <= 1.005 * spent


@pytest.mark.parametrize("known", [True, False])
def test_the_run_that_keeps_the_page_is_not_without_a_bill(
    home: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where nobody could measure its accuracy, either: what it lacks is written at its end."""
    set_city(home, "{}")
    city = load_workload("city")
    shown: list[Account] = []

    def write(found: Account, bounds: Sequence[Limit] = ()) -> Page:
        shown.append(found)
        return write_costs_page(found, bounds)

    monkeypatch.setattr(costing, "write_costs_page", write)
    with tracked_run(city, "monitoring", window=None, as_of=NOW) as run:
        if known:  # of another metric than the workload's, which has been changed since
            run.log([Metric("accuracy/mae", 1.0), Tag("twinloop.accuracy", "late labels")])
        publish_costs.fn(city, run)
    assert "1 run up to" in page_of(run.run_id, home)
    assert [(a.runs, a.without_bill) for a in (*shown, read_account(city))] == [(1, 0)] * 2


def test_an_interruption_while_the_page_is_made_ends_what_comes_after_the_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the run was for is done, its version may serve: it is no run that was killed."""
    set_city(home, "{}")
    city = load_workload("city")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(costing, "read_account", interrupt)
    opened = tracked_run(city, "training", window=None, as_of=NOW)
    with pytest.raises(KeyboardInterrupt), opened as run:
        publish_costs.fn(city, run)
    found = client().get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.metrics["cost/money"] > 0


def test_a_replay_has_no_month_and_foretells_nothing(home: Path) -> None:
    """Years go by in an hour: only what a run may use holds there."""
    set_city(home, "{training: {month: {money: 1e-9}, run: {money: 100}}}")
    spec = load_workload("city-r1")
    with (
        tracked_run(spec, "training", window=None, as_of=NOW) as run,
        within_budget(spec, "training", None, run) as purse,
    ):
        assert not purse.is_spent()
    tags = client().get_run(run.run_id).data.tags
    assert not {"twinloop.estimate", "twinloop.over_budget"} & set(tags)
