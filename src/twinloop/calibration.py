"""Calibration: probabilities that mean what they say, learned from rows outside the fit."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax

from twinloop.vocabulary import Frozen

Method = Literal["none", "sigmoid", "temperature", "isotonic"]

# Isotonic regression overfits below about a thousand rows (Niculescu-Mizil and Caruana 2005).
_ISOTONIC_ROWS = 1000
# Log-odds of 0 and 1 are infinite. Probabilities are drawn in by this, which keeps their order.
_EDGE = 1e-4
_TINY = 1e-15
_MOST_BINS = 10
_ROWS_A_BIN = 20


class Calibration(Frozen):
    """A map from an estimator's probabilities to calibrated ones.

    Attributes
    ----------
    method
        ``none``: as they are. ``sigmoid``: two classes, ``slope`` times the log-odds plus ``shift``
        (Platt 1999). ``temperature``: ``slope`` times the logarithms (Guo et al. 2017, where
        the temperature is 1 / slope). ``isotonic``: two classes, through the points of ``said`` and
        ``meant``, straight between them (Zadrozny and Elkan 2002).
    gain
        Log loss saved a row, on rows the map was not fitted on.
    """

    method: Method = "none"
    slope: float = 1.0
    shift: float = 0.0
    said: tuple[float, ...] = ()
    meant: tuple[float, ...] = ()
    gain: float = 0.0

    def apply(self, probability: np.ndarray) -> np.ndarray:
        """Calibrate probabilities: float64, shape (n_rows, n_classes)."""
        if self.method == "none":
            return probability
        if self.method == "temperature":
            scaled: np.ndarray = softmax(self.slope * np.log(drawn_in(probability)), axis=1)
            return scaled
        said = probability[:, 1]
        second = (
            np.interp(said, self.said, self.meant)
            if self.method == "isotonic"
            else expit(self.slope * logit(drawn_in(probability)[:, 1]) + self.shift)
        )
        return np.column_stack([1.0 - second, second])


def drawn_in(probability: np.ndarray) -> np.ndarray:
    """Return probabilities a little nearer to each other, in the same order, none of them 0."""
    return _EDGE + (1 - probability.shape[1] * _EDGE) * probability


def fit_map(method: Method, probability: np.ndarray, y: np.ndarray) -> Calibration:
    """Fit a map on rows that the estimator has not seen.

    Parameters
    ----------
    method
        Which kind.
    probability : np.ndarray of float64, shape (n_rows, n_classes)
        What the estimator said.
    y : np.ndarray of int64, shape (n_rows,)
        Codes of the true classes.
    """
    if method == "temperature":
        return _fit_temperature(probability, y)
    if method == "sigmoid":
        return _fit_sigmoid(probability, y)
    return _fit_isotonic(probability[:, 1], y) if method == "isotonic" else Calibration()


def _fit_sigmoid(probability: np.ndarray, y: np.ndarray) -> Calibration:
    odds = logit(drawn_in(probability)[:, 1])
    # Platt's targets, short of 0 and 1, keep the slope finite where classes are apart.
    ones = int(np.sum(y == 1))
    targets = np.where(y == 1, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        f = w[0] * odds + w[1]
        off = expit(f) - targets
        return float(np.mean(np.logaddexp(0, f) - targets * f)), np.array(
            [np.mean(off * odds), np.mean(off)]
        )

    # A slope of 0 or below would throw the order of rows away.
    found = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(0.01, 100), (-50, 50)])
    return Calibration(method="sigmoid", slope=float(found.x[0]), shift=float(found.x[1]))


def _fit_temperature(probability: np.ndarray, y: np.ndarray) -> Calibration:
    logs, rows = np.log(drawn_in(probability)), np.arange(len(y))

    def loss(power: float) -> float:
        return -float(np.mean(log_softmax(np.exp(power) * logs, axis=1)[rows, y]))

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded")
    return Calibration(method="temperature", slope=float(np.exp(found.x)))


def _fit_isotonic(said: np.ndarray, y: np.ndarray) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    # Never quite 0 or 1: a single row that proves it wrong would cost an infinite loss.
    least = 1 / (len(y) + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(said, y)
    return Calibration(
        method="isotonic",
        said=tuple(fitted.X_thresholds_.tolist()),
        meant=tuple(fitted.y_thresholds_.tolist()),
    )


def fit_calibration(
    probability: np.ndarray,
    y: np.ndarray,
    folds: np.ndarray,
    *,
    ordered: bool,
    keeps_order: bool = False,
) -> Calibration:
    """Return the map that saves most log loss on rows it was not fitted on, or none.

    Each kind of map, the simplest first, is fitted without a fold's rows and judged on them. It is
    taken in place of a simpler one, or of none, only where it saves more than one standard error of
    what it saves (the rule of Breiman et al. 1984): a map that is not needed would otherwise be
    kept by luck every other time. A probability of 0 that came true needs no such proof. What is
    kept is fitted again on all rows.

    Parameters
    ----------
    probability : np.ndarray of float64, shape (n_rows, n_classes)
        What models that had not seen these rows said of them.
    y : np.ndarray of int64, shape (n_rows,)
        Codes of the true classes; rows of unknown ones, below 0, are left out.
    folds : np.ndarray of int64, shape (n_rows,)
        The fold each row was held out in.
    ordered
        Whether folds follow each other in time: a map is then judged on later folds only.
    keeps_order
        Whether ties, which isotonic regression makes, would harm the metric.
    """
    known = y >= 0
    probability, y, folds = probability[known], y[known], folds[known]
    methods: tuple[Method, ...] = ("temperature",)
    if probability.shape[1] == 2:
        methods = ("sigmoid",) if keeps_order else ("sigmoid", "isotonic")
    plain = log_losses(probability, y)
    best, losses = Calibration(), plain
    for method in methods:
        found = _unseen_losses(method, probability, y, folds, ordered)
        judged = np.isfinite(found) & np.isfinite(losses)
        if is_better(found[judged], losses[judged]):
            gain = float(np.mean(plain[judged] - found[judged]))
            fitted = fit_map(method, probability, y)
            best, losses = fitted.model_copy(update={"gain": gain}), found
    return best


def is_better(new: np.ndarray, old: np.ndarray) -> bool:
    """Tell whether rows' losses are lower by more than one standard error of the difference.

    Where a probability of 0 came true, a lower mean is enough.
    """
    saved = old - new
    if len(saved) < 2:
        return False
    impossible = old.max() >= -np.log(_TINY)
    margin = 0.0 if impossible else saved.std(ddof=1) / np.sqrt(len(saved))
    return bool(saved.mean() > margin)


def _unseen_losses(
    method: Method, probability: np.ndarray, y: np.ndarray, folds: np.ndarray, ordered: bool
) -> np.ndarray:
    """Return each row's log loss by a map fitted on other folds; NaN where none could be."""
    losses = np.full(len(y), np.nan)
    for others, mine in parts(folds, ordered=ordered):
        few = method == "isotonic" and others.sum() < _ISOTONIC_ROWS
        if not few and len(np.unique(y[others])) > 1:
            after = fit_map(method, probability[others], y[others]).apply(probability[mine])
            losses[mine] = log_losses(after, y[mine])
    return losses


