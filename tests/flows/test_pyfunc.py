"""A registered version is a plain MLflow model: whoever has MLflow can load and ask it."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.train_model import train_model
from tasks import sources
from tasks.registry import find_champion, load_version
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.errors import ColumnError
from twinloop.vocabulary import CandidateName
from twinloop.window import Window
from twinloop.workload import Overrides

START = datetime(2011, 7, 1, tzinfo=UTC)
NEXT_DAY = Window(start=START, end=datetime(2011, 7, 2, tzinfo=UTC))
# Another process, without this repository on its path nor in its folder: the version has its code.
ELSEWHERE = """
import sys
sys.path[:] = [p for p in sys.path if {root!r} not in p or "site-packages" in p]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
import importlib.util
assert importlib.util.find_spec("twinloop") is None
assert importlib.util.find_spec("tasks") is None
import mlflow, pandas
mlflow.set_tracking_uri({uri!r})
model = mlflow.pyfunc.load_model("models:/{name}@champion")
assert "prefect" not in sys.modules
model.predict(pandas.read_parquet("rows.parquet")).to_parquet("answers.parquet")
import twinloop
assert not twinloop.__file__.startswith({root!r})
"""

pytestmark = pytest.mark.usefixtures("prefect")


def trained(name: str, candidate: CandidateName) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and promote a model; return rows without their target, and the scorer's answers."""
    quick = Overrides(candidates=("baseline", candidate), folds=2)
    train_model(name, as_of=START, overrides=quick)
    workload = load_workload(name)
    table = sources.read_window(workload, NEXT_DAY if workload.time else None).slice(0, 24)
    champion = find_champion(workload)
    assert champion is not None
    scorer = load_version(champion).scorer
    answers = scorer.columns(scorer.predict(table))
    frame = pd.DataFrame(table.drop_columns([workload.target]).to_pandas())
    # MLflow takes times without a zone only; Twinloop reads them as UTC.
    aware = frame.select_dtypes("datetimetz").items()
    naive = {str(column): times.dt.tz_convert(None) for column, times in aware}
    return frame.assign(**naive), pd.DataFrame({n: v.to_pandas() for n, v in answers.items()})


@pytest.mark.parametrize(
    ("name", "candidate"), [("bikes", "xgboost"), ("breast_cancer", "linear"), ("digits", "linear")]
)
def test_mlflow_loads_and_asks_a_version(home: Path, name: str, candidate: CandidateName) -> None:
    """By its alias alone it answers a frame with the very values of the scorer."""
    import mlflow

    frame, answers = trained(name, candidate)
    client()
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    found = model.predict(frame)
    pd.testing.assert_frame_equal(found, answers)
    outputs = model.metadata.get_output_schema()
    assert outputs.input_names() == list(answers.columns)


def test_a_version_refuses_rows_that_break_its_contract(home: Path) -> None:
    """The contract is part of the version: a temperature of the sun is no row to predict."""
    import mlflow

    frame, _ = trained("bikes", "linear")
    client()
    model = mlflow.pyfunc.load_model("models:/bikes@champion")
    with pytest.raises(ColumnError, match="out_of_range:temperature"):
        model.predict(frame.assign(temperature=5.8e3))
    assert np.isfinite(model.predict(frame.assign(temperature=np.nan))["prediction"]).all()


def test_a_version_needs_nothing_of_this_repository(home: Path, tmp_path: Path) -> None:
    """A process that has MLflow, and not this repository, loads it with the code it carries."""
    frame, answers = trained("bikes", "xgboost")
    place = tmp_path / "elsewhere"
    place.mkdir()
    frame.to_parquet(place / "rows.parquet")
    root = str(Path(__file__).parents[2])
    uri = f"sqlite:///{home / 'mlflow' / 'store' / 'mlflow.db'}"
    code = ELSEWHERE.format(root=root, uri=uri, name="bikes")
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(place / "answers.parquet"), answers)
