"""Binning: the bins that a model's columns are counted by, fixed when it is trained."""

import numpy as np

from twinloop.bins import learn_edges
from twinloop.encoding import Encoding
from twinloop.moments import Grid, learn_grid
from twinloop.profile import PREDICTION, Binning, ColumnProfile, answers_of
from twinloop.scorer import Predictions, Target

# Of so many classes each probability is counted; of more the class alone.
_MOST_CLASSES = 20
_FEW_EDGES = 3


def learn_binning(
    encoding: Encoding, X: np.ndarray, predictions: Predictions, target: Target
) -> Binning:
    """Fix the bins: quantiles for quantities, one bin a level for codes.

    Parameters
    ----------
    encoding
        Tells quantities from codes.
    X : np.ndarray of float32, shape (n_rows, n_features)
        Training rows.
    predictions
        Predictions to take the edges of their bins from.
    target
        Tells how many classes there are.
    """
    columns = [
        _bins(feature.name, X[:, i], feature.n_levels)
        for i, feature in enumerate(encoding.features)
    ]
    # A class is a code; a probability of two is more telling than the class it leads to.
    codes = len(target.classes) if len(target.classes) > 2 else 0
    answers = answers_of(predictions)[: 1 + codes if codes <= _MOST_CLASSES else 1]
    names = [PREDICTION, *(f"probability of {c}" for c in target.classes)]
    for name, said in zip(names, answers, strict=False):
        columns.append(_bins(name, said, codes if name == PREDICTION else 0))
    values = [*X.T, *answers]
    return Binning(
        columns=tuple(columns),
        grids=tuple(_grid(c, v) for c, v in zip(columns, values, strict=True)),
        n_outputs=len(answers),
    )


def _grid(column: ColumnProfile, values: np.ndarray) -> Grid | None:
    # Of a truth, or of one value only, the counts tell all.
    return learn_grid(values[np.isfinite(values)]) if len(column.edges) > _FEW_EDGES else None


def _bins(name: str, values: np.ndarray, n_levels: int) -> ColumnProfile:
    if n_levels:
        return ColumnProfile(name=name, counts=(0,) * n_levels)
    edges = learn_edges(values)
    return ColumnProfile(name=name, edges=edges, counts=(0,) * (len(edges) + 1 if edges else 1))
