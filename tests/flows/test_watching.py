"""A watch before and after labels, flow by flow: the estimate, what labels say of it, the page."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.entities import Run

from flows.score_batch import score_batch
from flows.train_model import train_model
from flows.watch_drift import watch_drift
from tasks.tracking import client
from twinloop.workload import Overrides

START = datetime(2011, 7, 1, tzinfo=UTC)
QUICK = Overrides(candidates=("baseline", "linear"), folds=3)
DAY = timedelta(days=1)

pytestmark = pytest.mark.usefixtures("prefect")


def last_watch() -> Run:
    """Return the newest run of a watch."""
    found = client().search_runs(["1"], "tags.`twinloop.kind` = 'monitoring'", max_results=1)
    return found[0]


def test_an_estimate_comes_first_and_labels_judge_it(home: Path) -> None:
    """Scored, watched without labels, then with labels: both are logged under steady names."""
    file = home / "data" / "workloads" / "bikes.yaml"
    slow = file.read_text(encoding="utf-8").replace("labels_after: 1d", "labels_after: 8d")
    file.write_text(slow.replace("window: 14d", "window: 7d"), encoding="utf-8")
    train_model("bikes", as_of=START, overrides=QUICK)
    for day in range(1, 16):
        score_batch("bikes", as_of=START + day * DAY)
        if day == 7:
            first = watch_drift("bikes", START + day * DAY)
    assert first.harm is None
    assert first.expectation is not None
    assert first.expectation.estimate is not None
    assert (first.expectation.realised, first.expectation.checked) == (None, None)
    run = last_watch()
    low, value, high = (
        run.data.metrics[f"accuracy/{n}_rmsle"]
        for n in ("estimated_low", "estimated", "estimated_high")
    )
    assert 0 < low < value < high
    second = watch_drift("bikes", START + 15 * DAY)
    run = last_watch()
    assert second.harm is not None
    assert second.expectation is not None
    assert second.expectation.checked is not None
    assert second.expectation.checked.rows == 7 * 24
    # It is about the very rows of the first watch, and comes to the same.
    assert second.expectation.checked.value == pytest.approx(value)
    realised = run.data.metrics["accuracy/realised_rmsle"]
    assert realised == second.expectation.realised
    assert run.data.metrics["accuracy/rmsle"] == realised
    assert second.expectation.of == 1
    names = {f.path for f in client().list_artifacts(run.info.run_id)}
    assert {"drift.html", "decision.json", "plots"} <= names
    pictures = {f.path for f in client().list_artifacts(run.info.run_id, "plots")}
    assert pictures == {"plots/drift.png", "plots/metric_over_time.png"}
    page = Path(client().download_artifacts(run.info.run_id, "drift.html")).read_text("utf-8")
    # Both checks are on it: the first was found in the ledger.
    assert "2011-07-08: " in page
    assert "2011-07-16: " in page
