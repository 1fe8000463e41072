"""What five-fold cross-validation costs beside the boosting alone, and beside the usual ways.

The same boosted trees on the same table of 30 mixed columns: twenty numbers, two of a hundred
missing, and ten categories of twenty levels, as text. In CPU seconds of one thread, since wall time
on a shared machine is anybody's guess:

- the limit: the boosting alone, on folds that lie in memory in bins already, rows as they come;
- Twinloop: from the table in memory to the metric of every fold, encoding fitted in each;
- scikit-learn's ``cross_validate`` of a pipeline that encodes and boosts;
- ``xgb.cv`` of a table encoded beforehand.

200,000 rows at 40 rounds are measured three times, what takes longer once. ``--full`` adds a
million rows at 300 rounds, which takes half an hour.
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xgboost as xgb
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from twinloop.boosting import boosting_params
from twinloop.contract import check_rows, infer_contract
from twinloop.problem import Problem
from twinloop.scorer import learn_target
from twinloop.splitting import Split
from twinloop.validation import label_rows, validate
from twinloop.workload import Workload

if TYPE_CHECKING:
    from benchmarks import frame
else:
    import frame

FOLDS, NUMBERS, CATEGORIES, LEVELS = 5, 20, 10, 20
# Rows, boosting rounds, repeats, and how many times the limit Twinloop may take.
SIZES = [(200_000, 40, 3, 1.35), (200_000, 300, 1, 1.10), (1_000_000, 40, 1, 1.35)]
FULL = (1_000_000, 300, 1, 1.10)
LEAST_AHEAD = 1.4
WORKLOAD = Workload.model_validate(
    {
        "name": "mixed",
        "task": "regression",
        "source": {"kind": "files", "path": "nowhere"},
        "target": "y",
        "metric": "rmse",
        "training": {"folds": FOLDS},
    }
)


def main() -> int:
    """Measure every size."""
    figures = []
    for rows, rounds, repeats, most in [*SIZES, *([FULL] if "--full" in sys.argv else [])]:
        frame.show(f"{rows:,} rows, {rounds} rounds")
        samples = frame.interleave(_ways(rows, rounds), rounds=repeats)
        frame.show_samples(samples)
        limit, ours = samples["limit"].cpus, samples["Twinloop"].cpus
        name = f"{rows // 1000}k_{rounds}"
        figures.append(
            frame.Figure(
                f"times_limit_{name}",
                frame.median_ratio(ours, limit),
                most,
                "x",
                meaning=f"CPU of Twinloop, times the boosting alone, {rows:,} rows x {rounds}",
            )
        )
        if rounds == 40:
            others = [samples[way].cpus for way in ("cross_validate", "xgb.cv")]
            best = min(others, key=statistics.median)
            figures.append(
                frame.Figure(
                    f"ahead_{name}",
                    frame.median_ratio(best, ours),
                    LEAST_AHEAD,
                    "x",
                    at_least=True,
                    meaning=f"CPU of the better usual way, times Twinloop, {rows:,} rows",
                )
            )
    return frame.finish("training", figures)


def _ways(rows: int, rounds: int) -> dict[str, Callable[[], object]]:
    table = _table(rows)
    contract = infer_contract(table, WORKLOAD, "made up")
    table = check_rows(table, contract).good
    order = np.random.default_rng(1).permutation(rows)
    folds = tuple(
        (np.sort(np.delete(order, part)), np.sort(order[part]))
        for part in np.array_split(np.arange(rows), FOLDS)
    )
    everything = np.arange(rows)
    split = Split(everything, folds, everything[:0], everything, "five folds by chance")
    return {
        "limit": partial(_boost, _binned(table, contract, split), rounds),
        "Twinloop": partial(_twinloop, table, contract, split, rounds),
        "cross_validate": partial(_scikit_learn, table.to_pandas(), rounds),
        "xgb.cv": partial(_xgb_cv, table, contract, split, rounds),
    }


def _table(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, NUMBERS))
    codes = rng.integers(0, LEVELS, (rows, CATEGORIES))
    y = 2 * X[:, 0] + np.sin(3 * X[:, 1]) + X[:, 2] * X[:, 3] + 0.1 * codes[:, 0]
    y += (codes[:, 1] == 3) + rng.normal(size=rows)
    X[rng.random(X.shape) < 0.02] = np.nan
    names = pa.array([f"level {i}" for i in range(LEVELS)])
    columns = {f"x{i}": pa.array(X[:, i], from_pandas=True) for i in range(NUMBERS)}
    columns |= {f"c{i}": names.take(pa.array(codes[:, i])) for i in range(CATEGORIES)}
    return pa.table(columns | {"y": y})


def _params() -> dict[str, Any]:
    problem = Problem("regression", 0, "rmse", 0, 1)
    return boosting_params(problem)


def _binned(table: pa.Table, contract: Any, split: Split) -> list[Any]:
    rows = label_rows(table, contract, learn_target(table, WORKLOAD), WORKLOAD)
    found = []
    for train, _ in split.folds:
        X = rows.matrix.encode(train, rows.matrix.fit(train))
        found.append(xgb.QuantileDMatrix(X, rows.y[train], nthread=1))
    return found


def _boost(folds: list[Any], rounds: int) -> None:
    for fold in folds:
        xgb.train(_params(), fold, rounds)


def _twinloop(table: pa.Table, contract: Any, split: Split, rounds: int) -> None:
    rows = label_rows(table, contract, learn_target(table, WORKLOAD), WORKLOAD, split)
    for train, valid in split.folds:
        validate(rows, "xgboost", train, valid, threads=1, rounds=rounds)


def _scikit_learn(frame_: pd.DataFrame, rounds: int) -> None:
    levels = [f"c{i}" for i in range(CATEGORIES)]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("levels", encoder, levels)], remainder="passthrough")
    names = {"eta": "learning_rate", "seed": "random_state", "nthread": "n_jobs"}
    params = {names.get(name, name): value for name, value in _params().items()}
    model = make_pipeline(columns, xgb.XGBRegressor(n_estimators=rounds, **params))
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    X, y = frame_.drop(columns="y"), frame_["y"]
    cross_validate(model, X, y, cv=folds, scoring="neg_root_mean_squared_error")


def _xgb_cv(table: pa.Table, contract: Any, split: Split, rounds: int) -> None:
    rows = label_rows(table, contract, learn_target(table, WORKLOAD), WORKLOAD)
    X = rows.matrix.encode(split.train, rows.matrix.fit(split.train))
    xgb.cv(_params(), xgb.DMatrix(X, rows.y, nthread=1), rounds, folds=list(split.folds))


if __name__ == "__main__":
    sys.exit(main())