def parts(folds: np.ndarray, *, ordered: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for each fold, a mark of the rows to learn from and one of the rows to judge by.

    Where folds are ordered in time, only earlier ones are learned from.
    """
    for fold in np.unique(folds):
        others = folds < fold if ordered else folds != fold
        if others.any():
            yield others, folds == fold


def log_losses(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the log loss of each row; a class never seen had no probability at all."""
    chosen = np.where(y >= 0, probability[np.arange(len(y)), np.maximum(y, 0)], 0.0)
    return -np.log(np.clip(chosen, _TINY, 1.0))


def brier_score(probability: np.ndarray, y: np.ndarray) -> float:
    """Return the mean squared error of probabilities.

    Of the second class where there are two, 0 to 1; else summed over the classes, 0 to 2
    (Brier 1950). A class never seen counts as the worst case.
    """
    known = y >= 0
    n_classes = probability.shape[1]
    truth = np.eye(n_classes)[np.where(known, y, 0)]
    errors = np.sum((probability - truth) ** 2, axis=1)
    scores = errors / 2 if n_classes == 2 else errors
    return float(np.mean(np.where(known, scores, 1.0 if n_classes == 2 else 2.0)))


class Bin(Frozen):
    """Rows with like probabilities: how likely they were said to be, and how often it came true.

    Attributes
    ----------
    low, high
        95 % interval of the observed share (Wilson 1927).
    """

    said: float
    observed: float
    low: float
    high: float
    rows: int


def reliability(probability: np.ndarray, y: np.ndarray) -> tuple[Bin, ...]:
    """Compare probabilities with what happened, in bins of equal numbers of rows.

    Of two classes the second is looked at, of more the one given most probability. There are at
    most ten bins, of twenty rows and more; equal probabilities are never parted.

    Parameters
    ----------
    probability : np.ndarray of float64, shape (n_rows, n_classes)
    y : np.ndarray of int64, shape (n_rows,)
        Codes of the true classes.
    """
    if probability.shape[1] == 2:
        said, happened = probability[:, 1], y == 1
    else:
        said, happened = probability.max(axis=1), probability.argmax(axis=1) == y
    n_bins = int(np.clip(len(y) // _ROWS_A_BIN, 1, _MOST_BINS))
    edges = np.quantile(said, np.linspace(0, 1, n_bins + 1))[1:-1]
    at = np.searchsorted(edges, said)
    return tuple(_bin(said[at == i], happened[at == i]) for i in np.unique(at))


def _bin(said: np.ndarray, happened: np.ndarray) -> Bin:
    n, share, z = len(said), float(happened.mean()), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Bin(
        said=float(said.mean()),
        observed=share,
        low=max(float(middle - reach), 0.0),
        high=min(float(middle + reach), 1.0),
        rows=n,
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error: how far probabilities are off, by the row.

    Naeini et al. 2015, here with bins of equal numbers of rows (Nguyen and O'Connor 2015). It is
    above 0 by chance alone, the more so the fewer rows a bin has: compare it only between models
    judged on the same rows, with the same number of bins.
    """
    rows = sum(b.rows for b in bins)
    return sum(b.rows * abs(b.observed - b.said) for b in bins) / rows
