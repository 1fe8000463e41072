"""Candidates: the estimators that compete, each fitted on one float32 matrix."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from twinloop.edges import bin_edges
from twinloop.encoding import Encoding
from twinloop.errors import WorkloadError
from twinloop.kernel import MOST_LANDMARKS, kernel, sensitivity
from twinloop.stopping import stopping_rows
from twinloop.workload import SEASONS, AnyCandidate, CandidateName, Task

# Boosting stops where later rows say so. At half this rate it took twice the time, and was 1 to 3 %
# better on three tables, worse on two.
_RATE = 0.1
_MOST_ROUNDS = 500
_PATIENCE = 25
# Where rows are too few to set some aside.
_FEW_ROUNDS = 100
EDGE_ROWS = 20_000
# scikit-learn bins a category's codes, and has 255 bins.
_MOST_CODES = 255
# By what a prediction takes, then by what a fit takes: no work at all, one look into a table, one
# product a row, a few hundred products, as many shallow trees in one call of compiled code, deep
# trees one by one.
CHEAP_FIRST: tuple[CandidateName, ...] = (
    "baseline",
    "seasonal",
    "linear",
    "kernel",
    "xgboost",
    "boosting",
    "forest",
)
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
    """What an estimator must know before it sees rows.

    Attributes
    ----------
    edges : np.ndarray of float32, shape (n, n_features), or None
        Values that XGBoost's trees may split at, column by column (see `twinloop.edges`); None:
        they come from the rows fitted.
    rounds
        How many trees XGBoost grows; None: as many as do good.
    """

    task: Task
    n_classes: int
    metric: str
    seed: int
    threads: int
    edges: np.ndarray | None = None
    rounds: int | None = None


@dataclass(frozen=True)
class Rows:
    """What is known of fitted rows besides features and target; each may be None.

    Attributes
    ----------
    weight : np.ndarray of float64, shape (n_rows,)
        How much each counts.
    times : np.ndarray of int64, shape (n_rows,)
        Microseconds since 1970.
    groups : np.ndarray of int64, shape (n_rows,)
        Codes of groups.
    """

    weight: np.ndarray | None = None
    times: np.ndarray | None = None
    groups: np.ndarray | None = None

    def weight_of(self, places: np.ndarray) -> np.ndarray | None:
        """Return the weights of some rows, if there are any."""
        return None if self.weight is None else self.weight[places]


# Makes an unfitted estimator of the user's own.
Make = Callable[[Encoding, Problem], Any]


def fit_candidate(
    name: AnyCandidate,
    X: np.ndarray,
    y: np.ndarray,
    encoding: Encoding,
    problem: Problem,
    rows: Rows | None = None,
    own: Mapping[str, Make] | None = None,
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
    rows
        Weights, times and groups of the rows.
    own
        The user's own estimators, by name.

    Raises
    ------
    WorkloadError
        If an estimator of the user's own answers otherwise than asked for.
    """
    rows, builders = rows or Rows(), {**_BUILDERS, **(own or {})}
    if name == "xgboost":
        return Predictor("xgboost", _boost(X, y, problem, rows), problem.n_classes)
    # A fold may hold one class only: there is nothing to learn then but that class.
    one_class = problem.n_classes > 0 and len(np.unique(y)) < 2
    if one_class:
        name = "baseline"
    if name == "boosting":
        fitted = _fit_boosting(X, y, encoding, problem, rows)
    else:
        estimator = builders[name](encoding, problem)
        if name == "kernel":
            estimator.set_params(nystroem__n_components=min(MOST_LANDMARKS, len(X)))
        fitted = _fit(estimator, X, y, rows.weight)
    if hasattr(fitted, "n_jobs"):
        # Threads add trees up in the order they end, and the last bits of a sum hang on it.
        fitted.set_params(n_jobs=1)
    predictor = Predictor("sklearn", fitted, problem.n_classes)
    if own and name in own:
        _refuse_odd(name, predictor, X[:3])
    return predictor


