"""Compiled: a fitted model in the form that answers batch after batch for the least work."""

from dataclasses import replace
from typing import Any

import numpy as np

from twinloop.candidates import Predictor
from twinloop.encoding import Encoding
from twinloop.full_trees import full_trees
from twinloop.scorer import Scorer
from twinloop.weight_table import weight_table


def compiled(scorer: Scorer) -> Scorer:
    """Return a scorer that says the same for less work, from any number of threads at once.

    It is for predicting and explaining; what is saved, and asked for its importance, is the plain
    one. `twinloop.agreement.refuse_disagreement` holds one to the other.

    Returns
    -------
    Scorer
        The same object where nothing could be gained.
    """
    fast = compile_predictor(scorer.predictor, scorer.encoding)
    return scorer if fast is scorer.predictor else replace(scorer, predictor=fast)


def compile_predictor(predictor: Predictor, encoding: Encoding) -> Predictor:
    """Return a predictor that says the same for less work.

    Parameters
    ----------
    predictor
        XGBoost: a copy that keeps to the thread it is called on and, unless it divides categories,
        meets no missing value. Linear: a table of weights. Blend: of compiled members. Anything
        else, a baseline, trees of scikit-learn, a kernel or the user's own, is returned as it is.
    encoding
        What the predictor was fitted on.

    Notes
    -----
    A row's answer by XGBoost or a table has the same bits alone and in any batch. XGBoost predicts
    in place without a lock; the first call after a setting was changed would not be safe, so it is
    made here.
    """
    if predictor.library == "xgboost":
        alone = _on_one_thread(predictor.model)
        return replace(predictor, model=full_trees(alone) or alone)
    if predictor.library == "ensemble":
        blend = predictor.model
        members = tuple(compile_predictor(m, encoding) for m in blend.members)
        if all(fast is m for fast, m in zip(members, blend.members, strict=True)):
            return predictor
        return replace(predictor, model=replace(blend, members=members))
    table = weight_table(predictor, encoding)
    return predictor if table is None else Predictor("table", table, predictor.n_classes)


def _on_one_thread(booster: Any) -> Any:
    alone = booster.copy()
    alone.set_param({"nthread": 1})
    # Settings are read at the first call.
    alone.inplace_predict(np.full((1, alone.num_features()), np.nan, np.float32))
    return alone
