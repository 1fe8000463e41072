"""A user's own estimator goes through both loops, and MLflow alone does not load it."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.score_batch import score_batch
from flows.train_model import train_model
from tasks.registry import find_champion, load_version
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.errors import RegistryError, WorkloadError
from twinloop.workload import Overrides

NOW = datetime(2024, 3, 1, tzinfo=UTC)
MODULE = """
import numpy as np
from sklearn.base import BaseEstimator


class Slope(BaseEstimator):
    def fit(self, X, y):
        self.slope_ = float(X[:, 0] @ y / (X[:, 0] @ X[:, 0]))
        return self

    def predict(self, X):
        return X[:, 0] * self.slope_
"""
FILE = """
name: own
task: regression
source: {{kind: files, path: "{path}"}}
target: y
training:
  folds: 2
  estimators: {{slope: {{path: "slopes:Slope", trusted: [{trusted}]}}}}
  candidates: [slope]
"""

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def workload_file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide a table, a workload with an estimator of its own, and the package it is in."""
    n, noise = np.random.default_rng(0).normal(size=(2, 200))
    pd.DataFrame({"n": n, "y": 3 * n + noise}).to_parquet(home / "own.parquet")
    package = tmp_path / "package"
    package.mkdir()
    (package / "slopes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(package)
    file = home / "data" / "workloads" / "own.yaml"
    file.write_text(FILE.format(path=home / "own.parquet", trusted="slopes.Slope"))
    yield file
    sys.modules.pop("slopes", None)
    load_version.cache_clear()


def test_an_own_estimator_is_trained_and_served(home: Path, workload_file: Path) -> None:
    """It wins, serves by the list in the workload file, and by no other."""
    import mlflow

    assert train_model("own", as_of=NOW).winner == "slope"
    assert score_batch("own", as_of=NOW).scored == 200
    champion = find_champion(load_workload("own"))
    assert champion is not None
    with pytest.raises(RegistryError, match=r"not trusted.*slopes\.Slope"):
        load_version(champion)
    client()
    with pytest.raises(RegistryError, match="not trusted"):
        mlflow.pyfunc.load_model("models:/own@champion")


def test_what_is_not_trusted_is_not_trained(home: Path, workload_file: Path) -> None:
    """The error comes before any row is read; so does that of a candidate nobody knows."""
    workload_file.write_text(FILE.format(path="nowhere/*.parquet", trusted=""))
    with pytest.raises(WorkloadError, match=r"slopes\.Slope is not trusted"):
        train_model("own", as_of=NOW)
    with pytest.raises(WorkloadError, match=r"no candidate 'slop'\. Did you mean 'slope'"):
        train_model("own", as_of=NOW, overrides=Overrides(candidates=("slop",)))
