"""Candidates: the estimators that compete, each fitted on one float32 matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from twinloop.boosting import fit_hist_boosting, fit_xgboost
from twinloop.encoding import Encoding
from twinloop.errors import WorkloadError
from twinloop.kernel import kernel
from twinloop.problem import Make, Problem, Rows
from twinloop.recipe import EXTRA_TREES
from twinloop.vocabulary import SEASONS, AnyCandidate, CandidateName, TunedName

# By what a prediction takes, then by what a fit takes: no work at all, one look into a table, one
# product a row, two thousand products at most, hundreds of shallow trees in one call of compiled
# code, deep trees one by one. A tuned one comes after its kind: it may have more or deeper trees,
# and a search behind it; with several trees a round, or categories as such, XGBoost takes as long
# as `boosting`.
CHEAP_FIRST: tuple[CandidateName | TunedName, ...] = (
    "baseline",
    "seasonal",
    "linear",
    "linear-tuned",
    "kernel",
    "xgboost",
    "boosting",
    "xgboost-tuned",
    "boosting-tuned",
    "forest",
    "forest-tuned",
)
_FOREST_TREES = 60


@dataclass(frozen=True)
class Predictor:
    """A fitted estimator behind one way to ask it.

    Attributes
    ----------
    library
        Whose object `model` is.
    model
        An ``xgboost.Booster``, a fitted scikit-learn estimator, or a `twinloop.blend.Blend` of
        other predictors; of a compiled predictor, which is never saved, also a
        `twinloop.full_trees.FullTrees` or a `twinloop.weight_table.WeightTable`.
    n_classes
        0 for regression.
    """

    library: Literal["xgboost", "sklearn", "ensemble", "table"]
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
        X = _precise(self.model, X)
        if self.n_classes == 0 or self.library in ("ensemble", "table"):
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
        return Predictor("xgboost", fit_xgboost(X, y, encoding, problem, rows), problem.n_classes)
    # A fold may hold one class only: there is nothing to learn then but that class.
    one_class = problem.n_classes > 0 and len(np.unique(y)) < 2
    if one_class:
        name = "baseline"
    if name == "boosting":
        fitted = fit_hist_boosting(X, y, encoding, problem, rows)
    else:
        fitted = _fit(builders[name](encoding, problem), X, y, rows.weight)
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
    X = _precise(estimator, X)
    if weight is None or not has_fit_parameter(last, "sample_weight"):
        return estimator.fit(X, y)
    return estimator.fit(X, y, **{f"{prefix}sample_weight": weight})


def _precise(model: Any, X: np.ndarray) -> np.ndarray:
    """Give a pipeline that puts columns on one scale its rows as float64.

    Of float32 scikit-learn's scaler rounds the mean it takes off, days since 1970 to minutes, large
    values become infinite on their way, and where no column has codes the sum is of 7 digits.
    """
    steps = getattr(model, "steps", None)
    return X.astype(np.float64) if steps and steps[0][0] == "columntransformer" else X


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

    columns = one_scale(encoding)
    if problem.task == "regression":
        # Generalised cross-validation on the rows given: no other row is seen.
        return make_pipeline(columns, RidgeCV(alphas=np.logspace(-2, 4, 13)))
    return make_pipeline(columns, LogisticRegression(**{"max_iter": 1000, **problem.params}))


def _kernel(encoding: Encoding, problem: Problem) -> Any:
    from sklearn.impute import SimpleImputer

    # Its scale is its own. Dense, since it keeps rows: a saved model may name no sparse matrix.
    filled = SimpleImputer(strategy="median", keep_empty_features=True)
    columns = one_scale(encoding).set_params(sparse_threshold=0, quantities=filled)
    quantities = len(encoding.features) - len(encoding.coded)
    return kernel(columns, problem.n_classes > 0, quantities, problem.seed)


def one_scale(encoding: Encoding) -> Any:
    """Return an unfitted transformer: codes in columns of their own, quantities on one scale."""
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
    from sklearn import ensemble

    settings = {
        "n_estimators": _FOREST_TREES,
        "min_samples_leaf": 2,
        "n_jobs": problem.threads,
        "random_state": problem.seed,
        **problem.params,
    }
    numbers, kind = problem.task == "regression", "RandomForest"
    if numbers:
        settings = {"max_features": 0.5, **settings}
    if settings.pop(EXTRA_TREES, 0):
        share = settings.pop("max_samples", 1.0)
        settings |= {"bootstrap": True, "max_samples": share} if share < 1 else {}
        kind = "ExtraTrees"
    make = getattr(ensemble, kind + ("Regressor" if numbers else "Classifier"))
    return make(**settings)


_BUILDERS: dict[str, Make] = {
    "baseline": _baseline,
    "seasonal": _seasonal,
    "linear": _linear,
    "kernel": _kernel,
    "forest": _forest,
}
