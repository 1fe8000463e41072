"""Boosting stops by rows it was given to fit on, and by no other."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from twinloop.candidates import fit_candidate
from twinloop.contract import infer_contract
from twinloop.encoding import Encoding, Feature
from twinloop.problem import Problem, Rows
from twinloop.scorer import Scorer, learn_target
from twinloop.splitting import split_rows
from twinloop.stopping import SHARE, stopping_rows
from twinloop.validation import fit_scorer
from twinloop.vocabulary import AnyCandidate
from twinloop.workload import Workload

N_ROWS = 600
START = datetime(2020, 1, 1, tzinfo=UTC)
WORKLOAD = Workload.model_validate(
    {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
        "time": "t",
        "training": {"folds": 2, "holdout": 0.2},
    }
)
both = pytest.mark.parametrize("name", ["xgboost", "boosting"])


@given(
    st.integers(1, 400),
    st.integers(1, 60),
    st.sampled_from(["times", "groups", "chance"]),
    st.integers(0, 99),
)
def test_stopping_rows_are_apart(n: int, kinds: int, how: str, seed: int) -> None:
    """Each row is on one side; later ones stop, groups stay whole, and about the share is taken."""
    draw = np.random.default_rng(seed)
    marks = draw.integers(0, kinds, n)
    named: dict[str, Any] = {} if how == "chance" else {how: marks}
    parts = stopping_rows(np.zeros(n), seed=seed, **named)
    if parts is None:
        # Too few rows, or too few marks to cut between.
        assert n * SHARE <= 21 or how != "chance"
        return
    learn, stop = parts
    assert sorted([*learn, *stop]) == list(range(n))
    if how == "times":
        assert marks[learn].max() < marks[stop].min()
    if how == "groups":
        assert not set(marks[learn]) & set(marks[stop])
    if how == "chance":
        assert len(stop) == pytest.approx(n * SHARE, abs=1)
    if how != "groups":
        assert len(stop) <= n * SHARE + 1


def test_a_gap_is_left_before_the_rows_that_stop() -> None:
    """What validation keeps apart is kept apart here, too."""
    times = np.arange(400)
    parts = stopping_rows(np.zeros(400), times=times, gap=30)
    assert parts is not None
    learn, stop = parts
    assert times[stop].min() - times[learn].max() == 31
    assert len(stop) == 60
    assert stopping_rows(np.zeros(400), times=times, gap=300) is None


def test_no_row_stops_by_a_class_nobody_learned() -> None:
    """Such rows are left out of those that stop; with one class left to learn, nothing stops."""
    times = np.arange(400)
    y = np.where(times > 380, 2, times % 2)
    parts = stopping_rows(y, times=times, classes=True)
    assert parts is not None
    assert set(y[parts[1]]) == {0, 1}
    assert stopping_rows((times > 345).astype(int), times=times, classes=True) is None


def history(seed: int) -> pa.Table:
    """Return 600 hours with a number, a level, and a target."""
    draw = np.random.default_rng(seed)
    n, level = draw.normal(size=N_ROWS), draw.integers(0, 3, N_ROWS)
    return pa.table(
        {
            "t": pa.array(
                [START + timedelta(hours=h) for h in range(N_ROWS)], pa.timestamp("us", "UTC")
            ),
            "n": n,
            "c": pa.array(["abc"[v] for v in level]),
            "y": n + level + draw.normal(size=N_ROWS),
        }
    )


def fitted(table: pa.Table, name: AnyCandidate) -> tuple[Scorer, np.ndarray, np.ndarray]:
    """Fit the first fold of a table; return its fitted and other rows, too."""
    times = table.column("t").cast(pa.int64()).to_numpy()
    split = split_rows(WORKLOAD, N_ROWS, times=times)
    train, valid = split.folds[-1]
    target, contract = learn_target(table, WORKLOAD), infer_contract(history(1), WORKLOAD, "f")
    rows = table.take(pa.array(train))
    scorer = fit_scorer(rows, name, target, contract, WORKLOAD, threads=1)
    return scorer, train, np.append(valid, split.holdout)


def changed(
    table: pa.Table, rows: np.ndarray, n: float | np.ndarray, y: float | np.ndarray
) -> pa.Table:
    """Return the table with other values in these rows."""
    columns = {k: table.column(k).to_numpy().copy() for k in ("n", "y")}
    columns["n"][rows], columns["y"][rows] = n, y
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    return table


@both
@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_validation_rows_stop_nothing(name: AnyCandidate, n: float, y: float) -> None:
    """Whatever the validation and holdout rows hold, the model is as long and predicts the same."""
    table = history(1)
    scorer, train, others = fitted(table, name)
    assert stopping_rows(np.zeros(len(train)), times=train) is not None
    other, *_ = fitted(changed(table, others, n, y), name)
    assert rounds(scorer) == rounds(other)
    np.testing.assert_array_equal(scorer.predict(table).value, other.predict(table).value)


def rounds(scorer: Scorer) -> int:
    """Count the rounds of a boosted model."""
    model = scorer.predictor.model
    return int(model.num_boosted_rounds() if hasattr(model, "save_raw") else model.n_iter_)


@both
def test_the_newest_fitted_rows_stop(name: AnyCandidate) -> None:
    """The test above can fail: a signal turned round in the last fitted rows stops it at once."""
    table = history(1)
    plain, train, _ = fitted(table, name)
    late = train[-60:]
    signal = table.column("n").to_numpy()[late]
    turned, *_ = fitted(changed(table, late, signal, -3 * signal), name)
    assert 5 < rounds(plain) < 200
    assert rounds(turned) < rounds(plain) / 2


@both
def test_the_last_model_is_fitted_on_all_rows(name: AnyCandidate) -> None:
    """Rows that stopped the trial are learned from: what only they show is predicted."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(600, 2)).astype(np.float32)
    late = np.arange(600) >= 520
    X[:, 1] = late
    y = X[:, 0] + 0.5 * draw.normal(size=600) + 3 * late
    encoding = Encoding(features=tuple(Feature(name=n, source=n, how="number") for n in "ab"))
    problem = Problem("regression", 0, "rmse", seed=0, threads=1)
    model = fit_candidate(name, X, y, encoding, problem, Rows(times=np.arange(600)))
    assert abs(model.predict(X)[late].mean() - y[late].mean()) < 1.0


def test_the_best_round_counts_not_the_last() -> None:
    """The trial goes on for a while after it, as XGBoost's own does; its trees are not kept."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(600, 1)).astype(np.float32)
    y = X[:, 0] + draw.normal(size=600)
    params: dict[str, object] = {"eta": 0.1, "max_depth": 6, "subsample": 0.8, "seed": 0}
    params |= {"colsample_bytree": 0.8, "min_child_weight": 2.0, "tree_method": "hist"}
    params |= {"nthread": 1}
    learn = xgb.QuantileDMatrix(X[:510], y[:510])
    evals = [(xgb.QuantileDMatrix(X[510:], y[510:], ref=learn), "stop")]
    trial = xgb.train(params, learn, 500, evals=evals, early_stopping_rounds=25, verbose_eval=False)
    encoding = Encoding(features=(Feature(name="a", source="a", how="number"),))
    problem = Problem("regression", 0, "rmse", seed=0, threads=1)
    found = fit_candidate("xgboost", X, y, encoding, problem, Rows(times=np.arange(600))).model
    assert found.num_boosted_rounds() == trial.best_iteration + 1
    assert trial.num_boosted_rounds() == found.num_boosted_rounds() + 25
