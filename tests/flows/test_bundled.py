"""The shipped tables of classes are learned about as well as anybody learns them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.train_model import train_model
from tasks.preparing import prepare_snapshot
from tasks.registry import load_version, versions
from tasks.settings import load_workload
from tasks.validating import open_study
from twinloop.evaluation import METRICS

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [("digits", "accuracy", 0.97), ("breast_cancer", "roc_auc", 0.99)],
)
def test_a_shipped_workload_is_learned_well(
    home: Path, name: str, metric: str, least: float
) -> None:
    """With its settings as shipped, on the holdout, which the registered model never saw."""
    train_model(name, as_of=datetime(2024, 1, 1, tzinfo=UTC))
    spec = load_workload(name)
    study = open_study(spec, prepare_snapshot.fn(spec, None))
    assert not np.isin(study.split.holdout, study.split.train).any()
    assert not spec.refits
    held = study.table.take(pa.array(study.split.holdout))
    predictions = load_version(versions(spec)[0]).scorer.predict(held)
    y = study.target.encode(held.column(spec.target))
    assert METRICS[metric].score(y, predictions) > least
