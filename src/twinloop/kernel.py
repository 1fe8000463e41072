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

# So many rows are all landmarks. Of more rows some stand for all (Nystroem's method: Williams and
# Seeger 2001), as many as so many products allow, but not fewer than the other number.
_ALL_LANDMARKS, _FEWEST_LANDMARKS = 2000, 400
_PRODUCTS = 4e9
# Scale and nearness are chosen on so many rows; the ridge, and what scores are multiplied by, on
# more.
_TRIAL_ROWS, _JUDGED_ROWS = 500, 5000
# Gamma by the median of squared distances, the usual one first.
_GAMMAS = (0.5, 0.03, 0.12, 1.0, 2.5)
_RIDGES = np.logspace(-2, 3, 11)
# Directions that say less, beside the one that says most, are rounding.
_ROUNDING = 1e-10
_CHUNK = 2048


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
        rows = _Rows(X, targets - self.base_, weight)
        self.spread_ = X.std(axis=0)
        # Landmarks and rows to judge by are the first of one draw.
        drawn = np.random.default_rng(self.seed).permutation(len(X))
        some, marks = drawn[:_TRIAL_ROWS], X[drawn[: landmarks_for(len(X))]]
        trials = [
            (self._judge(_Fit.of_all(rows.take(some), scale, gamma), _RIDGES[::2]), gamma, scale)
            for scale, gamma in self._settings(X[some])
        ]
        usual, best = trials[0], min(trials, key=lambda trial: float(trial[0].losses.mean()))
        # Of nine others one is often better by luck: it has to save more than two standard errors
        # of what it saves a row.
        saved = usual[0].losses - best[0].losses
        clear = saved.mean() > 2 * saved.std() / np.sqrt(len(saved))
        _, self.gamma_, self.scale_ = best if clear else usual
        if len(marks) == len(X):
            fit = _Fit.of_all(rows, self.scale_, self.gamma_)
        else:
            fit = _Fit.of(rows, self.scale_, self.gamma_, marks, drawn[:_JUDGED_ROWS])
        judged = self._judge(fit, _RIDGES)
        self.ridge_, self.power_ = judged.ridge, judged.power
        self.landmarks_, self.coef_ = fit.landmarks, fit.coefficients(self.ridge_)
        return self

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
            apart = _distances(X / scale, X / scale)
            apart = apart[apart > _ROUNDING]
            usual = float(np.median(apart)) if len(apart) else 1.0
            for share in _GAMMAS:
                yield scale, share / usual

    def _judge(self, fit: "_Fit", ridges: np.ndarray) -> "_Judged":
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
            _nearness(X[i : i + _CHUNK], self.landmarks_, self.gamma_) @ self.coef_
            for i in range(0, max(len(X), 1), _CHUNK)
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


def landmarks_for(n_rows: int) -> int:
    """Return how many of so many rows stand for all."""
    if n_rows <= _ALL_LANDMARKS:
        return n_rows
    return max(_FEWEST_LANDMARKS, int(np.sqrt(_PRODUCTS / n_rows)))


@dataclass(frozen=True)
class _Rows:
    """Rows to fit, their targets about the mean, and how much each counts."""

    X: np.ndarray
    targets: np.ndarray
    weight: np.ndarray

    def take(self, at: np.ndarray) -> "_Rows":
        return _Rows(self.X[at], self.targets[at], self.weight[at])


@dataclass(frozen=True)
class _Judged:
    """A ridge, what scores are multiplied by, and the loss of each row left out."""

    losses: np.ndarray
    ridge: float
    power: float


@dataclass(frozen=True)
class _Fit:
    """Least squares with every ridge there is, and what each says of rows that it leaves out.

    Attributes
    ----------
    judged
        Rows that are left out one at a time.
    directions
        From nearness to directions that have nothing to do with each other, of these lengths.
    along
        The judged rows in these directions.
    pull
        Of the targets in them.
    """

    landmarks: np.ndarray
    judged: _Rows
    directions: np.ndarray
    lengths: np.ndarray
    along: np.ndarray
    pull: np.ndarray

    @classmethod
    def of_all(cls, rows: _Rows, scale: np.ndarray, gamma: float) -> "_Fit":
        """Fit rows by nearness to all of them: one decomposition instead of two."""
        landmarks, root = rows.X / scale, np.sqrt(rows.weight)
        lengths, turn = np.linalg.eigh(
            root[:, None] * _nearness(landmarks, landmarks, gamma) * root
        )
        kept = lengths > _ROUNDING * lengths[-1]
        lengths, turn, sizes = lengths[kept], turn[:, kept], np.sqrt(lengths[kept])
        directions, along = root[:, None] * turn / sizes, turn * sizes / root[:, None]
        pull = sizes[:, None] * (turn.T @ (root[:, None] * rows.targets))
        return cls(landmarks, rows, directions, lengths, along, pull)

    @classmethod
    def of(
        cls,
        rows: _Rows,
        scale: np.ndarray,
        gamma: float,
        marks: np.ndarray,
        judged: np.ndarray,
    ) -> "_Fit":
        """Fit rows by nearness to marks, for some of them to be judged."""
        landmarks = marks / scale
        lengths, turn = np.linalg.eigh(_nearness(landmarks, landmarks, gamma))
        kept = lengths > _ROUNDING * lengths[-1]
        root = turn[:, kept] / np.sqrt(lengths[kept])
        gram: np.ndarray | float = 0.0
        pull: np.ndarray | float = 0.0
        for i in range(0, len(rows.X), _CHUNK):
            part = rows.take(np.arange(i, min(i + _CHUNK, len(rows.X))))
            features = _nearness(part.X / scale, landmarks, gamma) @ root
            weighed = features * part.weight[:, None]
            gram = gram + features.T @ weighed
            pull = pull + weighed.T @ part.targets
        lengths, turn = np.linalg.eigh(gram)
        directions = root @ turn
        seen = rows.take(judged)
        along = _nearness(seen.X / scale, landmarks, gamma) @ directions
        return cls(landmarks, seen, directions, np.maximum(lengths, 0.0), along, turn.T @ pull)

    def left_out(self, ridges: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Yield each ridge, and what it says of each judged row without having fitted it."""
        squares = self.along**2
        for ridge in ridges:
            kept = 1 / (self.lengths + ridge)
            said = self.along @ (kept[:, None] * self.pull)
            own = self.judged.weight * (squares @ kept)
            error = (self.judged.targets - said) / np.maximum(1 - own, _ROUNDING)[:, None]
            yield float(ridge), self.judged.targets - error

    def coefficients(self, ridge: float) -> np.ndarray:
        """Return the coefficients of nearness: shape (n_landmarks, n_outputs)."""
        found: np.ndarray = self.directions @ (self.pull / (self.lengths + ridge)[:, None])
        return found


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return squared distances: shape (n_rows of one, n_rows of the other)."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.maximum(squares, 0.0)


def _nearness(one: np.ndarray, other: np.ndarray, gamma: float) -> np.ndarray:
    near: np.ndarray = np.exp(-gamma * _distances(one, other))
    return near


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
    nearness = _nearness(landmarks, landmarks, machine.gamma_)
    steep = np.zeros(landmarks.shape[1])
    for weights in machine.coef_.T:
        pull = nearness * weights
        slopes = pull @ landmarks - pull.sum(axis=1)[:, None] * landmarks
        steep += np.abs(2 * machine.gamma_ * slopes).mean(axis=0)
    first = len(steep) - machine.quantities
    units = np.append(np.ones(first), (machine.spread_ / machine.scale_)[first:])
    return steep * units
