"""Bin edges from few rows make the trees that all rows would make."""

import numpy as np
import pytest

from twinloop import boosting
from twinloop.candidates import Predictor, fit_candidate
from twinloop.edges import bin_edges, with_levels
from twinloop.encoding import Encoding, Feature
from twinloop.problem import Problem


def test_few_values_are_all_edges() -> None:
    """A value that occurs once in thousands of rows is an edge as much as a common one."""
    rare = np.zeros(5000)
    rare[17] = 3.0
    edges = bin_edges(np.column_stack([rare, np.arange(5000) % 7]).astype(np.float32))
    assert edges[:2, 0].tolist() == [0.0, 3.0]
    assert np.isnan(edges[2:, 0]).all()
    assert edges[:, 1].tolist() == list(range(7))


def test_many_values_are_cut_at_their_ranks() -> None:
    """At most 256 edges, from the least value to the greatest, about equally many rows between."""
    values = np.random.default_rng(0).lognormal(size=(10_000, 1)).astype(np.float32)
    values[::10] = np.nan
    edges = bin_edges(values)[:, 0]
    assert len(edges) == 256
    assert edges[0] == np.nanmin(values)
    assert edges[-1] == np.nanmax(values)
    rows = np.histogram(values[~np.isnan(values)], edges)[0]
    assert rows.max() <= 40


def test_a_column_of_nothing_has_no_edge() -> None:
    """It is left to be missing, and makes no other column's edges so."""
    X = np.column_stack([np.full(9, np.nan), np.arange(9)]).astype(np.float32)
    assert np.isnan(bin_edges(X)[:, 0]).all()
    assert not np.isnan(bin_edges(X)[:, 1]).any()
    assert bin_edges(X[:, :1]).shape == (1, 1)


def test_every_code_of_a_category_is_an_edge() -> None:
    """Whatever stood in its column, and though there are more codes than other edges."""
    edges = np.array([[1.0, 5.0], [2.0, 6.0]], np.float32)
    full = with_levels(edges, {1: 3})
    assert full[:, 1].tolist() == [0.0, 1.0, 2.0]
    assert full[:2, 0].tolist() == [1.0, 2.0]
    assert edges[:, 1].tolist() == [5.0, 6.0]


@pytest.mark.parametrize("n_values", [2, 20, 250])
def test_trees_are_those_of_all_rows(n_values: int) -> None:
    """Where edges are all the values there are, XGBoost grows the very trees it grows without."""
    draw = np.random.default_rng(n_values)
    X = draw.integers(0, n_values, (3000, 3)).astype(np.float32)
    X[draw.random(X.shape) < 0.05] = np.nan
    y = np.nan_to_num(X[:, 0]) + draw.normal(size=3000)
    features = tuple(Feature(name=n, source=n, how="number") for n in "abc")
    plain, shared = (
        fit_candidate(
            "xgboost",
            X,
            y,
            Encoding(features=features),
            Problem("regression", 0, "rmse", 0, 1, edges, rounds=20),
        ).predict(X)
        for edges in (None, bin_edges(X))
    )
    np.testing.assert_array_equal(plain, shared)


def _grown(X: np.ndarray, y: np.ndarray, edges: np.ndarray | None = None) -> Predictor:
    encoding = Encoding(
        features=tuple(Feature(name=f"f{i}", source=f"f{i}", how="number") for i in range(len(X.T)))
    )
    problem = Problem("regression", 0, "rmse", 0, 1, edges, rounds=30)
    return fit_candidate("xgboost", X, y, encoding, problem)


def test_few_edges_of_quantities_predict_as_well_as_all_values() -> None:
    """The error on rows that neither saw differs by less than 1 %."""
    draw = np.random.default_rng(5)
    X = draw.normal(size=(8000, 4)).astype(np.float32)
    X[draw.random(X.shape) < 0.02] = np.nan
    y = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 1]) + draw.normal(size=8000)
    learn, held = slice(0, 6000), slice(6000, None)
    own, shared = (
        float(np.sqrt(np.mean((_grown(X[learn], y[learn], e).predict(X[held]) - y[held]) ** 2)))
        for e in (None, bin_edges(X[learn][::3]))
    )
    assert shared == pytest.approx(own, rel=0.01)


def test_a_model_is_the_same_however_its_rows_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few cells are read as an array, many as a frame, without names: to the bit the same trees."""
    draw = np.random.default_rng(6)
    X = draw.normal(size=(3000, 3)).astype(np.float32)
    X[draw.random(X.shape) < 0.05] = np.nan
    y = np.nansum(X, axis=1)
    models = []
    for few in (0, X.size):
        monkeypatch.setattr(boosting, "_FEW_CELLS", few)
        models.append(bytes(_grown(X, y).model.save_raw("json")))
    assert models[0] == models[1]
