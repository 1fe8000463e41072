"""Both pages in a real browser: what is offered, what is shown, and what leads where."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.viewing import VIEW, runs_page
from tests.pages import browsing
from tests.stacks import (
    MLFLOW_ACCOUNT,
    PREFECT_ACCOUNT,
    WORKLOAD,
    Stack,
    make_home,
    running,
    tags_of,
    until,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# One training and one scoring are enough to look at; the schedule is not to add to them.
_QUIET = WORKLOAD.replace('"* * * * *"', '"0 5 1 1 *"')
_PATIENCE = 15_000  # milliseconds
# A check as `watch-drift` runs it, whatever the data say.
_CHECK = """
from tasks.servers import set_environment
from tasks.settings import settings
set_environment(settings().prefect_home)
from datetime import UTC, datetime
from prefect import flow
from tasks.announcing import announce
from tasks.settings import load_workload
from tasks.tracking import tracked_run
from twinloop.decision import Decision

@flow(name="watch-drift")
def check():
    city, moment = load_workload("city"), datetime(2026, 2, 25, tzinfo=UTC)
    with tracked_run(city, "monitoring", window=None, as_of=moment) as run:
        told = Decision(action="retrain", reasons=("the test says so",), features=())
        announce(city, told, moment, run)

check()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Stack]:
    """Run a stack for all tests of this module."""
    with running(make_home(tmp_path_factory.mktemp("home"), _QUIET)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Run one browser for all tests of this module."""
    from playwright.sync_api import expect

    expect.set_options(timeout=_PATIENCE)
    with browsing() as found:
        yield found


@pytest.fixture
def page(browser: "Browser", tmp_path: Path) -> Iterator["Page"]:
    """Open a page as somebody who has never been there."""
    context = browser.new_context(viewport={"width": 1600, "height": 1200})
    context.set_default_timeout(_PATIENCE)
    context.set_default_navigation_timeout(4 * _PATIENCE)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def trained(stack: Stack) -> str:
    """Train the first version through its deployment; return the flow run's id."""
    run = stack.start("train-model/city", as_of="2026-02-20T00:00:00Z")
    assert stack.finished(run) == "COMPLETED"
    return run


@pytest.fixture(scope="module")
def scored(stack: Stack, trained: str) -> str:
    """Score a day through its deployment; return the flow run's id."""
    run = stack.start("score-batch/city", "2026-02-21T05:00:00Z")
    assert stack.finished(run) == "COMPLETED"
    return run


def deployment_page(stack: Stack, name: str) -> str:
    """Return the address of a deployment's page."""
    return f"{stack.prefect}/v2/deployments/deployment/{stack.deployment(name)['id']}"


def follow(page: "Page", link: str) -> None:
    """Open the links of a flow run from its tab of artifacts, and follow one of them."""
    page.locator('a[href*="/artifacts/artifact/"]', has_text=link).click()
    # The address changes before the page does.
    page.get_by_role("tab", name="Raw").wait_for()
    page.get_by_role("link", name=link, exact=True).last.click()


def test_deployment_says_what_it_does_and_when(stack: Stack, page: "Page") -> None:
    """The page of a deployment shows its schedule, and its description without stray breaks."""
    from playwright.sync_api import expect

    page.goto(deployment_page(stack, "score-batch/city"))
    expect(page.get_by_text("At 05:00 AM, on day 1 of the month, only in January")).to_be_visible()
    page.get_by_role("tab", name="Description").click()
    expect(page.get_by_text("Score a window with the champion and publish")).to_be_visible()
    told = page.get_by_text("it makes up for those that earlier ones missed")
    expect(told).to_be_visible()
    expect(page.get_by_text("-----")).to_have_count(0)


def test_form_says_what_each_parameter_means(stack: Stack, page: "Page") -> None:
    """The form of a run has each parameter of the flow, with what its docstring says of it."""
    from playwright.sync_api import expect

    page.goto(deployment_page(stack, "score-batch/city"))
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    described = {
        "workload": "Name of the workload.",
        "window (Optional)": "Rows to score, UTC; default the newest whole inference window before",
        "as_of (Optional)": "The moment the run is meant for, UTC; default its scheduled time.",
        "champion_at (Optional)": "Score with the version that was champion then, UTC",
    }
    for name, text in described.items():
        expect(page.get_by_text(name, exact=True)).to_be_visible()
        expect(page.get_by_text(text).first).to_be_visible()


def test_form_refuses_a_wrong_value(stack: Stack, page: "Page") -> None:
    """A number out of its range is refused by the page, which names the limit; no run starts."""
    before = len(stack.runs("train-model/city"))
    page.goto(deployment_page(stack, "train-model/city") + "/run")
    page.get_by_role("tab", name="Overrides").click()
    page.get_by_role("tab", name="int", exact=True).first.click()
    folds = page.locator("input[type=number]")
    folds.fill("900")
    page.get_by_role("button", name="Submit").click()
    told = folds.evaluate("field => field.matches(':focus') && field.validationMessage")
    assert told == "Value must be less than or equal to 50."
    assert len(stack.runs("train-model/city")) == before


def test_flow_run_shows_tables_and_leads_to_mlflow(
    stack: Stack, trained: str, page: "Page"
) -> None:
    """From a flow run to its tables; by its link to its MLflow run, its numbers, and back."""
    from playwright.sync_api import expect

    page.goto(f"{stack.prefect}/v2/runs/flow-run/{trained}?tab=Artifacts")
    for name in ("leaderboard-city", "verdict-city", "bill-city"):
        expect(page.get_by_text(name, exact=True)).to_be_visible()
    follow(page, "this training")
    run = stack.mlflow_run(trained)["info"]
    expect(page).to_have_url(re.compile(f"/runs/{run['run_id']}"))
    expect(page.get_by_role("heading", name=run["run_name"])).to_be_visible()
    for metric in ("accuracy/rmsle", "time/wall_s", "cost/money"):
        expect(page.get_by_role("link", name=metric, exact=True)).to_be_visible()
    expect(page.get_by_text("Detect Issues")).to_have_count(0)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Its flow run in Prefect").click()
    back = opened.value
    expect(back).to_have_url(re.compile(rf"{stack.prefect}.*/flow-run/{trained}"))
    expect(back.get_by_text("train city").first).to_be_visible()


def test_table_shows_what_was_trained(stack: Stack, trained: str, page: "Page") -> None:
    """The leaderboard of a run is one click from its history, with a row for each candidate."""
    from playwright.sync_api import expect

    page.goto(f"{stack.prefect}/v2/runs/flow-run/{trained}?tab=Artifacts")
    page.get_by_text("leaderboard-city", exact=True).click()
    # The page that is left has links to tables as well, but none that is called by its number.
    page.get_by_role("link", name=re.compile(r"^[0-9a-f]{8}$")).first.click()
    for text in ("candidate", "validation", "baseline", "linear"):
        expect(page.get_by_role("table").get_by_text(text, exact=True)).to_be_visible()


def test_first_visitor_sees_accuracy_time_and_cost(stack: Stack, scored: str, page: "Page") -> None:
    """By a link of any flow run, MLflow's table shows all runs with accuracy, time and cost."""
    from playwright.sync_api import expect

    page.goto(f"{stack.prefect}/v2/runs/flow-run/{scored}?tab=Artifacts")
    follow(page, "all runs")
    columns = page.get_by_role("columnheader")
    for metric in ("accuracy/rmsle", "time/wall_total_s", "cost/money_total"):
        expect(columns.filter(has_text=metric).last).to_be_visible()
    expect(page.get_by_role("button", name=VIEW)).to_be_visible()
    name = stack.mlflow_run(scored)["info"]["run_name"]
    expect(page.get_by_role("link", name=name)).to_be_visible()
    expect(page.get_by_text("Detect Issues")).to_have_count(0)


def test_view_is_offered_where_one_would_look(stack: Stack, scored: str, page: "Page") -> None:
    """Who comes by another way finds the same columns in the menu of views."""
    from playwright.sync_api import expect

    experiment = stack.mlflow_run(scored)["info"]["experiment_id"]
    page.goto(runs_page(stack.mlflow, experiment).partition("&viewStateShareKey")[0])
    columns = page.get_by_role("columnheader")
    expect(columns.filter(has_text="Run Name").last).to_be_visible()
    expect(columns.filter(has_text="accuracy/rmsle")).to_have_count(0)
    page.get_by_role("button", name="Views").click()
    page.get_by_role("menuitem", name=VIEW).click()
    expect(columns.filter(has_text="accuracy/rmsle").last).to_be_visible()


def test_drift_can_be_followed_to_the_version_that_serves(
    stack: Stack, scored: str, page: "Page"
) -> None:
    """Event, automation, flow run, MLflow run, verdict, version and alias lead to each other."""
    from playwright.sync_api import expect

    addresses = {"PREFECT_API_URL": f"{stack.prefect}/api", "MLFLOW_TRACKING_URI": stack.mlflow}
    subprocess.run(
        [sys.executable, "-c", _CHECK], check=True, env=stack.environment | addresses, timeout=120
    )
    until(partial(stack.has_runs, "retrain-model/city", 1), 60)
    retraining = stack.runs("retrain-model/city")[0]["id"]
    assert stack.finished(retraining) == "COMPLETED"
    check = tags_of(stack.mlflow_runs("tags.`twinloop.kind` = 'monitoring'")[0])

    page.goto(f"{stack.prefect}/v2/runs/flow-run/{check['twinloop.prefect_flow_run_id']}")
    page.get_by_role("tab", name="Artifacts").click()
    follow(page, "the event")
    expect(page.get_by_text("twinloop.drift.detected").first).to_be_visible()
    page.locator('a[href*="/automations/automation/"]').first.click()
    deployment = stack.deployment("retrain-model/city")["id"]
    page.locator(f'a[href*="{deployment}"]').first.click()
    page.wait_for_url(f"**/deployment/{deployment}**")
    page.get_by_role("link", name="retrain city 2026-02-25", exact=True).first.click()
    page.wait_for_url(f"**/flow-run/{retraining}**")
    # Prefect's links lead to the older of its two UIs; the newer has the same page.
    page.goto(f"{stack.prefect}/v2/runs/flow-run/{retraining}?tab=Artifacts")
    follow(page, "this retraining")

    run = stack.mlflow_run(retraining)
    expect(page.get_by_text("the test says so")).to_be_visible()
    verdict = tags_of(run)["twinloop.verdict"]
    expect(page.get_by_text(verdict).first).to_be_visible()
    page.get_by_role("link", name="train city 2026-02-25").click()
    page.locator('a[href*="/models/city"]').first.click()
    expect(page).to_have_url(re.compile("/models/city/versions/2"))
    alias = "champion" if verdict == "promote" else "challenger"
    expect(page.get_by_text(f"@ {alias}").first).to_be_visible()


def test_browser_without_an_account_sees_nothing(guarded: Stack, page: "Page") -> None:
    """Where accounts are asked for, MLflow shows nothing, and Prefect a form that asks for one."""
    from playwright.sync_api import Error, expect

    page.goto(f"{guarded.prefect}/v2/deployments")
    expect(page.get_by_placeholder("admin:pass")).to_be_visible()
    expect(page.get_by_text("score-batch")).to_have_count(0)
    with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        page.goto(guarded.mlflow)


def test_browser_with_an_account_sees_all(guarded: Stack, browser: "Browser", page: "Page") -> None:
    """The form lets in who has an account, and MLflow shows what there is to the same person."""
    from playwright.sync_api import expect

    page.goto(f"{guarded.prefect}/v2/deployments")
    page.get_by_placeholder("admin:pass").fill(PREFECT_ACCOUNT)
    page.keyboard.press("Enter")
    expect(page.get_by_text("score-batch").first).to_be_visible()
    user, _, password = MLFLOW_ACCOUNT.partition(":")
    with browser.new_context(http_credentials={"username": user, "password": password}) as known:
        other = known.new_page()
        other.goto(guarded.mlflow)
        expect(other.get_by_role("link", name="Experiments").first).to_be_visible()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a stack that asks for accounts."""
    user, _, password = MLFLOW_ACCOUNT.partition(":")
    environment = make_home(
        tmp_path_factory.mktemp("guarded"),
        _QUIET,
        PREFECT_API_AUTH_STRING=PREFECT_ACCOUNT,
        MLFLOW_TRACKING_USERNAME=user,
        MLFLOW_TRACKING_PASSWORD=password,
    )
    with running(environment) as found:
        yield found
