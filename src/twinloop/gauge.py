"""Gauge: the metric of rows without labels, how sure that is, and how such estimates did before.

It sees what the input tells. Where the answer to the same input has changed (concept drift) it sees
nothing: only labels do.
"""

import math
from collections.abc import Sequence

import numpy as np

from twinloop.estimate import BY_FACTORS, Check, Estimate, with_interval
from twinloop.evaluation import METRICS
from twinloop.loss_model import LossModel, chunks
from twinloop.profile import Binning, Counter, Profile
from twinloop.samples import Sample
from twinloop.scorer import Predictions
from twinloop.tally import (
    cells_of_classes,
    cells_of_losses,
    cells_of_ranks,
    expected_of_classes,
    expected_of_numbers,
    from_whole,
    macro_f1_of,
    roc_auc_of,
    sample,
    to_whole,
)
from twinloop.vocabulary import Frozen

_TINY = 1e-12
_BINS = 64
_LOTS = 6
_FEW_ROWS = 10
_ROOTS = ("rmse", "rmsle")


class Gauge(Frozen):
    """What estimates a metric of rows without labels.

    Attributes
    ----------
    unit
        What sums are counted in: the mean loss of the rows it was fitted on.
    model
        Of the losses of numbers; None for classes, whose probabilities tell.
    edges
        Of bins of the second class's probability, for ROC AUC.
    middle, width
        Of the predictions, for R2.
    checks
        Past windows, each estimated from others only.
    """

    metric: str
    n_classes: int = 0
    unit: float = 1.0
    model: LossModel | None = None
    edges: tuple[float, ...] = ()
    middle: float = 0.0
    width: float = 1.0
    checks: tuple[Check, ...] = ()

    def none(self) -> np.ndarray:
        """Return the cells of no rows: int64."""
        return np.zeros(1 + len(self._units()), np.int64)

    def count(self, X: np.ndarray, predictions: Predictions) -> np.ndarray:
        """Count rows: int64 cells, the first of them how many rows; any others can be added.

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)
            Encoded rows.
        predictions
            Of the same rows.
        """
        n_rows = len(predictions.value)
        some, weight = sample(n_rows, by_model=self.model is not None)
        chosen = Predictions(
            predictions.value[some],
            None if predictions.probability is None else predictions.probability[some],
        )
        values = self._values(X[some], chosen, n_rows, weight)
        return np.concatenate([np.array([n_rows]), to_whole(values, self._units())])

    def _values(
        self, X: np.ndarray, predictions: Predictions, n_rows: int, weight: float
    ) -> np.ndarray:
        if self.metric == "macro_f1":
            return cells_of_classes(predictions, weight)
        if self.metric == "roc_auc":
            assert predictions.probability is not None  # noqa: S101 - classes have them
            return cells_of_ranks(predictions.probability[:, 1], np.array(self.edges), weight)
        if self.model is None:
            mean, variance = expected_of_classes(self.metric, predictions)
            return cells_of_losses(mean, variance, n_rows)
        mean, variance = expected_of_numbers(self.model, X, predictions)
        cells = cells_of_losses(mean, variance, n_rows)
        if self.metric != "r2":
            return cells
        z = (predictions.value - self.middle) / self.width
        return np.concatenate([cells, [weight * z.sum(), weight * (z * z).sum()]])

    def _units(self) -> np.ndarray:
        if self.metric == "macro_f1":
            return np.ones(5 * self.n_classes)
        if self.metric == "roc_auc":
            return np.ones(3 * (len(self.edges) + 1))
        units = np.array([self.unit, self.unit**2])
        return np.concatenate([units, [1.0, 1.0]]) if self.metric == "r2" else units

    def estimate(self, cells: Sequence[int], later: Sequence[Check] = ()) -> Estimate | None:
        """Return the estimate that cells make; None of no rows, or where nothing can be said.

        Parameters
        ----------
        cells
            Added up.
        later
            Checks made since this gauge was fitted: they widen the interval, or narrow it.
        """
        if len(cells) != len(self.none()) or cells[0] <= 0:
            return None
        rows, values = int(cells[0]), from_whole(np.array(cells[1:], np.float64), self._units())
        value, variance = self._read(rows, values)
        if not math.isfinite(value):
            return None
        return with_interval(self.metric, value, variance, rows, (*self.checks, *later))

    def _read(self, rows: int, values: np.ndarray) -> tuple[float, float]:
        """Return the metric, and its variance by chance on the scale errors are compared on."""
        if self.metric == "macro_f1":
            return macro_f1_of(values)
        if self.metric == "roc_auc":
            return roc_auc_of(values)
        mean, variance = max(float(values[0]) / rows, 0.0), float(values[1]) / rows**2
        if self.metric == "r2":
            # The variance of the truth: of what is predicted, and of what is left (law of total
            # variance), were the predictions the means that they are meant to be.
            said = self.width**2 * max(values[3] / rows - (values[2] / rows) ** 2, _TINY)
            return 1 - mean / (said + mean), variance * float(said / (said + mean) ** 2) ** 2
        value = float(METRICS[self.metric].of_mean(mean))
        if self.metric in BY_FACTORS:
            power = 0.5 if self.metric in _ROOTS else 1.0
            return value, power**2 * variance / max(mean, _TINY) ** 2
        return value, variance