def _fit(estimator: Any, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> Any:
    """Fit an estimator, with weights where it, or the last step of a pipeline, takes them."""
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import has_fit_parameter

    last, prefix = estimator, ""
    if isinstance(estimator, Pipeline):
        step, last = estimator.steps[-1]
        prefix = f"{step}__"
    if weight is None or not has_fit_parameter(last, "sample_weight"):
        return estimator.fit(X, y)
    return estimator.fit(X, y, **{f"{prefix}sample_weight": weight})


def _refuse_odd(name: str, predictor: Predictor, X: np.ndarray) -> None:
    """Refuse answers that would be broadcast over all rows, or that are no numbers."""
    model = predictor.model
    if predictor.n_classes and not hasattr(model, "classes_"):
        raise WorkloadError(
            f"candidate {name!r} has no classes_ after its fit: the classes it saw."
        )
    answers = np.asarray(model.predict_proba(X) if predictor.n_classes else model.predict(X))
    wanted = (len(X), len(model.classes_)) if predictor.n_classes else (len(X),)
    if answers.shape != wanted or not np.isfinite(answers.astype(np.float64)).all():
        raise WorkloadError(
            f"candidate {name!r} answers {len(X)} rows with {answers.tolist()!r:.80}; expected "
            f"finite numbers of shape {wanted}."
        )


def _boost(X: np.ndarray, y: np.ndarray, problem: Problem, rows: Rows) -> Any:
    """Fit boosted trees, as many as do good on later rows.

    Codes go in as the numbers they are. As categories (`enable_categorical`) they made bikes' error
    3 % lower to 2 % higher, the fit 1.6 times as dear and a prediction twice; `boosting` takes them
    as categories, and gains by it.
    """
    import xgboost as xgb

    params, edges = boosting_params(problem), _edges(X, problem)
    rounds = problem.rounds or _FEW_ROUNDS
    parts = None if problem.rounds else _parts(y, problem, rows)
    if parts is not None:
        learn, stop = parts
        fitted = _bins(X[learn], y[learn], rows.weight_of(learn), problem, edges)
        held = _bins(X[stop], y[stop], rows.weight_of(stop), problem, fitted)
        trial = xgb.train(
            params,
            fitted,
            _MOST_ROUNDS,
            evals=[(held, "stop")],
            early_stopping_rounds=_PATIENCE,
            verbose_eval=False,
        )
        rounds = trial.best_iteration + 1
    # Once more with the rows that stopped it: without the newest ones the real bikes' error was
    # 12 % higher.
    return xgb.train(params, _bins(X, y, rows.weight, problem, edges), rounds)


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
    return params


def _edges(X: np.ndarray, problem: Problem) -> Any:
    """Find bin edges as quantiles of not too many rows; None where all of them will do.

    Quantiles of more rows are hardly better, and finding them costs as much as half of the trees.
    """
    if problem.edges is not None:
        return _bins(problem.edges, None, None, problem, None)
    if len(X) <= EDGE_ROWS:
        return None
    return _bins(bin_edges(X[evenly(len(X), EDGE_ROWS)]), None, None, problem, None)


def _bins(
    X: np.ndarray,
    y: np.ndarray | None,
    weight: np.ndarray | None,
    problem: Problem,
    edges: Any,
) -> Any:
    """Put rows into bins."""
    import pandas as pd
    import xgboost as xgb

    # XGBoost reads a frame, column by column, in two thirds of the time an array takes it.
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])], copy=False)
    return xgb.QuantileDMatrix(frame, y, weight=weight, ref=edges, nthread=problem.threads)


def evenly(n_rows: int, n: int) -> np.ndarray:
    """Choose rows spread evenly: at most `n` row numbers out of `n_rows`, increasing."""
    return np.linspace(0, n_rows - 1, min(n, n_rows)).astype(np.int64)


def _parts(y: np.ndarray, problem: Problem, rows: Rows) -> tuple[np.ndarray, np.ndarray] | None:
    return stopping_rows(
        y,
        times=rows.times,
        groups=rows.groups,
        classes=problem.n_classes > 0,
        seed=problem.seed,
    )


def _fit_boosting(
    X: np.ndarray, y: np.ndarray, encoding: Encoding, problem: Problem, rows: Rows
) -> Any:
    from threadpoolctl import threadpool_limits

    rounds = _FEW_ROUNDS
    with threadpool_limits(problem.threads, "openmp"):
        parts = _parts(y, problem, rows)
        if parts is not None:
            learn, stop = parts
            trial = _boosting(encoding, problem, _MOST_ROUNDS, stops=True).fit(
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
    }
    if problem.task == "regression":
        loss = "absolute_error" if problem.metric == "mae" else "squared_error"
        return HistGradientBoostingRegressor(loss=loss, **settings)
    return HistGradientBoostingClassifier(**settings)


