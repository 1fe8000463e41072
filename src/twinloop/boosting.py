"""Boosting: trees grown by XGBoost and by scikit-learn, until more do no good."""

import math
from typing import Any

import numpy as np

from twinloop.edges import bin_edges, with_levels
from twinloop.encoding import Encoding
from twinloop.problem import Problem, Rows
from twinloop.recipe import NATIVE_CATEGORIES
from twinloop.row_order import evenly, order_rows
from twinloop.stopping import stopping_rows
from twinloop.vocabulary import Task

# Boosting stops where later rows say so. At half this rate it took twice the time, and was 1 to 3 %
# better on three tables, worse on two.
_RATE = 0.1
_MOST_ROUNDS = 500
_PATIENCE = 25
# Where rows are too few to set some aside.
_FEW_ROUNDS = 100
EDGE_ROWS = 20_000
# XGBoost reads a frame, column by column, in two thirds of the time it takes an array; but it looks
# at every column of a frame first, which takes 2 ms, as long as reading so many cells.
_FEW_CELLS = 100_000
# scikit-learn bins a category's codes, and has 255 bins.
_MOST_CODES = 255
_XGB_OBJECTIVES: dict[Task, str] = {
    "regression": "reg:squarederror",
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
}


def fit_xgboost(
    X: np.ndarray, y: np.ndarray, encoding: Encoding, problem: Problem, rows: Rows
) -> Any:
    """Fit boosted trees, as many as do good on later rows.

    Categories go in as the codes they are, unless the settings say otherwise: as categories they
    take longer and are not always better, so that is for tuning to find out.
    """
    import xgboost as xgb

    X, y, rows = _in_order(X, y, rows)
    params, types = boosting_params(problem), feature_types(encoding, problem)
    edges = _edges(X, encoding, problem)
    most = _most_rounds(params["eta"])
    rounds = problem.rounds or _FEW_ROUNDS
    parts = None if problem.rounds else _parts(y, problem, rows)
    if parts is not None:
        learn, stop = parts
        fitted = _bins(X[learn], y[learn], rows.weight_of(learn), problem, edges, types)
        held = _bins(X[stop], y[stop], rows.weight_of(stop), problem, fitted, types)
        trial = xgb.train(
            params,
            fitted,
            most,
            evals=[(held, "stop")],
            early_stopping_rounds=_PATIENCE,
            verbose_eval=False,
        )
        rounds = trial.best_iteration + 1
    # Once more with the rows that stopped it: without the newest ones the real bikes' error was
    # 12 % higher.
    return xgb.train(params, _bins(X, y, rows.weight, problem, edges, types), rounds)


def boosting_params(problem: Problem) -> dict[str, Any]:
    """Return the parameters of XGBoost's trees, by its own names."""
    objective = _XGB_OBJECTIVES[problem.task]
    if problem.metric == "mae":
        objective = "reg:absoluteerror"
    params = {
        "objective": objective,
        "tree_method": "hist",
        "max_depth": 6,
        "eta": _RATE,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "min_child_weight": 2.0,
        "seed": problem.seed,
        "nthread": problem.threads,
    }
    if problem.task == "multiclass":
        params["num_class"] = problem.n_classes
    params |= problem.params
    # Not the trees' but the rows'.
    params.pop(NATIVE_CATEGORIES, None)
    return params


def feature_types(encoding: Encoding, problem: Problem) -> list[str] | None:
    """Return what XGBoost takes each column for: ``c``, a category, or ``q``, a quantity.

    None where all are numbers, categories by the place their level has. Hours and weekdays always
    are: they have an order.
    """
    if not problem.params.get(NATIVE_CATEGORIES):
        return None
    return ["c" if f.how == "category" else "q" for f in encoding.features]


def _most_rounds(rate: float) -> int:
    """Return how many trees there may be: smaller steps take more of them to the same place."""
    return max(_MOST_ROUNDS, math.ceil(_MOST_ROUNDS * _RATE / rate))


def _in_order(X: np.ndarray, y: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray, Rows]:
    """Return rows as trees divide them, where they are grown faster that way."""
    order = order_rows(X, y)
    return (X, y, rows) if order is None else (X[order], y[order], rows.take(order))


