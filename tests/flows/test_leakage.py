"""A leak stops a training before anything is fitted, or goes along with it as a warning."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows import report
from flows.train_model import train_model
from tasks.checking import check_workload
from tasks.registry import find_champion
from tasks.settings import load_workload, moment_of
from tasks.tracking import client
from twinloop.errors import LeakageError

SHOP: dict[str, Any] = {
    "name": "shop",
    "task": "regression",
    "source": {"kind": "files", "path": "raw.parquet"},
    "target": "sold",
    "metric": "rmse",
}

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def shop(home: Path) -> Path:
    """Provide a table whose target two of its columns add up to, and which has a row number."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"number": range(200), "price": draw.normal(size=200)})
    frame["here"], frame["online"] = draw.poisson(20, 200), draw.poisson(30, 200)
    frame["sold"] = frame["here"] + frame["online"]
    frame.to_parquet(home / "raw.parquet", index=False)
    return home


def describe(home: Path, **training: Any) -> None:
    """Write the workload file, with this training; YAML takes JSON."""
    text = json.dumps(SHOP | {"training": {"folds": 3, "candidates": ["linear"]} | training})
    (home / "data" / "workloads" / "shop.yaml").write_text(text, encoding="utf-8")


def test_a_certain_leak_stops_a_training_before_a_fit(shop: Path) -> None:
    """The run fails with the columns in its error, shows what was found, and has no candidate."""
    describe(shop)
    with pytest.raises(LeakageError, match=r"'here' \+ 'online' is the target 'sold'"):
        train_model("shop")
    assert find_champion(load_workload("shop")) is None
    experiments = [e.experiment_id for e in client().search_experiments()]
    (run,) = client().search_runs(experiments)
    assert run.info.status == "FAILED"
    assert run.data.tags["twinloop.error"].startswith("[TL320]")
    assert run.data.tags["twinloop.leakage"] == "id_like, target_copy"
    assert run.data.metrics["leakage/findings"] == 2
    assert "leakage.json" in [f.path for f in client().list_artifacts(run.info.run_id)]


def test_a_warning_goes_along_with_the_training(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the workload says so the training goes on, and its report tells of both."""
    describe(shop, checks={"target_copy": "warn"})
    result = train_model("shop")
    assert [f.code for f in result.findings] == ["target_copy", "id_like"]
    report.training(result)
    told = " ".join(capsys.readouterr().out.split())
    assert "warn, target_copy: 'here' + 'online' is the target" in told
    assert "warn, id_like: 'number' has 200 different values" in told


def test_a_check_of_the_workload_tells_what_a_training_would_refuse(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it is printed, with how serious each finding is."""
    describe(shop, checks={"id_like": "disabled"})
    result = check_workload(load_workload("shop"), None, moment_of(None))
    assert [(f.code, f.level) for f in result.findings] == [("target_copy", "fail")]
    report.check(result)
    assert "fail, target_copy: 'here' + 'online'" in " ".join(capsys.readouterr().out.split())