def _baseline(_: Encoding, problem: Problem) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if problem.task == "regression":
        return DummyRegressor(strategy="median" if problem.metric == "mae" else "mean")
    return DummyClassifier(strategy="prior")


def _seasonal(encoding: Encoding, problem: Problem) -> Any:
    from twinloop.seasonal import SeasonalNaive

    parts = [(i, f.n_levels) for i, f in enumerate(encoding.features) if f.how in SEASONS]
    statistic = "shares" if problem.n_classes else "median" if problem.metric == "mae" else "mean"
    return SeasonalNaive(tuple(i for i, _ in parts), tuple(n for _, n in parts), statistic)


def _linear(encoding: Encoding, problem: Problem) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline

    columns = _one_scale(encoding)
    if problem.task == "regression":
        # Generalised cross-validation on the rows given: no other row is seen.
        return make_pipeline(columns, RidgeCV(alphas=np.logspace(-2, 4, 13)))
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


def _kernel(encoding: Encoding, problem: Problem) -> Any:
    return kernel(_one_scale(encoding), problem.task, len(encoding.features), problem.seed)


def _one_scale(encoding: Encoding) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    coded = list(encoding.coded)
    plain = [i for i in range(len(encoding.features)) if i not in encoding.coded]
    return ColumnTransformer(
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


_BUILDERS: dict[str, Make] = {
    "baseline": _baseline,
    "seasonal": _seasonal,
    "linear": _linear,
    "kernel": _kernel,
    "forest": _forest,
}


_LINEAR_STEPS = (
    ["columntransformer", "ridgecv"],
    ["columntransformer", "logisticregression"],
)
_KERNEL_STEPS = (
    ["columntransformer", "nystroem", "ridgecv"],
    ["columntransformer", "nystroem", "logisticregression"],
)


def importance(predictor: Predictor, n_features: int) -> np.ndarray:
    """Return the share of each feature in what the estimator uses.

    Gain for boosted trees, impurity for forests, absolute standardised coefficients for linear
    models, the mean slope for kernel models, what an estimator of the user's own says; nothing for
    a baseline.

    Returns
    -------
    np.ndarray of float64, shape (n_features,)
        Sums to 1, or all zeros.
    """
    model = predictor.model
    if predictor.library == "xgboost":
        gains = model.get_score(importance_type="total_gain")
        weights = np.array([gains.get(f"f{i}", 0.0) for i in range(n_features)])
    elif hasattr(model, "_predictors"):
        weights = _boosting_importance(model, n_features)
    elif [name for name, _ in getattr(model, "steps", [])] in _LINEAR_STEPS:
        coefficients = np.abs(np.atleast_2d(model[-1].coef_)).mean(axis=0)
        weights = _by_feature(model[0], coefficients, n_features)
    elif [name for name, _ in getattr(model, "steps", [])] in _KERNEL_STEPS:
        weights = _by_feature(model[0], sensitivity(model), n_features)
    else:
        weights = np.ravel(getattr(model, "feature_importances_", np.zeros(n_features)))
    weights = np.asarray(weights, np.float64)
    total = weights.sum()
    if len(weights) != n_features or not total > 0:
        return np.zeros(n_features)
    return weights / total


def _boosting_importance(model: Any, n_features: int) -> np.ndarray:
    """Add up the gain of all splits; scikit-learn keeps it in the trees and shows it nowhere."""
    nodes = np.concatenate([tree.nodes for trees in model._predictors for tree in trees])
    splits = nodes[nodes["is_leaf"] == 0]
    gains = np.bincount(splits["feature_idx"], splits["gain"], minlength=n_features)
    if model.is_categorical_ is None:
        return gains
    # Within, categories come first.
    order = np.argsort(~model.is_categorical_, kind="stable")
    weights = np.zeros(n_features)
    weights[order] = gains
    return weights


def _by_feature(columns: Any, coefficients: np.ndarray, n_features: int) -> np.ndarray:
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
