"""Weights say how much a row counts, and estimators are given them."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV

from twinloop.candidates import Predictor, fit_candidate
from twinloop.encoding import Encoding, Feature
from twinloop.problem import Problem, Rows
from twinloop.vocabulary import AnyCandidate
from twinloop.weighting import row_weights
from twinloop.workload import Workload

DAY = 86_400_000_000
ENCODING = Encoding(features=tuple(Feature(name=n, source=n, how="number") for n in "ab"))
DRAW = np.random.default_rng(5)
# Too few rows to set some aside: early stopping is tested elsewhere.
X = DRAW.normal(size=(120, 2)).astype(np.float32)
Y = X[:, 0] + DRAW.normal(size=120)
WEIGHT = np.where(np.abs(Y) < 0.4, 1.8, 0.2) * np.where(Y > 0, 1.5, 0.5)


def workload(task: str, metric: str, **training: Any) -> Workload:
    """Return a workload with time."""
    return Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "metric": metric,
            "source": {"kind": "files", "path": "x"},
            "target": "y",
            "time": "t",
            "training": training,
        }
    )


def test_a_row_loses_half_its_weight_in_a_half_life() -> None:
    """The formula is ``0.5 ** (age / half_life)``, age from the newest row; the mean is 1."""
    times = np.array([0, 10, 20, 30]) * DAY
    found = row_weights(np.zeros(4), times, 0, workload("regression", "rmse", half_life="10d"))
    assert found is not None
    np.testing.assert_allclose(found / found[-1], [0.125, 0.25, 0.5, 1.0])
    assert found.mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("task", "metric", "setting", "balanced"),
    [
        ("multiclass", "macro_f1", "auto", True),
        ("multiclass", "accuracy", "auto", False),
        ("multiclass", "log_loss", "auto", False),
        ("binary", "macro_f1", "auto", False),
        ("binary", "roc_auc", "auto", False),
        ("binary", "brier", "auto", False),
        ("binary", "log_loss", "balanced", True),
        ("multiclass", "macro_f1", "none", False),
    ],
)
def test_classes_are_balanced_where_the_metric_counts_them_alike(
    task: str, metric: str, setting: str, balanced: bool
) -> None:
    """By themselves for macro F1 of several classes: weights spoil probabilities."""
    y = np.array([0, 0, 0, 1])
    found = row_weights(y, None, 2, workload(task, metric, class_weight=setting))
    if balanced:
        np.testing.assert_allclose(found, [2 / 3, 2 / 3, 2 / 3, 2.0])  # type: ignore[arg-type]
    else:
        assert found is None


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6)), min_size=1, max_size=40),
    st.integers(1, 10**4),
)
def test_weights_are_fair(rows: list[tuple[int, int]], days: int) -> None:
    """Above 0 however old, with mean 1; classes weigh the same; later is never lighter."""
    y, times = np.array([c for c, _ in rows]), np.array([d * DAY for _, d in rows])
    spec = workload("multiclass", "macro_f1", half_life=timedelta(days=days))
    found = row_weights(y, times, 4, spec)
    assert found is not None
    assert (found > 0).all()
    assert found.mean() == pytest.approx(1.0)
    sums = [found[y == c].sum() for c in np.unique(y)]
    np.testing.assert_allclose(sums, sums[0])
    for c in np.unique(y):
        own = y == c
        assert (np.diff(found[own][np.argsort(times[own])]) >= -1e-12).all()


def fit(name: AnyCandidate, weight: np.ndarray | None, classes: bool = False) -> Predictor:
    """Fit a candidate with weights."""
    task, n, metric = ("binary", 2, "log_loss") if classes else ("regression", 0, "rmse")
    problem = Problem(task, n, metric, seed=0, threads=1)  # type: ignore[arg-type]
    y = (Y > 0).astype(int) if classes else Y
    return fit_candidate(name, X, y, ENCODING, problem, Rows(weight=weight))


def test_ridge_is_given_the_weights() -> None:
    """The linear candidate is scikit-learn's own weighted ridge on scaled columns."""
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    manual = RidgeCV(alphas=np.logspace(-2, 4, 13)).fit(scaled, Y, sample_weight=WEIGHT)
    np.testing.assert_allclose(fit("linear", WEIGHT).predict(X), manual.predict(scaled), rtol=1e-4)


def test_logistic_regression_is_given_the_weights() -> None:
    """The linear candidate of classes is scikit-learn's own."""
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    manual = LogisticRegression(max_iter=1000).fit(scaled, Y > 0, sample_weight=WEIGHT)
    found = fit("linear", WEIGHT, classes=True).predict(X)
    np.testing.assert_allclose(found, manual.predict_proba(scaled), rtol=1e-3)


def test_forests_and_boosting_are_given_the_weights() -> None:
    """They predict what scikit-learn's do with the same settings and weights."""
    forest = RandomForestRegressor(
        n_estimators=60, min_samples_leaf=2, max_features=0.5, random_state=0
    ).fit(X, Y, WEIGHT)
    np.testing.assert_allclose(fit("forest", WEIGHT).predict(X), forest.predict(X))
    boosting = HistGradientBoostingRegressor(
        learning_rate=0.1, max_iter=100, early_stopping=False, random_state=0
    ).fit(X, Y, WEIGHT)
    np.testing.assert_allclose(fit("boosting", WEIGHT).predict(X), boosting.predict(X))


def test_xgboost_is_given_the_weights() -> None:
    """It predicts what XGBoost's own training does."""
    params: dict[str, object] = {
        "eta": 0.1,
        "max_depth": 6,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
    }
    params |= {"min_child_weight": 2.0, "tree_method": "hist", "seed": 0, "nthread": 1}
    manual = xgb.train(params, xgb.QuantileDMatrix(X, Y, weight=WEIGHT), 100)
    np.testing.assert_allclose(fit("xgboost", WEIGHT).predict(X), manual.inplace_predict(X))


@pytest.mark.parametrize("name", ["baseline", "seasonal"])
def test_baselines_are_given_the_weights(name: AnyCandidate) -> None:
    """Without a calendar both are the weighted mean."""
    found = fit(name, WEIGHT).predict(X)
    np.testing.assert_allclose(found, np.average(Y, weights=WEIGHT))


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize(
    "name", ["baseline", "seasonal", "linear", "forest", "boosting", "xgboost"]
)
def test_weights_count_by_their_ratio(name: AnyCandidate, classes: bool) -> None:
    """Alike, they are as none at all, but for a forest's other draw of rows; unlike, they show."""
    plain = fit(name, None, classes).predict(X)
    if name != "forest":
        np.testing.assert_allclose(fit(name, np.ones(120), classes).predict(X), plain, rtol=1e-5)
    assert np.abs(fit(name, WEIGHT, classes).predict(X) - plain).max() > 1e-3
