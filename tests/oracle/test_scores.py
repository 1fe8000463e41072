"""Scores of compiled models against pandas, scikit-learn and XGBoost, from the raw columns."""

from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb

from twinloop.compiled import compiled
from twinloop.contract import check_rows, infer_contract
from twinloop.scorer import Scorer, learn_target
from twinloop.validation import fit_rows, label_rows
from twinloop.workload import Workload

FITTED, SCORED = 3000, 100_000
PROBLEMS = {
    "number": ("regression", "mae", 0),
    "logarithm": ("regression", "rmsle", 0),
    "two": ("binary", "log_loss", 2),
    "five": ("multiclass", "log_loss", 5),
}
# In the order of the table, which is that of the contract.
NUMBERS, TRUTHS, TEXTS = ["price", "weight"], ["open"], ["shop", "town"]
DAY = pd.Timedelta(days=1)


def frame(n_rows: int, seed: int, *, strange: bool) -> pd.DataFrame:
    """Draw raw rows; strange ones have other levels, larger numbers and times long ago."""
    draw = np.random.default_rng(seed)
    wide, extra = (5.0, 3) if strange else (1.0, 0)
    years = (1700, 2200) if strange else (2020, 2025)
    first, last = (pd.Timestamp(f"{y}-01-01").value // 1000 for y in years)
    made = pd.DataFrame(
        {
            "price": draw.lognormal(3, wide**0.25, n_rows),
            "weight": draw.normal(1e6, 1e3 * wide, n_rows),
            "open": pd.array(draw.random(n_rows) < 0.7, "boolean"),
            "shop": pd.array([f"shop {i}" for i in draw.geometric(0.2, n_rows) + extra], "string"),
            "town": pd.array(np.array(list("äbcde"))[draw.integers(0, 5, n_rows)], "string"),
            "seen": draw.integers(first, last, n_rows).astype("M8[us]"),
            "when": draw.integers(first, last, n_rows).astype("M8[us]"),
        }
    )
    for name in ("price", "weight", "open", "shop", "town", "seen"):
        made.loc[draw.random(n_rows) < 0.1, name] = None
    return made


def labelled(problem: str) -> pd.DataFrame:
    """Draw rows with a target that hangs on all of them."""
    rows, (_, _, classes) = frame(FITTED, 1, strange=False), PROBLEMS[problem]
    y = np.log(rows["price"].fillna(20)) + (rows["weight"].fillna(1e6) - 1e6) / 1e3
    y += rows["open"].fillna(value=False).astype(float) + rows["when"].dt.hour / 12
    y += rows["town"].fillna("ä").map(dict(zip("äbcde", range(5), strict=True))).astype(float)
    if not classes:
        return rows.assign(y=np.exp(y / 3))
    return rows.assign(y=pd.qcut(y, classes, labels=False))


def typed(rows: pd.DataFrame) -> pa.Table:
    """Return rows as a source would give them, times in UTC."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    for name in ("seen", "when"):
        at = table.schema.get_field_index(name)
        times = table.column(name).cast(pa.timestamp("us", "UTC"))
        table = table.set_column(at, name, times)
    return table


@cache
def fitted(name: str, problem: str) -> Scorer:
    """Fit a candidate on the first rows."""
    task, metric, _ = PROBLEMS[problem]
    workload = Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "metric": metric,
            "source": {"kind": "files", "path": "x"},
            "time": "when",
            "calendar": ["hour", "weekday", "month"],
            "target": "y",
        }
    )
    table = typed(labelled(problem))
    contract = infer_contract(table, workload, "here")
    good = check_rows(table, contract).good
    assert good.num_rows == FITTED
    rows = label_rows(good, contract, learn_target(good, workload), workload)
    return fit_rows(rows, name, threads=1, rounds=40)


def matrix(rows: pd.DataFrame, trained: pd.DataFrame) -> np.ndarray:
    """Make numbers of raw columns with pandas alone."""
    columns = [rows[name].astype(np.float32) for name in NUMBERS]
    columns += [rows[name].astype("Float32").astype(np.float32) for name in TRUTHS]
    for name in TEXTS:
        counts = trained[name].dropna().astype(str).value_counts().reset_index()
        ranked = counts.sort_values(["count", name], ascending=[False, True])[name]
        places = dict(zip(ranked, range(len(ranked)), strict=True))
        columns.append(rows[name].astype(object).map(places))
    columns.append((rows["seen"] - pd.Timestamp(0)) / DAY)
    calendar = rows["when"].dt
    columns += [calendar.hour, calendar.day_of_week, calendar.month - 1]
    return np.column_stack([c.to_numpy(np.float32, na_value=np.nan) for c in columns])


@pytest.mark.parametrize("problem", list(PROBLEMS))
@pytest.mark.parametrize("name", ["linear", "xgboost"])
def test_scores_agree_with_other_means(name: str, problem: str) -> None:
    """Of 100,000 rows with nulls, new levels and times long ago, none differs by 1e-6."""
    scorer, (task, metric, classes) = fitted(name, problem), PROBLEMS[problem]
    rows = frame(SCORED, 2, strange=True)
    X = matrix(rows, labelled(problem))
    model = scorer.predictor.model
    if name == "xgboost":
        wanted = model.predict(xgb.DMatrix(X), validate_features=False).astype(np.float64)
    else:
        X = X.astype(np.float64)
        wanted = model.predict(X) if task == "regression" else model.predict_proba(X)
    if metric == "rmsle":
        wanted = np.maximum(np.exp(wanted) - 1.0, 0.0)
    if classes == 2 and wanted.ndim == 1:
        wanted = np.column_stack([1 - wanted, wanted])
    found = compiled(scorer).predict(typed(rows))
    if not classes:
        scale = np.maximum(1.0, np.abs(wanted))
        assert np.max(np.abs(found.value - wanted) / scale) <= 1e-6
        return
    assert found.probability is not None
    assert np.max(np.abs(found.probability - wanted)) <= 1e-6
    first, second = np.sort(wanted, axis=1)[:, :-3:-1].T
    sure = first - second > 1e-6
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(found.value[sure], wanted.argmax(axis=1)[sure])
