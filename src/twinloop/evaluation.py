"""Evaluation: metrics, and losses row by row."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from twinloop.scorer import Predictions

_TINY = 1e-15

Loss = Callable[[np.ndarray, Predictions], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A measure of predictions against the truth.

    Most are a function of the mean of one loss a row, which makes resampling cheap: `row_loss` is
    then the loss and `of_mean` the function. `whole` serves the others. No score lies outside of
    `bounds`.
    """

    name: str
    greater_is_better: bool
    row_loss: Loss | None = None
    of_mean: Callable[[float], float] = float
    whole: Callable[[np.ndarray, Predictions], float] | None = None
    bounds: tuple[float, float] = (0.0, np.inf)

    def score(self, y: np.ndarray, predictions: Predictions) -> float:
        """Return the metric of some rows.

        Parameters
        ----------
        y : np.ndarray, shape (n_rows,)
            The truth: numbers, or codes of classes.
        predictions
            Of the same rows.
        """
        if self.whole is not None:
            return float(self.whole(y, predictions))
        assert self.row_loss is not None  # noqa: S101 - a metric has one or the other
        return float(self.of_mean(float(np.mean(self.row_loss(y, predictions)))))

    def gain(self, new: float, old: float) -> float:
        """Return how much better `new` is than `old`: positive is better."""
        return new - old if self.greater_is_better else old - new

    def distance(self, score: float) -> float:
        """Return how far a score lies from a perfect one."""
        return self.gain(self.bounds[1] if self.greater_is_better else self.bounds[0], score)


def _squared(y: np.ndarray, p: Predictions) -> np.ndarray:
    return (y - p.value) ** 2


def _squared_log(y: np.ndarray, p: Predictions) -> np.ndarray:
    return (np.log1p(y) - np.log1p(np.maximum(p.value, 0.0))) ** 2


def _absolute(y: np.ndarray, p: Predictions) -> np.ndarray:
    return np.abs(y - p.value)


def _right(y: np.ndarray, p: Predictions) -> np.ndarray:
    return (y == p.value).astype(np.float64)


def _log_loss(y: np.ndarray, p: Predictions) -> np.ndarray:
    assert p.probability is not None  # noqa: S101 - the metric belongs to classification
    known = y >= 0
    chosen = p.probability[np.arange(len(y)), np.where(known, y, 0)]
    losses: np.ndarray = -np.log(np.clip(np.where(known, chosen, 0.0), _TINY, 1.0))
    return losses


def _brier(y: np.ndarray, p: Predictions) -> np.ndarray:
    assert p.probability is not None  # noqa: S101 - the metric belongs to classification
    # A class never seen is the worst case, as it is for the log loss.
    losses: np.ndarray = np.where(y >= 0, (p.probability[:, 1] - y) ** 2, 1.0)
    return losses


def _r2(y: np.ndarray, p: Predictions) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(y, p.value))


def _roc_auc(y: np.ndarray, p: Predictions) -> float:
    from scipy.stats import rankdata

    assert p.probability is not None  # noqa: S101 - the metric belongs to classification
    # A class never seen has no place in the ranking; with one class only there is none to judge.
    known = y >= 0
    ones = y[known] == 1
    n_ones, n_zeros = int(ones.sum()), int((~ones).sum())
    if n_ones == 0 or n_zeros == 0:
        return float("nan")
    # By ranks (Mann and Whitney 1947): intervals ask for it thousands of times.
    ranks = rankdata(p.probability[known, 1])
    return float((ranks[ones].sum() - n_ones * (n_ones + 1) / 2) / (n_ones * n_zeros))


def _macro_f1(y: np.ndarray, p: Predictions) -> float:
    classes, at = np.unique(np.concatenate([y, p.value]), return_inverse=True)
    hits = np.bincount(at[: len(y)][y == p.value], minlength=len(classes))
    return float(np.mean(2 * hits / np.bincount(at)))


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("rmse", False, _squared, np.sqrt),
        Metric("rmsle", False, _squared_log, np.sqrt),
        Metric("mae", False, _absolute),
        Metric("r2", True, whole=_r2, bounds=(-np.inf, 1.0)),
        Metric("log_loss", False, _log_loss),
        Metric("brier", False, _brier, bounds=(0.0, 1.0)),
        Metric("accuracy", True, _right, bounds=(0.0, 1.0)),
        Metric("roc_auc", True, whole=_roc_auc, bounds=(0.0, 1.0)),
        Metric("macro_f1", True, whole=_macro_f1, bounds=(0.0, 1.0)),
    )
}

# The loss a drift watch follows where the metric has none by the row.
_STAND_INS = {"r2": "rmse", "roc_auc": "log_loss", "macro_f1": "log_loss"}


def watched_metric(metric: str) -> Metric:
    """Return the metric whose loss by the row stands for this one: smaller is better."""
    found = METRICS[_STAND_INS.get(metric, metric)]
    return METRICS["log_loss"] if found.greater_is_better else found


def block_ids(times: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Return the block of each row for resampling: its day, or itself where rows have no time.

    Parameters
    ----------
    times : np.ndarray of int64, shape (n_rows,), or None
        Microseconds since 1970, UTC.
    n_rows
        How many rows.

    Returns
    -------
    np.ndarray of int64, shape (n_rows,)
    """
    if times is None:
        return np.arange(n_rows)
    return np.asarray(times // 86_400_000_000, np.int64)


def block_means(losses: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Return the mean loss of each block: shape (n_blocks,)."""
    _, at = np.unique(blocks, return_inverse=True)
    means: np.ndarray = np.bincount(at, losses) / np.bincount(at)
    return means
