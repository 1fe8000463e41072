"""Make the pictures of the README: `python -m docs.images.make`, about three minutes.

A stack of its own runs the shipped bikes as its schedules did in July 2011 and in a drift of that
October; a browser looks at its pages.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.viewing import run_page, runs_page
from tests.pages import browsing
from tests.stacks import Stack, make_home, running, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

_HERE = Path(__file__).parent
_WORKLOAD = _HERE.parents[1] / "data" / "workloads" / "bikes.yaml"
_SCHEDULED = (
    ("train-model", "2011-07-01T04:00:00Z"),
    ("score-batch", "2011-07-02T05:00:00Z"),
    ("score-batch", "2011-07-03T05:00:00Z"),
    ("watch-drift", "2011-07-03T06:00:00Z"),
    ("score-batch", "2011-10-16T05:00:00Z"),
    ("watch-drift", "2011-10-16T06:00:00Z"),
)


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        environment = make_home(Path(folder), _WORKLOAD.read_text(), name="bikes")
        with running(environment) as stack, browsing() as browser:
            runs = {name: _run(stack, name, when) for name, when in _SCHEDULED}
            until(lambda: stack.runs("retrain-model/bikes"), 60)
            stack.finished(stack.runs("retrain-model/bikes")[0]["id"], 300)
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            _prefect(stack, page, runs["train-model"])
            _mlflow(stack, page, runs["train-model"])


def _run(stack: Stack, name: str, scheduled: str) -> str:
    run = stack.start(f"{name}/bikes", scheduled)
    state = stack.finished(run, 300)
    print(name, scheduled, state.lower(), flush=True)
    return run


def _prefect(stack: Stack, page: "Page", run: str) -> None:
    page.goto(f"{stack.prefect}/v2/runs/flow-run/{run}?tab=Artifacts")
    page.get_by_text("leaderboard-bikes", exact=True).wait_for()
    page.set_viewport_size({"width": 1280, "height": 1040})
    _picture(page, "prefect-run")
    page.set_viewport_size({"width": 1280, "height": 860})
    deployment = stack.deployment("score-batch/bikes")["id"]
    page.goto(f"{stack.prefect}/v2/deployments/deployment/{deployment}")
    page.get_by_text("At 05:00 AM").wait_for()
    _picture(page, "prefect-deployment")


def _mlflow(stack: Stack, page: "Page", flow_run: str) -> None:
    run = stack.mlflow_run(flow_run)["info"]
    # What everybody closes at the first visit.
    page.goto(stack.mlflow)
    page.evaluate("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
    page.evaluate("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    page.goto(runs_page(stack.mlflow, run["experiment_id"]))
    page.reload()
    page.get_by_role("link", name=run["run_name"]).wait_for()
    _picture(page, "mlflow-runs")
    page.goto(run_page(stack.mlflow, run["experiment_id"], run["run_id"]))
    page.get_by_role("link", name="cost/money", exact=True).wait_for()
    _picture(page, "mlflow-run")


def _picture(page: "Page", name: str) -> None:
    """Save what is seen once nothing moves any more."""
    page.wait_for_timeout(8000)
    page.screenshot(path=_HERE / f"{name}.png")


if __name__ == "__main__":
    main()
