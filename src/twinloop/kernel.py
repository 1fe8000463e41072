"""The kernel candidate: least squares on how near rows are to fitted rows.

Nearness is ``exp(-gamma * squared distance)``. It is smooth where trees are steps, and bends where
a linear model cannot: best on small tables of quantities that say much the same, like pixels,
sensors or measures of one body. Of classes it learns a score each (Rifkin and Klautau 2004, "In
Defense of One-Vs-All Classification"), and scores become probabilities by a softmax.

Its settings are chosen by rows left out one at a time, which least squares tells without a further
fit (Rifkin and Lippert 2007, "Notes on Regularized Least Squares").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator

from twinloop.nearness import CHUNK, ROUNDING, FitRows, NearFit, distances, landmarks_for, nearness

# Scale and nearness are chosen on so many rows; the ridge, and what scores are multiplied by, on
# more.
_TRIAL_ROWS, _JUDGED_ROWS = 500, 5000
# Gamma by the median of squared distances, the usual one first.
_GAMMAS = (0.5, 0.03, 0.12, 1.0, 2.5)
# So many standard errors better than the usual scale and gamma another must be.
_CLEARLY = 2.0
_RIDGES = np.logspace(-2, 3, 11)


class KernelMachine(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Least squares on nearness to landmarks, for numbers or for classes.

    Parameters
    ----------
    classes
        Whether targets are codes of classes.
    quantities
        How many columns, the last ones, are quantities. Each is brought to its own scale or all to
        one, whichever is better: pixels that hardly vary say little, whatever their scale. Other
        columns are 0 or 1 and stay so.
    seed
        Of the draw of landmarks.

    Attributes
    ----------
    classes_ : np.ndarray, shape (n_classes,)
        There for classes only.
    scale_, spread_ : np.ndarray of float64, shape (n_columns,)
        What columns are divided by, and their standard deviations.
    landmarks_ : np.ndarray of float64, shape (n_landmarks, n_columns)
        On that scale.
    gamma_, ridge_, power_ : float
        `power_` is what scores are multiplied by.
    coef_ : np.ndarray of float64, shape (n_landmarks, n_outputs)
    base_ : np.ndarray of float64, shape (n_outputs,)
        The mean target, or the shares of classes.
    """

    def __init__(self, classes: bool = False, quantities: int = 0, seed: int = 0) -> None:
        self.classes = classes
        self.quantities = quantities
        self.seed = seed

    def fit(
        self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> "KernelMachine":
        """Choose settings by rows left out, and fit all rows.

        Parameters
        ----------
        X : np.ndarray, shape (n_rows, n_columns)
        y : np.ndarray, shape (n_rows,)
            Numbers, or codes of classes.
        sample_weight : np.ndarray, shape (n_rows,), or None
        """
        X = np.asarray(X, np.float64)
        weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        weight = weight / weight.mean()
        targets = np.asarray(y, np.float64)[:, None]
        if self.classes:
            self.classes_, codes = np.unique(y, return_inverse=True)
            targets = np.eye(len(self.classes_))[codes]
        self.base_ = np.average(targets, axis=0, weights=weight)
        rows = FitRows(X, targets - self.base_, weight)
        self.spread_ = X.std(axis=0)
        # Landmarks and rows to judge by are the first of one draw.
        drawn = np.random.default_rng(self.seed).permutation(len(X))
        some = rows.take(drawn[:_TRIAL_ROWS])
        settings = list(self._settings(some.X))
        usual = settings[0]
        trials = [self._judge(NearFit.of_all(some, *setting), _RIDGES[::2]) for setting in settings]
        best = min(range(len(trials)), key=lambda i: float(trials[i].losses.mean()))
        (self.scale_, self.gamma_), (fit, judged) = usual, self._fit_all(rows, drawn, usual)
        # Of nine others one is often better by luck: it has to be so on all rows, too, and clearly.
        if _errors_saved(trials[0].losses, trials[best].losses) > 1:
            other = self._fit_all(rows, drawn, settings[best])
            if _errors_saved(judged.losses, other[1].losses) > _CLEARLY:
                (self.scale_, self.gamma_), (fit, judged) = settings[best], other
        self.ridge_, self.power_ = judged.ridge, judged.power
        self.landmarks_, self.coef_ = fit.landmarks, fit.coefficients(self.ridge_)
        return self

    def _fit_all(
        self, rows: FitRows, drawn: np.ndarray, setting: tuple[np.ndarray, float]
    ) -> tuple[NearFit, "_Judged"]:
        """Fit all rows, by nearness to all where they are not too many; and judge."""
        marks = drawn[: landmarks_for(len(drawn))]
        if len(marks) == len(drawn):
            fit = NearFit.of_all(rows, *setting)
        else:
            fit = NearFit.of(rows, *setting, rows.X[marks], drawn[:_JUDGED_ROWS])
        return fit, self._judge(fit, _RIDGES)

    def _settings(self, X: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
        """Yield scales of the columns, and gammas for each."""
        own = np.where(self.spread_ > 0, self.spread_, 1.0)
        alike = own.copy()
        first = len(own) - self.quantities
        own[:first] = alike[:first] = 1.0
        scales = [own]
        if self.quantities > 1:
            alike[first:] = np.sqrt(np.mean(self.spread_[first:] ** 2)) or 1.0
            scales.append(alike)
        for scale in scales:
            apart = distances(X / scale, X / scale)
            apart = apart[apart > ROUNDING]
            usual = float(np.median(apart)) if len(apart) else 1.0
            for share in _GAMMAS:
                yield scale, share / usual

    def _judge(self, fit: NearFit, ridges: np.ndarray) -> "_Judged":
        """Return the ridge whose loss of rows left out one at a time is least."""
        found, judged = [], fit.judged
        truth = (judged.targets + self.base_).argmax(axis=1)
        for ridge, said in fit.left_out(ridges):
            if self.classes:
                power = self._best_power(said, truth, judged.weight)
                losses = self._log_losses(said, truth, power)
            else:
                power, losses = 1.0, (judged.targets - said)[:, 0] ** 2
            found.append(_Judged(losses * judged.weight, ridge, power))
        return min(found, key=lambda one: float(one.losses.mean()))

    def _best_power(self, said: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
        def loss(log_power: float) -> float:
            losses = self._log_losses(said, truth, float(np.exp(log_power)))
            return float(np.mean(losses * weight))

        found = minimize_scalar(loss, bounds=(-4, 6), method="bounded", options={"xatol": 0.01})
        return float(np.exp(found.x))

    def _log_losses(self, said: np.ndarray, truth: np.ndarray, power: float) -> np.ndarray:
        logs = log_softmax(power * said + np.log(self.base_), axis=1)
        losses: np.ndarray = -logs[np.arange(len(truth)), truth]
        return losses

    def _scores(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X, np.float64) / self.scale_
        parts = [
            nearness(X[i : i + CHUNK], self.landmarks_, self.gamma_) @ self.coef_
            for i in range(0, max(len(X), 1), CHUNK)
        ]
        return np.concatenate(parts)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the number, or the likeliest class, of each row: shape (n_rows,)."""
        if self.classes:
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        return self.base_[0] + self._scores(X)[:, 0]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each class: shape (n_rows, n_classes)."""
        # A row that is near to nothing has the shares of all rows.
        found: np.ndarray = softmax(self.power_ * self._scores(X) + np.log(self.base_), axis=1)
        return found


def _errors_saved(old: np.ndarray, new: np.ndarray) -> float:
    """Return by how many standard errors new losses are lower than old ones of the same rows."""
    saved = old - new
    spread = float(saved.std()) / np.sqrt(len(saved))
    return float(saved.mean()) / spread if spread > 0 else 0.0


@dataclass(frozen=True)
class _Judged:
    """A ridge, what scores are multiplied by, and the loss of each row left out."""

    losses: np.ndarray
    ridge: float
    power: float


def kernel(columns: Any, classes: bool, quantities: int, seed: int) -> Any:
    """Return an unfitted pipeline: columns without gaps, and a kernel machine.

    Parameters
    ----------
    columns
        Transformer that fills gaps of quantities and puts codes in columns of their own, first.
    classes, quantities, seed
        As in `KernelMachine`.
    """
    from sklearn.pipeline import make_pipeline

    return make_pipeline(columns, KernelMachine(classes, quantities, seed))


def sensitivity(model: Any) -> np.ndarray:
    """Return how steeply a fitted pipeline's answer changes along each transformed column.

    The mean over the landmarks of the absolute derivative, and over classes; of quantities for one
    standard deviation.

    Returns
    -------
    np.ndarray of float64, shape (n_columns,)
    """
    machine = model[-1]
    landmarks = machine.landmarks_
    near = nearness(landmarks, landmarks, machine.gamma_)
    steep = np.zeros(landmarks.shape[1])
    for weights in machine.coef_.T:
        pull = near * weights
        slopes = pull @ landmarks - pull.sum(axis=1)[:, None] * landmarks
        steep += np.abs(2 * machine.gamma_ * slopes).mean(axis=0)
    first = len(steep) - machine.quantities
    units = np.append(np.ones(first), (machine.spread_ / machine.scale_)[first:])
    return steep * units
