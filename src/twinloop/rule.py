"""Rule: from what an estimator says of classes to calibrated probabilities and one class."""

import numpy as np

from twinloop.calibration import Calibration, fit_calibration, parts
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

DEFAULT = 0.5
# Metrics that hang on the class predicted. The others look at probabilities alone.
DECIDED = frozenset({"accuracy", "macro_f1"})
_MOST_CUTS = 199


class Rule(Frozen):
    """How probabilities become predictions; part of the scorer, and saved with it.

    Attributes
    ----------
    calibration
        Comes first.
    threshold
        Of two classes, the second is predicted where its calibrated probability is above.
    """

    calibration: Calibration = Calibration()
    threshold: float = DEFAULT

    def decide(self, probability: np.ndarray) -> np.ndarray:
        """Return the code of a class for each row of calibrated probabilities."""
        if probability.shape[1] == 2:
            return (probability[:, 1] > self.threshold).astype(np.int64)
        return probability.argmax(axis=1)


PLAIN = Rule()


def learn_rule(
    probability: np.ndarray | None, y: np.ndarray, folds: np.ndarray, workload: Workload
) -> Rule:
    """Learn how to calibrate and where to cut, from rows outside the fit and only from these.

    Parameters
    ----------
    probability : np.ndarray of float64, shape (n_rows, n_classes), or None
        What models that had not seen these rows said of them; None for regression.
    y : np.ndarray of int64, shape (n_rows,)
        Codes of the true classes.
    folds : np.ndarray of int64, shape (n_rows,)
        The fold each row was held out in.
    workload
        Says what is wanted, by which metric, and whether rows are ordered.
    """
    if probability is None:
        return PLAIN
    ordered = workload.split == "time"
    calibration = Calibration()
    if workload.training.calibration == "auto":
        ranked = workload.metric == "roc_auc"
        calibration = fit_calibration(probability, y, folds, ordered=ordered, keeps_order=ranked)
    threshold = workload.training.threshold
    if probability.shape[1] != 2:
        threshold = DEFAULT
    elif threshold == "auto":
        said = calibration.apply(probability)[:, 1]
        threshold = tune_threshold(said, y, folds, workload.metric, ordered=ordered)
    return Rule(calibration=calibration, threshold=threshold)


def tune_threshold(
    said: np.ndarray, y: np.ndarray, folds: np.ndarray, metric: str, *, ordered: bool
) -> float:
    """Return the threshold that makes most of a metric, or one half.

    It is tuned without a fold's rows and judged on them. It is kept only where the gain, over the
    folds, is more than its standard error; it is then tuned again on all rows.

    Parameters
    ----------
    said : np.ndarray of float64, shape (n_rows,)
        Probability of the second class, by models that had not seen the rows.
    y : np.ndarray of int64, shape (n_rows,)
        Codes of the true classes; rows of unknown ones, below 0, are left out.
    folds : np.ndarray of int64, shape (n_rows,)
        The fold each row was held out in.
    metric
        ``accuracy`` or ``macro_f1``; any other leaves one half.
    ordered
        Whether folds follow each other in time: a threshold is then judged on later folds only.
    """
    if metric not in DECIDED:
        return DEFAULT
    known = y >= 0
    said, y, folds = said[known], y[known], folds[known]
    gains = []
    for others, mine in parts(folds, ordered=ordered):
        cuts = np.array([DEFAULT, _best(said[others], y[others], metric)])
        plain, tuned = scores_by_cut(said[mine], y[mine], cuts, metric)
        gains.append(tuned - plain)
    if len(gains) < 2 or np.mean(gains) <= np.std(gains, ddof=1) / np.sqrt(len(gains)):
        return DEFAULT
    return _best(said, y, metric)


def _best(said: np.ndarray, y: np.ndarray, metric: str) -> float:
    """Return the best cut; of equals the one nearest to one half."""
    shares = np.linspace(0, 1, _MOST_CUTS + 1)
    seen = np.unique(np.quantile(said, shares, method="lower"))
    # Half way between probabilities: a cut on one would hang on its last bit.
    cuts = np.append((seen[:-1] + seen[1:]) / 2, DEFAULT)
    scores = scores_by_cut(said, y, cuts, metric)
    best = cuts[scores >= scores.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - DEFAULT))])


def scores_by_cut(said: np.ndarray, y: np.ndarray, cuts: np.ndarray, metric: str) -> np.ndarray:
    """Score rows once for each threshold, by counting.

    Parameters
    ----------
    said : np.ndarray of float64, shape (n_rows,)
        Probability of the second class.
    y : np.ndarray of int64, shape (n_rows,)
        True classes, 0 or 1.
    cuts : np.ndarray of float64, shape (n_cuts,)
        Rows above a cut are given the second class.
    metric
        ``accuracy`` or ``macro_f1``.

    Returns
    -------
    np.ndarray of float64, shape (n_cuts,)
    """
    order = np.argsort(said, kind="stable")
    below = np.searchsorted(said[order], cuts, side="right")
    ones = np.concatenate([[0], np.cumsum(y[order] == 1)])
    missed, hit = ones[below], ones[-1] - ones[below]
    quiet, false = below - missed, len(y) - below - hit
    if metric == "accuracy":
        return (hit + quiet) / len(y)
    # A class that is neither there nor predicted has no score, as in scikit-learn.
    sizes = np.array([2 * hit + missed + false, 2 * quiet + missed + false])
    each = 2 * np.array([hit, quiet]) / np.maximum(sizes, 1)
    return each.sum(axis=0) / (sizes > 0).sum(axis=0)
