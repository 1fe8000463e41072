"""Calibrating: the folds of a candidate scored by probabilities that mean what they say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.outoffold import SEEN, OutOfFold
from twinloop.evaluation import METRICS
from twinloop.results import FoldScore
from twinloop.tempering import Unseen, powers_of, tempers
from twinloop.validation import shares_of, tempered
from twinloop.workload import Workload


def temper_folds(
    workload: Workload, y: np.ndarray, scores: Sequence[FoldScore], folder: Path
) -> tuple[tuple[FoldScore, ...], float]:
    """Score folds again by calibrated probabilities, where the metric reads probabilities.

    Parameters
    ----------
    workload
        Says by which metric, and whether rows are ordered.
    y : np.ndarray of int64, shape (n_rows,)
        Codes of classes of all rows.
    scores
        Of the folds, by probabilities as the estimator gives them.
    folder
        Holds what the folds' models said of validation rows and of fitted ones; left as it is.

    Returns
    -------
    tuple of (FoldScore, ...) and float
        Each fold with the power that the other folds give it, and the power of all together.
    """
    if not tempers(workload):
        return tuple(scores), 1.0
    unseen = [OutOfFold.load(folder / f"{i}.npz") for i in range(len(scores))]
    powers, power = powers_of(
        [Unseen(f.rows, shares_of(f.predictions), y[f.rows]) for f in unseen],
        ordered=workload.split == "time",
    )
    metric, found = METRICS[workload.metric], []
    for i, (score, fold, own) in enumerate(zip(scores, unseen, powers, strict=True)):
        seen = OutOfFold.load(folder / SEEN / f"{i}.npz")
        found.append(
            score.model_copy(
                update={
                    "train": metric.score(y[seen.rows], tempered(seen.predictions, own)),
                    "valid": metric.score(y[fold.rows], tempered(fold.predictions, own)),
                    "power": own,
                }
            )
        )
    return tuple(found), power