def _edges(X: np.ndarray, encoding: Encoding, problem: Problem) -> Any:
    """Find bin edges as quantiles of not too many rows; None where all of them will do.

    Quantiles of more rows are hardly better, and finding them costs as much as half of the trees.
    """
    edges, types = problem.edges, feature_types(encoding, problem)
    if edges is None:
        if types is None and len(X) <= EDGE_ROWS:
            return None
        edges = bin_edges(X[evenly(len(X), EDGE_ROWS)])
    if types is not None:
        # All codes: rows that stop the boosting may have one that those learned from lack.
        levels = {i: f.n_levels for i, f in enumerate(encoding.features) if types[i] == "c"}
        edges = with_levels(edges, levels)
    return _bins(edges, None, None, problem, types=types)


def _bins(
    X: np.ndarray,
    y: np.ndarray | None,
    weight: np.ndarray | None,
    problem: Problem,
    edges: Any = None,
    types: list[str] | None = None,
) -> Any:
    """Put rows into bins."""
    import pandas as pd
    import xgboost as xgb

    # As it keeps them: it is slow at casting.
    y, weight = (None if v is None else v.astype(np.float32) for v in (y, weight))
    rows: Any = X
    if X.size > _FEW_CELLS:
        rows = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])], copy=False)
    bins = xgb.QuantileDMatrix(
        rows,
        y,
        weight=weight,
        ref=edges,
        nthread=problem.threads,
        feature_types=types,
        enable_categorical=types is not None,
    )
    # With names it compares them with the model's, one by one, before every tree.
    bins.feature_names = None
    bins.feature_types = types
    return bins


def _parts(y: np.ndarray, problem: Problem, rows: Rows) -> tuple[np.ndarray, np.ndarray] | None:
    return stopping_rows(
        y,
        times=rows.times,
        groups=rows.groups,
        gap=problem.gap,
        classes=problem.n_classes > 0,
        seed=problem.seed,
    )


def fit_hist_boosting(
    X: np.ndarray, y: np.ndarray, encoding: Encoding, problem: Problem, rows: Rows
) -> Any:
    """Fit scikit-learn's histogram boosting, categories as such, as many trees as do good."""
    from threadpoolctl import threadpool_limits

    X, y, rows = _in_order(X, y, rows)
    rounds = problem.rounds or _FEW_ROUNDS
    with threadpool_limits(problem.threads, "openmp"):
        parts = None if problem.rounds else _parts(y, problem, rows)
        if parts is not None:
            learn, stop = parts
            most = _most_rounds(problem.params.get("learning_rate", _RATE))
            trial = _boosting(encoding, problem, most, stops=True).fit(
                _without_empty(X[learn]),
                y[learn],
                rows.weight_of(learn),
                X_val=X[stop],
                y_val=y[stop],
                sample_weight_val=rows.weight_of(stop),
            )
            # The first is of no tree at all.
            rounds = max(int(np.argmax(trial.validation_score_)), 1)
        return _boosting(encoding, problem, rounds).fit(_without_empty(X), y, rows.weight)


def _without_empty(X: np.ndarray) -> np.ndarray:
    """Fill columns of nothing but NaN, where scikit-learn's binning fails; no tree splits there."""
    empty = np.isnan(X).all(axis=0)
    return np.where(empty, np.float32(0), X) if empty.any() else X


def _boosting(encoding: Encoding, problem: Problem, rounds: int, *, stops: bool = False) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    coded = [0 < f.n_levels < _MOST_CODES for f in encoding.features]
    settings = {
        "learning_rate": _RATE,
        "max_iter": rounds,
        "early_stopping": stops,
        "n_iter_no_change": _PATIENCE,
        "categorical_features": coded if any(coded) else None,
        "random_state": problem.seed,
        **problem.params,
    }
    if problem.task == "regression":
        loss = "absolute_error" if problem.metric == "mae" else "squared_error"
        return HistGradientBoostingRegressor(loss=loss, **settings)
    return HistGradientBoostingClassifier(**settings)
