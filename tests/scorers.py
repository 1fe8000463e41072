"""Fitted scorers of every kind, on one table with every kind of column."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import get_args

import numpy as np
import pyarrow as pa

from twinloop.binning import learn_binning
from twinloop.contract import Contract, check_rows, infer_contract
from twinloop.ensemble import compose
from twinloop.profile import Reference
from twinloop.recipe import NATIVE_CATEGORIES, Recipe
from twinloop.results import Member
from twinloop.scorer import Scorer, Target, learn_target
from twinloop.validation import fit_rows, fit_scorer, label_rows
from twinloop.vocabulary import CandidateName
from twinloop.workload import Workload

CANDIDATES: tuple[CandidateName, ...] = get_args(CandidateName)
# XGBoost once more, its codes divided as categories.
NATIVE = "xgboost, native"
KINDS = (*CANDIDATES, NATIVE, "ensemble")
# What a target hangs on: its task, metric and how many classes it has.
PROBLEMS = {
    "number": ("regression", "mae", 0),
    "logarithm": ("regression", "rmsle", 0),
    "two": ("binary", "log_loss", 2),
    "five": ("multiclass", "log_loss", 5),
}
SCHEMA = pa.schema(
    {
        "n": pa.float64(),
        "m": pa.float64(),
        "flag": pa.bool_(),
        "level": pa.string(),
        "full": pa.string(),
        "at": pa.timestamp("us", "UTC"),
        "t": pa.timestamp("us", "UTC"),
    }
)
_N_ROWS = 300
_START = datetime(2024, 1, 1, tzinfo=UTC)
_WEIGHTS = {"linear": 0.5, "xgboost": 0.3, "forest": 0.2}


def workload_of(problem: str) -> Workload:
    """Return the workload of a problem; nothing is out of range but what float32 cannot hold."""
    task, metric, _ = PROBLEMS[problem]
    wide = {"minimum": -3.4028234e38, "maximum": 3.4028234e38}
    return Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "metric": metric,
            "source": {"kind": "files", "path": "x"},
            "time": "t",
            "calendar": ["hour", "weekday", "month"],
            "target": "y",
            "columns": {"n": wide, "m": wide},
        }
    )


def rows_of(problem: str, n_rows: int = _N_ROWS) -> pa.Table:
    """Return labelled rows; ``full`` has no nulls, all other features have some."""
    draw = np.random.default_rng(5)
    _, _, classes = PROBLEMS[problem]
    n, m, level = draw.normal(size=n_rows), draw.normal(size=n_rows), draw.integers(0, 4, n_rows)
    signal = n - 2 * m + level
    y = np.exp(signal / 2)
    if classes:
        y = np.digitize(signal, np.quantile(signal, np.linspace(0, 1, classes + 1)[1:-1]))
    gone = draw.random((5, n_rows)) < 0.1
    hours = [_START + timedelta(hours=7 * i) for i in range(n_rows)]
    return pa.table(
        {
            "n": pa.array(n, mask=gone[0]),
            "m": pa.array(m * 1e4 + 1e6, mask=gone[1]),
            "flag": pa.array(signal > 0, mask=gone[2]),
            "level": pa.array(np.array(list("abcd"))[level], mask=gone[3]),
            "full": pa.array(np.array(list("xyz"))[draw.integers(0, 3, n_rows)]),
            "at": pa.array(
                [
                    None if lost else h - timedelta(days=9)
                    for lost, h in zip(gone[4], hours, strict=True)
                ],
                SCHEMA.field("at").type,
            ),
            "t": pa.array(hours, SCHEMA.field("t").type),
            "y": pa.array(y),
        }
    )


def learned(problem: str) -> tuple[pa.Table, Contract, Target, Workload]:
    """Return typed rows, and what there is to know of them."""
    workload = workload_of(problem)
    contract = infer_contract(rows_of(problem), workload, "here")
    good = check_rows(rows_of(problem), contract).good
    return good, contract, learn_target(good, workload), workload


@cache
def fitted(kind: str, problem: str) -> Scorer:
    """Fit a candidate, an ensemble of three, or `NATIVE`."""
    if kind == "ensemble":
        members = [Member(name=name, weight=weight) for name, weight in _WEIGHTS.items()]
        return compose([fitted(m.name, problem) for m in members], members)
    table, contract, target, workload = learned(problem)
    if kind == NATIVE:
        rows = label_rows(table, contract, target, workload)
        recipe = Recipe(candidate="xgboost", params={NATIVE_CATEGORIES: 1})
        return fit_rows(rows, "xgboost", threads=1, recipe=recipe)
    return fit_scorer(table, kind, target, contract, workload, threads=1)


@cache
def reference_of(kind: str, problem: str) -> Reference:
    """Return the profile of the rows that a scorer was fitted on."""
    scorer = fitted(kind, problem)
    X = scorer.encoding.encode(learned(problem)[0])
    predictions = scorer.predict_matrix(X)
    binning = learn_binning(scorer.encoding, X, predictions, scorer.target)
    whole = binning.count(X, predictions)
    return Reference(
        binning=binning, whole=whole, windows=(whole,), importance=(), loss="rmse", losses=()
    )