def fit_gauge(
    metric: str,
    n_classes: int,
    X: np.ndarray,
    predictions: Predictions,
    y: np.ndarray,
    windows: np.ndarray,
    *,
    ordered: bool,
) -> Gauge:
    """Fit a gauge on rows that the model was not fitted on, and check it window by window.

    Parameters
    ----------
    metric
        Of the workload.
    n_classes
        0 for numbers.
    X : np.ndarray of float32, shape (n_rows, n_features)
        Encoded rows.
    predictions, y
        Of the same rows, and their truth.
    windows : np.ndarray of int64, shape (n_rows,)
        Which window each row falls in, 0 for the newest; see `twinloop.profile.window_numbers`.
    ordered
        Whether rows have time: a window is then estimated from older ones only.
    """
    ages = windows if ordered else np.zeros(len(y), np.int64)
    whole = _fit(metric, n_classes, X, predictions, y, ages)
    lots, checks = chunks(windows, _LOTS), []
    for i, mine in enumerate(lots):
        others = np.any(lots[:i], axis=0) if ordered else ~mine
        if not np.any(others):
            continue
        apart = whole
        if n_classes == 0:
            apart = _fit(metric, 0, X[others], predictions.take(others), y[others], ages[others])
        for number in np.unique(windows[mine])[::-1]:
            at = windows == number
            found = _check(apart, X[at], predictions.take(at), y[at])
            checks += [found] if found else []
    return whole.model_copy(update={"checks": tuple(checks)})


def _fit(
    metric: str,
    n_classes: int,
    X: np.ndarray,
    predictions: Predictions,
    y: np.ndarray,
    ages: np.ndarray,
) -> Gauge:
    if n_classes:
        if metric == "roc_auc":
            assert predictions.probability is not None  # noqa: S101 - classes have them
            cuts = np.quantile(predictions.probability[:, 1], np.linspace(0, 1, _BINS + 1)[1:-1])
            edges = tuple(np.unique(cuts).tolist())
            return Gauge(metric=metric, n_classes=n_classes, edges=edges)
        return Gauge(metric=metric, n_classes=n_classes)
    losses = METRICS["rmse" if metric == "r2" else metric].row_loss
    assert losses is not None  # noqa: S101 - metrics of numbers have one, but R2
    lost = losses(y, predictions)
    model = LossModel.fit(X, predictions.value, lost)
    # Folds of long ago were predicted by models of few rows, which erred more: where losses are
    # high is learned from all rows, how high they are from the newer half.
    new = ages <= np.median(ages)
    expected = float(model.expected(X[new], predictions.value[new]).mean())
    level = float(lost[new].mean()) / max(expected, _TINY)
    model = model.model_copy(update={"unit": max(model.unit * level, _TINY)})
    return Gauge(
        metric=metric,
        unit=model.unit,
        model=model,
        middle=float(predictions.value.mean()),
        width=max(float(predictions.value.std()), _TINY),
    )


def _check(gauge: Gauge, X: np.ndarray, predictions: Predictions, y: np.ndarray) -> Check | None:
    if len(y) < _FEW_ROWS:
        return None
    found = gauge.estimate(gauge.count(X, predictions).tolist())
    realised = METRICS[gauge.metric].score(y, predictions)
    return found.check(realised) if found and math.isfinite(realised) else None


class GaugedCounter(Counter):
    """Counts rows for a profile, and for a gauge.

    Parameters
    ----------
    binning
        Of the profile, whose cells come first.
    gauge
        None: nothing is counted for it.
    """

    def __init__(self, binning: Binning, gauge: Gauge | None) -> None:
        super().__init__(binning)
        self._gauge = gauge
        self._size = len(super().none())

    def count(
        self, X: np.ndarray, predictions: Predictions, nulls: np.ndarray | None = None
    ) -> np.ndarray:
        """Count encoded rows, their predictions and nulls: int64, shape (n_cells,)."""
        cells = super().count(X, predictions, nulls)
        if self._gauge is None:
            return cells
        return np.concatenate([cells, self._gauge.count(X, predictions)])

    def none(self) -> np.ndarray:
        """Return the cells of no rows."""
        cells = super().none()
        return cells if self._gauge is None else np.concatenate([cells, self._gauge.none()])

    def profile(self, cells: np.ndarray, n_rows: int, sample: Sample | None = None) -> Profile:
        """Return the profile that cells make, of how many rows."""
        profile = super().profile(cells[: self._size], n_rows, sample)
        expected = tuple(cells[self._size :].tolist())
        return profile.model_copy(update={"expected": expected})
