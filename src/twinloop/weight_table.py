"""Weight tables: a fitted linear pipeline as one table of numbers, for many rows a second."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from twinloop.candidates import Predictor, one_scale
from twinloop.encoding import Encoding

# They hold estimators, which are compared setting by setting.
_NESTED = frozenset({"transformers", "levels", "quantities"})


@dataclass(frozen=True)
class Quantity:
    """Weights of a column of quantities.

    Attributes
    ----------
    column
        Of the matrix.
    median
        Stands for what is missing.
    mean
        Distances count from it.
    weights : np.ndarray of float64, shape (n_outputs,)
        Of one unit of distance.
    """

    column: int
    median: float
    mean: float
    weights: np.ndarray

    def add(self, totals: np.ndarray, X: np.ndarray) -> None:
        """Add this column's part to totals: shape (n_outputs, n_rows)."""
        far = self._distances(X)
        for output, weight in enumerate(self.weights):
            totals[output] += weight * far

    def parts(self, X: np.ndarray, output: np.ndarray, _: np.ndarray | None = None) -> np.ndarray:
        """Return this column's part of one output a row, less its mean over the fitted rows."""
        return self.weights[output] * self._distances(X)

    def _distances(self, X: np.ndarray) -> np.ndarray:
        values = X[:, self.column].astype(np.float64)
        np.copyto(values, self.median, where=np.isnan(values))
        values -= self.mean
        return values


@dataclass(frozen=True)
class Coded:
    """Weights of a column of codes.

    Attributes
    ----------
    column
        Of the matrix.
    weights : np.ndarray of float64, shape (n_outputs, n_levels + 2)
        First that of a missing code, then of each code, last of any other.
    """

    column: int
    weights: np.ndarray

    def add(self, totals: np.ndarray, X: np.ndarray) -> None:
        """Add this column's part to totals: shape (n_outputs, n_rows)."""
        at = self._places(X)
        for output, weights in enumerate(self.weights):
            totals[output] += weights.take(at)

    def parts(
        self, X: np.ndarray, output: np.ndarray, shares: np.ndarray | None = None
    ) -> np.ndarray:
        """Return this column's part of one output a row, less its mean by shares.

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)
        output : np.ndarray of int64, shape (n_rows,)
        shares : np.ndarray of float64, shape (n_levels + 1,)
            Of each code among the fitted rows, of missing ones last.
        """
        parts = self.weights[output, self._places(X)]
        if shares is None:
            return parts
        return parts - (self.weights[:, :-1] @ np.roll(shares, 1))[output]

    def _places(self, X: np.ndarray) -> np.ndarray:
        codes = X[:, self.column]
        places = np.where(np.isnan(codes), 0, codes + 1).astype(np.intp)
        return np.minimum(places, self.weights.shape[1] - 1, out=places)


@dataclass(frozen=True)
class WeightTable:
    """A linear model on encoded rows.

    It adds one column after the other, each row by itself: a row's answer has the same last bits
    alone and among others, which a matrix product does not promise. Nothing in it changes when it
    is used, so that any number of threads may.

    Attributes
    ----------
    columns
        In the order of the sum.
    intercept : np.ndarray of float64, shape (n_outputs,)
        Of regression and of two classes there is one output.
    classes
        Codes of the classes it knows; none for regression.
    n_classes
        How many there are in all; 0 for regression.
    """

    columns: tuple[Quantity | Coded, ...]
    intercept: np.ndarray
    classes: tuple[int, ...]
    n_classes: int

    def margins(self, X: np.ndarray) -> np.ndarray:
        """Return the sums: float64, shape (n_outputs, n_rows)."""
        totals = np.repeat(self.intercept[:, None], len(X), axis=1)
        for column in self.columns:
            column.add(totals, X)
        return totals

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict rows, as `twinloop.candidates.Predictor.predict` does.

        Parameters
        ----------
        X : np.ndarray of float32, shape (n_rows, n_features)
        """
        totals = self.margins(X)
        if self.n_classes == 0:
            return totals[0]
        full = np.zeros((len(X), self.n_classes))
        for code, share in zip(self.classes, _shares(totals), strict=True):
            full[:, code] = share
        return full


def _shares(totals: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the probability of each class: shape (n_rows,)."""
    if len(totals) == 1:
        second = expit(totals[0])
        yield from (1.0 - second, second)
        return
    # In place, class by class: sums over an axis take their order from the shape of the whole.
    totals -= totals.max(axis=0)
    np.exp(totals, out=totals)
    whole = np.zeros(totals.shape[1])
    for share in totals:
        whole += share
    for share in totals:
        yield share / whole


def weight_table(predictor: Predictor, encoding: Encoding) -> WeightTable | None:
    """Read a fitted linear candidate into a table; None if the predictor is anything else.

    Parameters
    ----------
    predictor
        Ridge or logistic regression as `twinloop.candidates` makes them. A pipeline of the user's
        own with any other setting is none of them.
    encoding
        Tells codes from quantities.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import Pipeline

    model = predictor.model
    if type(model) is not Pipeline or len(model.steps) != 2:
        return None
    columns, last = model[0], model[1]
    wanted = LogisticRegression if predictor.n_classes else RidgeCV
    if type(columns) is not ColumnTransformer or type(last) is not wanted:
        return None
    if _settings(columns) != _settings(one_scale(encoding)):
        return None
    coefficients = np.atleast_2d(last.coef_).astype(np.float64)
    classes = tuple(int(c) for c in last.classes_) if predictor.n_classes else ()
    intercept = np.broadcast_to(np.asarray(last.intercept_, np.float64), len(coefficients))
    read = tuple(_columns(columns, coefficients, encoding))
    return WeightTable(read, intercept, classes, predictor.n_classes)


def _settings(columns: Any) -> tuple[dict[str, str], list[Any]]:
    """Return all that a transformer was made with, NaN being equal to NaN."""
    made = {
        name: repr(value)
        for name, value in columns.get_params().items()
        if name not in _NESTED and name != "quantities__steps"
    }
    return made, [(name, list(where)) for name, _, where in columns.transformers]


def _columns(
    columns: Any, coefficients: np.ndarray, encoding: Encoding
) -> Iterator[Quantity | Coded]:
    coded, at = encoding.coded, 0
    levels = columns.named_transformers_["levels"].categories_ if coded else ()
    for column, seen in zip(coded, levels, strict=True):
        n_levels = encoding.features[column].n_levels
        # A level that no fitted row had counts nothing, as handle_unknown="ignore" has it. Missing
        # ones are a level of their own if a fitted row had none.
        weights = np.zeros((len(coefficients), n_levels + 2))
        places = np.where(np.isnan(seen), 0, seen + 1).astype(np.intp)
        weights[:, places] = coefficients[:, at : at + len(seen)]
        at += len(seen)
        yield Coded(column, weights)
    plain = [i for i in range(len(encoding.features)) if i not in coded]
    if plain:
        imputer, scaler = (step for _, step in columns.named_transformers_["quantities"].steps)
        for k, column in enumerate(plain):
            yield Quantity(
                column,
                float(imputer.statistics_[k]),
                float(scaler.mean_[k]),
                coefficients[:, at + k] / scaler.scale_[k],
            )
