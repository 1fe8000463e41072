"""Explaining: which features made a row's answer what it is."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import logit

from twinloop.candidates import Predictor
from twinloop.full_trees import FullTrees
from twinloop.profile import Reference
from twinloop.scorer import Scorer
from twinloop.weight_table import Coded, WeightTable, weight_table

# Log-odds of 0 and 1 are infinite; probabilities are held this far from them.
_EDGE = 1e-6


@dataclass(frozen=True)
class Typical:
    """What the rows a model was fitted on are like.

    Attributes
    ----------
    values : np.ndarray of float32, shape (n_features,)
        The median of quantities, the most frequent code of codes; NaN where no row has a value.
    shares : tuple of np.ndarray of float64
        One for each feature. Of codes the share of rows that have each, of missing ones last; empty
        for quantities.
    """

    values: np.ndarray
    shares: tuple[np.ndarray, ...]


def typical_values(reference: Reference) -> Typical:
    """Return what the rows a model was fitted on are like, from the profile it comes with.

    A median is the edge of a bin next to it, which in most cases it is itself.
    """
    values: list[float] = []
    shares = []
    # The features come first, then what is predicted.
    for binned, counted in zip(reference.binning.features, reference.whole.columns, strict=False):
        counts = np.array(counted.counts, np.float64)
        if not counts.any():
            values.append(np.nan)
        else:
            # Codes have no edges.
            code = float(counts.argmax())
            values.append(_median(counts, binned.edges) if binned.edges else code)
        rows = counted.shares()
        shares.append(np.empty(0) if binned.edges else rows / max(rows.sum(), 1.0))
    return Typical(np.array(values, np.float32), tuple(shares))


def _median(counts: np.ndarray, edges: tuple[float, ...]) -> float:
    # The first bin that takes more than half of the rows; it begins with the edge before it.
    place = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2, side="right"))
    return edges[max(place - 1, 0)]


def explain(scorer: Scorer, X: np.ndarray, top: int, typical: Typical) -> dict[str, pa.Array]:
    """Return for each row the features with the largest contributions to its answer.

    A contribution is on the scale that the model learns: of a number that number, or its logarithm
    where that is learned; of two classes the log-odds of the second; of more the score of the class
    predicted, which is its log-odds but for a term that all classes share. Calibration and
    threshold come after all that, and have no part in it.

    How it is found:

    - XGBoost: Shapley values of its trees, exactly (Lundberg et al. 2020, "From local explanations
      to global understanding with explainable AI for trees", algorithm 2, as XGBoost computes it).
      With the mean answer they add up to the row's.
    - Linear: weight times distance from the mean of the fitted rows, the exact Shapley values of a
      linear model where features do not depend on each other (Lundberg and Lee 2017, "A unified
      approach to interpreting model predictions", corollary 1). With the mean answer they add up to
      the row's. A feature of codes counts as one, whose mean is that over its levels.
    - Any other, ensembles too: an approximation, how far the answer goes when this one feature gets
      its typical value. These do not add up where features act together. Of more than two classes
      the answer is the log-odds of the class predicted. It takes one prediction for each feature.

    Parameters
    ----------
    scorer
        Compiled or plain.
    X : np.ndarray of float32, shape (n_rows, n_features)
        Encoded rows.
    top
        How many features to name, at least 1; all if there are fewer.
    typical
        See `typical_values`.

    Returns
    -------
    dict of str to pa.Array
        ``feature_1`` (dictionary of `Feature.name`), ``contribution_1`` (float64), ``feature_2``
        and so on, by absolute contribution, the largest first; of equals the feature that comes
        first in the matrix.
    """
    found = contributions(scorer, X, typical)
    order = np.argsort(-np.abs(found), axis=1, kind="stable")[:, :top]
    return _columns(scorer, order, np.take_along_axis(found, order, axis=1))


def no_explanation(scorer: Scorer, top: int) -> dict[str, pa.Array]:
    """Return what `explain` gives of no rows: names and types of its columns."""
    size = (0, min(top, len(scorer.encoding.features)))
    return _columns(scorer, np.empty(size, np.int64), np.empty(size))


def _columns(scorer: Scorer, order: np.ndarray, found: np.ndarray) -> dict[str, pa.Array]:
    names = pa.array(scorer.encoding.names, pa.string())
    columns = {}
    for i in range(order.shape[1]):
        codes = pa.array(order[:, i], pa.int32())
        columns[f"feature_{i + 1}"] = pa.DictionaryArray.from_arrays(codes, names)
        columns[f"contribution_{i + 1}"] = pa.array(found[:, i], pa.float64())
    return columns


def contributions(scorer: Scorer, X: np.ndarray, typical: Typical) -> np.ndarray:
    """Return what each feature contributes to each row's answer: see `explain`.

    Returns
    -------
    np.ndarray of float64, shape (n_rows, n_features)
    """
    if len(X) == 0:
        return np.zeros(X.shape)
    predictor = scorer.predictor
    several = predictor.n_classes > 2
    classes = scorer.predict_matrix(X).value if several else np.zeros(len(X), np.int64)
    if predictor.library == "xgboost":
        return _of_trees(predictor, X, classes)
    table = (
        predictor.model
        if predictor.library == "table"
        else weight_table(predictor, scorer.encoding)
    )
    if table is not None:
        return _of_weights(table, X, classes, typical)
    return _of_changes(predictor, X, classes, typical)


def _of_trees(predictor: Predictor, X: np.ndarray, classes: np.ndarray) -> np.ndarray:
    import xgboost as xgb

    rows = xgb.DMatrix(X, nthread=1)
    model = predictor.model
    booster = model.plain if isinstance(model, FullTrees) else model
    found = booster.predict(rows, pred_contribs=True, validate_features=False)
    if found.ndim == 3:
        found = found[np.arange(len(X)), classes]
    # The last is the mean answer.
    return found[:, :-1].astype(np.float64)


def _of_weights(
    table: WeightTable, X: np.ndarray, classes: np.ndarray, typical: Typical
) -> np.ndarray:
    output, sign = classes, np.ones(len(X))
    if len(table.intercept) == 1:
        # One output speaks for the second of two classes; there may be more that it never saw.
        output = np.zeros(len(X), np.int64)
        if table.n_classes > 2:
            sign[classes != table.classes[1]] = -1.0
    elif table.classes:
        output = np.searchsorted(table.classes, classes)
    found = np.zeros(X.shape)
    for column in table.columns:
        i = column.column
        found[:, i] = sign * (
            column.parts(X, output, typical.shares[i])
            if isinstance(column, Coded)
            else column.parts(X, output)
        )
    return found


def _of_changes(
    predictor: Predictor, X: np.ndarray, classes: np.ndarray, typical: Typical
) -> np.ndarray:
    answers = _answers(predictor, X, classes)
    found = np.zeros(X.shape)
    for i, usual in enumerate(typical.values):
        # Rows that have the typical value already need no asking; two missing values are equal.
        other = np.flatnonzero((X[:, i] != usual) & ~(np.isnan(X[:, i]) & np.isnan(usual)))
        if len(other):
            changed = X[other]
            changed[:, i] = usual
            found[other, i] = answers[other] - _answers(predictor, changed, classes[other])
    return found


def _answers(predictor: Predictor, X: np.ndarray, classes: np.ndarray) -> np.ndarray:
    said = predictor.predict(X)
    if predictor.n_classes == 0:
        return said
    of = np.ones(len(X), np.int64) if predictor.n_classes == 2 else classes
    return logit(np.clip(said[np.arange(len(X)), of], _EDGE, 1 - _EDGE))
