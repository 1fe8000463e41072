"""Candidates: the estimators that compete, each fitted on one float32 matrix."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from twinloop.encoding import Encoding
from twinloop.workload import CandidateName, Task

# By what a prediction takes, then by what a fit takes: no work at all, one product a row, a few
# hundred shallow trees in one call of compiled code, deep trees one by one.
CHEAP_FIRST: tuple[CandidateName, ...] = ("baseline", "linear", "xgboost", "forest")

_XGB_ROUNDS = 300
_XGB_OBJECTIVES: dict[Task, str] = {
    "regression": "reg:squarederror",
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
}
_FOREST_TREES = 60


@dataclass(frozen=True)
class Predictor:
    """A fitted estimator behind one way to ask it.

    Attributes
    ----------
    library
        Whose object `model` is.
    model
        An ``xgboost.Booster`` or a fitted scikit-learn estimator.
    n_classes
        0 for regression.
    """

    library: Literal["xgboost", "sklearn"]
    model: Any
    n_classes: int

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict rows.

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)

        Returns
        -------
        np.ndarray of float64
            Shape (n_rows,) for regression, (n_rows, n_classes) of probabilities otherwise.
        """
        if self.library == "xgboost":
            return self._from_booster(X)
        if self.n_classes == 0:
            return np.asarray(self.model.predict(X), np.float64)
        # A fold may lack a class; its probability is then 0.
        full = np.zeros((len(X), self.n_classes))
        full[:, self.model.classes_.astype(int)] = self.model.predict_proba(X)
        return full

    def _from_booster(self, X: np.ndarray) -> np.ndarray:
        raw = np.asarray(self.model.inplace_predict(X), np.float64)
        if self.n_classes == 2:
            return np.column_stack([1.0 - raw, raw])
        return raw


@dataclass(frozen=True)
class Problem:
    """What an estimator must know before it sees rows."""

    task: Task
    n_classes: int
    metric: str
    seed: int
    threads: int


def fit_candidate(
    name: CandidateName, X: np.ndarray, y: np.ndarray, encoding: Encoding, problem: Problem
) -> Predictor:
    """Fit a candidate.

    Parameters
    ----------
    name
        Which.
    X : np.ndarray of float32, shape (n_rows, n_features)
        Encoded training rows.
    y : np.ndarray, shape (n_rows,)
        Targets: numbers, or codes of classes.
    encoding
        Tells codes from quantities.
    problem
        Task, seed and number of threads.
    """
    if name == "xgboost":
        return Predictor("xgboost", _boost(X, y, problem), problem.n_classes)
    # A fold may hold one class only: there is nothing to learn then but that class.
    one_class = problem.n_classes > 0 and len(np.unique(y)) < 2
    fitted = _BUILDERS["baseline" if one_class else name](encoding, problem).fit(X, y)
    if hasattr(fitted, "n_jobs"):
        # Threads add trees up in the order they end, and the last bits of a sum hang on it.
        fitted.set_params(n_jobs=1)
    return Predictor("sklearn", fitted, problem.n_classes)


def _boost(X: np.ndarray, y: np.ndarray, problem: Problem) -> Any:
    import xgboost as xgb

    objective = _XGB_OBJECTIVES[problem.task]
    if problem.metric == "mae":
        objective = "reg:absoluteerror"
    params = {
        "objective": objective,
        "tree_method": "hist",
        "max_depth": 6,
        "eta": 0.05,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "min_child_weight": 2.0,
        "seed": problem.seed,
        "nthread": problem.threads,
    }
    if problem.task == "multiclass":
        params["num_class"] = problem.n_classes
    rounds = _XGB_ROUNDS if problem.n_classes <= 2 else _XGB_ROUNDS // 3
    return xgb.train(params, xgb.QuantileDMatrix(X, y, nthread=problem.threads), rounds)


def _baseline(_: Encoding, problem: Problem) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if problem.task == "regression":
        return DummyRegressor(strategy="median" if problem.metric == "mae" else "mean")
    return DummyClassifier(strategy="prior")


def _linear(encoding: Encoding, problem: Problem) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    coded = list(encoding.coded)
    plain = [i for i in range(len(encoding.features)) if i not in encoding.coded]
    columns = ColumnTransformer(
        [
            ("levels", OneHotEncoder(handle_unknown="ignore"), coded),
            (
                "quantities",
                make_pipeline(
                    SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
                ),
                plain,
            ),
        ]
    )
    if problem.task == "regression":
        # Generalised cross-validation on the rows given: no other row is seen.
        return make_pipeline(columns, RidgeCV(alphas=np.logspace(-2, 4, 13)))
    return make_pipeline(columns, LogisticRegression(C=0.3, max_iter=1000))


def _forest(_: Encoding, problem: Problem) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    settings = {
        "n_estimators": _FOREST_TREES,
        "min_samples_leaf": 2,
        "n_jobs": problem.threads,
        "random_state": problem.seed,
    }
    if problem.task == "regression":
        return RandomForestRegressor(max_features=0.5, **settings)
    return RandomForestClassifier(**settings)


_BUILDERS: dict[str, Callable[[Encoding, Problem], Any]] = {
    "baseline": _baseline,
    "linear": _linear,
    "forest": _forest,
}


def importance(predictor: Predictor, n_features: int) -> np.ndarray:
    """Return the share of each feature in what the estimator uses.

    Gain for boosted trees, impurity for forests, absolute standardised coefficients for linear
    models, nothing for a baseline.

    Returns
    -------
    np.ndarray of float64, shape (n_features,)
        Sums to 1, or all zeros.
    """
    if predictor.library == "xgboost":
        gains = predictor.model.get_score(importance_type="total_gain")
        weights = np.array([gains.get(f"f{i}", 0.0) for i in range(n_features)])
    elif hasattr(predictor.model, "feature_importances_"):
        weights = np.asarray(predictor.model.feature_importances_, np.float64)
    elif hasattr(predictor.model, "named_steps"):
        weights = _linear_importance(predictor.model, n_features)
    else:
        weights = np.zeros(n_features)
    total = weights.sum()
    return weights / total if total > 0 else weights


def _linear_importance(model: Any, n_features: int) -> np.ndarray:
    columns, last = model[0], model[-1]
    coefficients = np.abs(np.atleast_2d(last.coef_)).mean(axis=0)
    weights = np.zeros(n_features)
    at = 0
    (_, encoder, coded), (_, _, plain) = columns.transformers_[:2]
    for i, levels in zip(coded, getattr(encoder, "categories_", ()), strict=True):
        # The spread of the levels' coefficients, on the scale of one standard deviation.
        weights[i] = coefficients[at : at + len(levels)].mean()
        at += len(levels)
    for i in plain:
        weights[i] = coefficients[at]
        at += 1
    return weights
