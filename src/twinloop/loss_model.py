"""Loss model: how large a row's loss is to be expected, from what is known before its label comes.

Direct loss estimation: a second model learns the losses of the first on rows that the first was not
fitted on (NannyML, "How it works: Direct Loss Estimation"; Yoo and Kweon 2019, "Learning Loss for
Active Learning", section 3). Here it is a handful of shallow trees, kept as plain numbers.
"""

import json
from itertools import pairwise
from typing import Any, Self

import numpy as np

from twinloop.vocabulary import Frozen

_DEPTH = 3
_ROUNDS = 20
_RATE = 0.3
_MOST_ROWS = 20_000
_LEAST_ROWS = 60
_TINY = 1e-12
# Of the mean loss: no row is expected to lose more or less than this.
_REACH = (1e-3, 1e3)


class LossTree(Frozen):
    """A full tree of depth three: seven questions, eight answers.

    Attributes
    ----------
    features, thresholds, missing_left
        By question, level by level: a row goes left where its feature is below the threshold.
    leaves
        Logarithms, from the leftmost leaf to the rightmost.
    """

    features: tuple[int, ...]
    thresholds: tuple[float, ...]
    missing_left: tuple[bool, ...]
    leaves: tuple[float, ...]


class LossModel(Frozen):
    """Expected losses as a product of trees' answers.

    Attributes
    ----------
    unit
        The mean loss of the rows it was fitted on.
    trees
        None: every row is expected to lose the mean.
    spread
        Variance of a loss around what is expected of it, in squares of what is expected.
    """

    unit: float
    trees: tuple[LossTree, ...] = ()
    spread: float = 0.0

    def expected(self, X: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Return the loss to be expected of each row: float64, shape (n_rows,).

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)
            Encoded rows.
        value : np.ndarray of float64, shape (n_rows,)
            What was predicted of them.
        """
        rows = _rows(X, value)
        total = np.zeros(len(X))
        for tree in self.trees:
            total += _answers(tree, rows)
        losses: np.ndarray = self.unit * np.clip(np.exp(total), *_REACH)
        return losses

    @classmethod
    def fit(cls, X: np.ndarray, value: np.ndarray, losses: np.ndarray) -> Self:
        """Fit on rows that the model itself was not fitted on.

        Poisson deviance keeps the mean right over all rows whatever the losses' distribution, and a
        product of answers suits what differs by factors. The same rows give the same numbers.

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)
        value, losses : np.ndarray of float64, shape (n_rows,)
            What was predicted, and what it cost; no loss is negative.
        """
        some = slice(None, None, -(-len(losses) // _MOST_ROWS) or 1)
        X, value, losses = X[some], value[some], losses[some]
        unit = max(float(losses.mean()), _TINY) if len(losses) else 1.0
        if len(losses) < _LEAST_ROWS or float(losses.max()) <= _TINY:
            return cls(unit=unit, spread=_spread(losses, np.full(len(losses), unit)))
        plain = cls(unit=unit, trees=_boost(_rows(X, value), losses / unit))
        expected = plain.expected(X, value)
        return plain.model_copy(update={"spread": _spread(losses, expected)})


def _rows(X: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return features and prediction feature by feature: float32, (n_features + 1, n_rows)."""
    with np.errstate(over="ignore"):
        return np.vstack([X.T, value.astype(np.float32)])


def _answers(tree: LossTree, rows: np.ndarray) -> np.ndarray:
    """Walk all rows down a tree at once: the children of question q are 2 q + 1 and 2 q + 2."""
    lefts = []
    for feature, threshold, missing in zip(
        tree.features, tree.thresholds, tree.missing_left, strict=True
    ):
        values = rows[feature]
        # Of NaN and a number no comparison holds.
        lefts.append(~(values >= threshold) if missing else values < threshold)
    at = np.zeros(rows.shape[1], np.intp)
    for level in range(_DEPTH):
        first = 2**level - 1
        chosen = lefts[first]
        for i in range(1, 2**level):
            chosen = np.where(at == i, lefts[first + i], chosen)
        at = 2 * at + ~chosen
    found: np.ndarray = np.array(tree.leaves)[at]
    return found


def _spread(losses: np.ndarray, expected: np.ndarray) -> float:
    """Return the variance of losses in squares of what was expected; 2 for normal errors."""
    if len(losses) == 0:
        return 0.0
    return float(np.mean((losses - expected) ** 2) / max(np.mean(expected**2), _TINY))


def _boost(rows: np.ndarray, losses: np.ndarray) -> tuple[LossTree, ...]:
    import xgboost as xgb

    settings = {
        "objective": "count:poisson",
        "max_depth": _DEPTH,
        "eta": _RATE,
        # In rows of the mean loss: a leaf holds a twentieth of them at least.
        "min_child_weight": max(20.0, len(losses) / 20),
        "max_delta_step": 0.7,
        "base_score": 1.0,
        "tree_method": "hist",
        "max_bin": 64,
        "nthread": 1,
        "seed": 0,
    }
    # A single row that lost hundreds of times the mean must not draw a leaf of its own.
    booster = xgb.train(settings, xgb.DMatrix(rows.T, np.minimum(losses, 100.0)), _ROUNDS)
    model = json.loads(bytes(booster.save_raw("json")))
    found = model["learner"]["gradient_booster"]["model"]["trees"]
    return tuple(_full(tree) for tree in found)


def _full(tree: dict[str, Any]) -> LossTree:
    """Fill a tree up to its depth: where it ends early, all ways lead to the same answer."""
    level = [0]
    features, thresholds, missing = [], [], []
    for _ in range(_DEPTH):
        below = []
        for node in level:
            left, right = tree["left_children"][node], tree["right_children"][node]
            ends = left == -1
            features.append(0 if ends else int(tree["split_indices"][node]))
            thresholds.append(0.0 if ends else float(tree["split_conditions"][node]))
            missing.append(bool(ends or tree["default_left"][node]))
            below += [node, node] if ends else [left, right]
        level = below
    leaves = (float(tree["split_conditions"][node]) for node in level)
    return LossTree(
        features=tuple(features),
        thresholds=tuple(thresholds),
        missing_left=tuple(missing),
        leaves=tuple(leaves),
    )


def chunks(windows: np.ndarray, most: int) -> list[np.ndarray]:
    """Put windows together in order to at most so many lots: marks of rows, the oldest first.

    Parameters
    ----------
    windows : np.ndarray of int64, shape (n_rows,)
        Numbers of windows, 0 for the newest.
    most
        How many lots there may be.
    """
    numbers = np.unique(windows)[::-1]
    ends = np.unique(np.linspace(0, len(numbers), min(most, len(numbers)) + 1).astype(int))
    return [np.isin(windows, numbers[a:b]) for a, b in pairwise(ends)]
