"""Importance: which features a fitted estimator leans on."""

from typing import Any

import numpy as np

from twinloop.candidates import Predictor
from twinloop.kernel import sensitivity

_LINEAR_STEPS = (
    ["columntransformer", "ridgecv"],
    ["columntransformer", "logisticregression"],
)
_KERNEL_STEPS = ["columntransformer", "kernelmachine"]


def importance(predictor: Predictor, n_features: int) -> np.ndarray:
    """Return the share of each feature in what the estimator uses.

    Gain for boosted trees, impurity for forests, absolute standardised coefficients for linear
    models, the mean slope for kernel models, what an estimator of the user's own says; nothing for
    a baseline. For an ensemble the members' shares, by their weights.

    Returns
    -------
    np.ndarray of float64, shape (n_features,)
        Sums to 1, or all zeros.
    """
    model = predictor.model
    if predictor.library == "xgboost":
        gains = model.get_score(importance_type="total_gain")
        weights = np.array([gains.get(f"f{i}", 0.0) for i in range(n_features)])
    elif predictor.library == "ensemble":
        weights = model.importance(lambda member: importance(member, n_features))
    elif hasattr(model, "_predictors"):
        weights = _boosting_importance(model, n_features)
    elif [name for name, _ in getattr(model, "steps", [])] in _LINEAR_STEPS:
        coefficients = np.abs(np.atleast_2d(model[-1].coef_)).mean(axis=0)
        weights = _by_feature(model[0], coefficients, n_features)
    elif [name for name, _ in getattr(model, "steps", [])] == _KERNEL_STEPS:
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
