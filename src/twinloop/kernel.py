"""The kernel candidate: a linear model on how near rows are to some of the fitted rows.

Nearness is ``exp(-gamma * squared distance)``; a few hundred rows drawn by chance stand for all
(Nystroem's method: Williams and Seeger 2001, "Using the Nystroem Method to Speed Up Kernel
Machines"). It is smooth where trees are steps, and bends where a linear model cannot: best on small
tables of quantities that say much the same, like pixels, sensors or measures of one body.
"""

from typing import Any

import numpy as np

from twinloop.vocabulary import Task

MOST_LANDMARKS = 400
# Of distances between rows whose columns have a standard deviation of one, for each column.
_GAMMA = 0.25
# Nearness is at most one and hardly varies: it takes large coefficients to say much. On five tables
# of classes 100 was the best of 10, 30, 100 and 300, or within a sixth of the best log loss.
_C = 100.0


def kernel(columns: Any, task: Task, n_features: int, seed: int) -> Any:
    """Return an unfitted pipeline: columns on one scale, nearness, a linear model.

    Parameters
    ----------
    columns
        Transformer that puts quantities on one scale and codes in columns of their own.
    task
        What the linear model is of.
    n_features
        Of the matrix, coded ones once.
    seed
        Of the draw of the rows that stand for all.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline

    near = Nystroem(
        gamma=_GAMMA / max(n_features, 1), n_components=MOST_LANDMARKS, random_state=seed
    )
    if task == "regression":
        # Generalised cross-validation on the rows given: no other row is seen.
        return make_pipeline(columns, near, RidgeCV(alphas=np.logspace(-4, 2, 13)))
    return make_pipeline(columns, near, LogisticRegression(C=_C, max_iter=2000))


def sensitivity(model: Any) -> np.ndarray:
    """Return how steeply a fitted pipeline's answer changes along each transformed column.

    The mean over the landmarks of the absolute derivative, and over classes.

    Returns
    -------
    np.ndarray of float64, shape (n_columns,)
    """
    near, last = model[-2], model[-1]
    landmarks = near.components_
    if hasattr(landmarks, "toarray"):
        landmarks = landmarks.toarray()
    squares = (landmarks**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * landmarks @ landmarks.T
    nearness = np.exp(-near.gamma * distances)
    steep = np.zeros(landmarks.shape[1])
    for weights in np.atleast_2d(last.coef_) @ near.normalization_:
        pull = nearness * weights
        slopes = pull @ landmarks - pull.sum(axis=1)[:, None] * landmarks
        steep += np.abs(2 * near.gamma * slopes).mean(axis=0)
    return steep
