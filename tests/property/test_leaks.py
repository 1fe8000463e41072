"""What is fitted in a fold has seen no row of its validation."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from twinloop.candidates import Predictor
from twinloop.contract import Contract, infer_contract
from twinloop.scorer import Scorer, learn_target
from twinloop.splitting import split_rows
from twinloop.validation import fit_rows, fit_scorer, label_rows
from twinloop.vocabulary import CandidateName
from twinloop.workload import Workload

CANDIDATES: tuple[CandidateName, ...] = get_args(CandidateName)
N_ROWS = 90
START = datetime(2020, 1, 1, tzinfo=UTC)
WORKLOAD = Workload.model_validate(
    {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
        "time": "t",
        "training": {"folds": 3, "holdout": 0.2},
    }
)


def history(seed: int) -> pa.Table:
    """Return rows of 90 hours with a number, a level and a target."""
    draw = np.random.default_rng(seed)
    n, level = draw.normal(size=N_ROWS), draw.integers(0, 3, N_ROWS)
    return pa.table(
        {
            "t": [START + timedelta(hours=h) for h in range(N_ROWS)],
            "n": n,
            "c": pa.array([None if v == 2 else "ab"[v] for v in level]),
            "y": n + level + draw.normal(size=N_ROWS) / 5,
        }
    ).cast(
        pa.schema(
            {
                "t": pa.timestamp("us", "UTC"),
                "n": pa.float64(),
                "c": pa.string(),
                "y": pa.float64(),
            }
        )
    )


def changed(table: pa.Table, rows: np.ndarray, n: float, level: str | None, y: float) -> pa.Table:
    """Return the table with other values in these rows."""
    columns: dict[str, Any] = table.to_pydict()
    for i in rows:
        columns["n"][i], columns["c"][i], columns["y"][i] = n, level, y
    return pa.table(columns, table.schema)


def fold_scorer(table: pa.Table, contract: Contract, name: CandidateName, fold: int) -> Scorer:
    """Fit a candidate the way a fold does: on the fold's training rows."""
    split = split_rows(WORKLOAD, N_ROWS, times=table.column("t").cast(pa.int64()).to_numpy())
    # All rows at hand, as in a training: they are encoded once, and each fold takes its own.
    rows = label_rows(table, contract, learn_target(table, WORKLOAD), WORKLOAD, split)
    return fit_rows(rows, name, split.folds[fold][0], threads=1)


def statistics(predictor: Predictor) -> dict[str, list[float]]:
    """Return what a linear candidate's scaler and imputer learned."""
    plain = predictor.model[0].named_transformers_["quantities"]
    return {
        "medians": plain[0].statistics_.tolist(),
        "means": plain[1].mean_.tolist(),
        "scales": plain[1].scale_.tolist(),
    }


@pytest.mark.parametrize("name", CANDIDATES)
# Each example fits two models: a failure is told as it is found, not shrunk for minutes.
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.integers(0, 2),
    st.floats(-1e6, 1e6),
    st.sampled_from(["a", "only here", None]),
    st.floats(-1e6, 1e6),
)
def test_validation_rows_leave_no_trace(
    name: CandidateName, fold: int, n: float, level: str | None, y: float
) -> None:
    """Any change of validation and holdout rows leaves encoder, scaler and predictions alike."""
    table = history(1)
    contract = infer_contract(table, WORKLOAD, "f")
    split = split_rows(WORKLOAD, N_ROWS, times=table.column("t").cast(pa.int64()).to_numpy())
    other = changed(table, np.append(split.folds[fold][1], split.holdout), n, level, y)
    one, two = (fold_scorer(t, contract, name, fold) for t in (table, other))
    assert one.encoding == two.encoding
    np.testing.assert_array_equal(one.predict(table).value, two.predict(table).value)
    if name == "linear":
        assert statistics(one.predictor) == statistics(two.predictor)


@pytest.mark.parametrize("name", CANDIDATES[1:])
def test_training_rows_do_leave_a_trace(name: CandidateName) -> None:
    """The test above can fail: a changed training row is seen."""
    table = history(1)
    contract = infer_contract(table, WORKLOAD, "f")
    other = changed(table, np.array([0, 1, 2]), 3.0, "new", 50.0)
    one, two = (fold_scorer(t, contract, name, 0) for t in (table, other))
    assert one.encoding != two.encoding
    assert (one.predict(table).value != two.predict(table).value).any()


def test_a_level_of_validation_rows_is_unseen() -> None:
    """The fold's encoder has no code for it, and encodes it as missing."""
    table = history(2)
    times = table.column("t").cast(pa.int64()).to_numpy()
    _, valid = split_rows(WORKLOAD, N_ROWS, times=times).folds[1]
    other = changed(table, valid, 0.0, "only here", 0.0)
    scorer = fold_scorer(other, infer_contract(other, WORKLOAD, "f"), "baseline", 1)
    (feature,) = [f for f in scorer.encoding.features if f.name == "c"]
    assert set(feature.levels) == {"a", "b"}
    at = scorer.encoding.names.index("c")
    assert np.isnan(scorer.encoding.encode(other.take(pa.array(valid)))[:, at]).all()


@pytest.mark.parametrize("name", CANDIDATES[1:])
@pytest.mark.parametrize("task", ["regression", "binary"])
def test_a_shuffled_target_teaches_nothing(name: CandidateName, task: str) -> None:
    """Out of sample a candidate fitted on noise is no better than the baseline."""
    draw = np.random.default_rng(11)
    n_rows = 600
    n = draw.normal(size=(2, n_rows))
    y = draw.permutation(n.sum(axis=0) + (n[0] > 1))
    target = pa.array(y > 0) if task == "binary" else pa.array(y)
    table = pa.table({"a": n[0], "b": n[1], "y": target})
    workload = WORKLOAD.model_copy(update={"time": None, "task": task})
    contract = infer_contract(table, workload, "f")
    scores = {}
    for candidate in ("baseline", name):
        scorer = fit_scorer(
            table.slice(0, 300),
            candidate,
            learn_target(table, workload),
            contract,
            workload,
            threads=1,
        )
        truth = scorer.target.encode(table.column("y").slice(300))
        found = scorer.predict(table.slice(300))
        guess = found.value if found.probability is None else found.probability[:, 1]
        scores[candidate] = float(np.mean((guess - truth) ** 2))
    # Four standard errors of the mean of 300 squared errors are about a third of it.
    assert scores[name] > 0.9 * scores["baseline"]
