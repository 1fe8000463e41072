"""A served model answers frames as the scorer answers tables, and refuses what breaks the rules."""

from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from twinloop.contract import Contract, check_rows, infer_contract
from twinloop.errors import ColumnError
from twinloop.scorer import Scorer, learn_target, to_files
from twinloop.serving import CONTRACT, REFERENCE, PandasModel, _load_pyfunc
from twinloop.validation import fit_scorer
from twinloop.vocabulary import Task
from twinloop.workload import Workload

TASKS: tuple[Task, ...] = get_args(Task)
N_ROWS = 120


def rows(task: Task) -> pa.Table:
    """Return rows of every kind of column, nulls included, and a target that hangs on them."""
    draw = np.random.default_rng(7)
    n, level = draw.normal(size=N_ROWS), draw.integers(0, 3, N_ROWS)
    signal = n + level
    hours = pd.date_range("2024-01-01", periods=N_ROWS, freq="h", tz="UTC")
    y = {
        "regression": signal.tolist(),
        "binary": (signal > 1).tolist(),
        "multiclass": [f"class {c}" for c in np.digitize(signal, [0.5, 1.5])],
    }
    return pa.table(
        {
            "at": pa.array(hours.to_list(), pa.timestamp("us", "UTC")),
            "n": pa.array(n, mask=draw.random(N_ROWS) < 0.1),
            "flag": pa.array((signal > 0).tolist()),
            "level": pa.array([None if v == 2 else "ab"[v] for v in level]),
            "y": y[task],
        }
    )


@cache
def fitted(task: Task) -> tuple[Scorer, Contract]:
    """Fit a model of this task."""
    workload = Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "source": {"kind": "files", "path": "x"},
            "time": "at",
            "target": "y",
            "columns": {"n": {"minimum": -10, "maximum": 10}},
        }
    )
    table = rows(task)
    contract = infer_contract(table, workload, "f")
    good = check_rows(table, contract).good
    target = learn_target(good, workload)
    return fit_scorer(good, "forest", target, contract, workload, threads=1), contract


def frame_of(task: Task) -> pd.DataFrame:
    """Return rows as a person would have them in pandas: without the target."""
    return pd.DataFrame(rows(task).drop_columns(["y"]).to_pandas())


every_task = pytest.mark.parametrize("task", TASKS)


@every_task
def test_a_frame_is_answered_like_a_table(task: Task) -> None:
    """Every published column holds the very values the scorer gives, row by row."""
    scorer, contract = fitted(task)
    answers = PandasModel(scorer, contract).predict(frame_of(task))
    wanted = scorer.columns(scorer.predict(check_rows(rows(task), contract).good))
    assert list(answers.columns) == list(wanted)
    assert len(answers) == N_ROWS
    for name, values in wanted.items():
        assert answers[name].tolist() == values.to_pylist()


@every_task
def test_index_order_and_other_columns_do_not_matter(task: Task) -> None:
    """Columns are found by name, the index is no column, and answers keep the rows' order."""
    model = PandasModel(*fitted(task))
    frame = frame_of(task)
    other = frame[list(frame.columns)[::-1]].assign(extra="x")[::-1]
    one, backwards = model.predict(frame), model.predict(other)
    pd.testing.assert_frame_equal(backwards, one[::-1].reset_index(drop=True))


@every_task
def test_files_make_the_same_model(task: Task, tmp_path: Path) -> None:
    """Read from a version's folder, with what else lies there, it gives the same answers."""
    scorer, contract = fitted(task)
    files = to_files(scorer) | {CONTRACT: contract.model_dump_json().encode(), REFERENCE: b"{}"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    loaded = _load_pyfunc(str(tmp_path))
    frame = frame_of(task)
    pd.testing.assert_frame_equal(
        loaded.predict(frame), PandasModel(scorer, contract).predict(frame)
    )


@every_task
def test_rows_that_break_the_contract_are_refused(task: Task) -> None:
    """One answer a row or none: the error counts the rows and names what they break."""
    model, frame = PandasModel(*fitted(task)), frame_of(task)
    frame.loc[3, "n"] = 99.0
    frame.loc[5, "at"] = pd.NaT
    words = r"2 rows break the contract: \['missing_required:at', 'out_of_range:n'\]"
    with pytest.raises(ColumnError, match=words):
        model.predict(frame)


@every_task
def test_a_missing_column_is_named(task: Task) -> None:
    """A frame without a feature is refused by the feature's name."""
    with pytest.raises(ColumnError, match="no column 'level', which is part of the contract"):
        PandasModel(*fitted(task)).predict(frame_of(task).drop(columns="level"))


@every_task
def test_no_rows_have_no_answers(task: Task) -> None:
    """An empty frame gives an empty one, with the columns of the others."""
    model, frame = PandasModel(*fitted(task)), frame_of(task)
    nothing = model.predict(frame.iloc[:0])
    assert len(nothing) == 0
    assert list(nothing.columns) == list(model.predict(frame).columns)
