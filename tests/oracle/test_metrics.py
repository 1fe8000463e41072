"""Metrics against scikit-learn and against plain loops."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from twinloop.evaluation import METRICS, block_ids, block_means, watched_metric
from twinloop.scorer import Predictions
from twinloop.vocabulary import METRICS_BY_TASK

SETTINGS = settings(max_examples=50, deadline=None)
Score = Callable[[np.ndarray, Predictions], float]


def probability(p: Predictions) -> np.ndarray:
    """Return the probabilities, which a classifier always has."""
    assert p.probability is not None
    return p.probability


NUMERIC: dict[str, Score] = {
    "rmse": lambda y, p: oracle.root_mean_squared_error(y, p.value),
    "rmsle": lambda y, p: oracle.root_mean_squared_log_error(y, p.value),
    "mae": lambda y, p: oracle.mean_absolute_error(y, p.value),
    "r2": lambda y, p: oracle.r2_score(y, p.value),
}
CLASSES: dict[str, Score] = {
    "log_loss": lambda y, p: oracle.log_loss(y, probability(p), labels=range(3)),
    "accuracy": lambda y, p: oracle.accuracy_score(y, p.value),
    "macro_f1": lambda y, p: oracle.f1_score(y, p.value, average="macro"),
}
BINARY: dict[str, Score] = {
    "roc_auc": lambda y, p: oracle.roc_auc_score(y, probability(p)[:, 1]),
    "log_loss": lambda y, p: oracle.log_loss(y, probability(p)[:, 1], labels=[0, 1]),
    "brier": lambda y, p: oracle.brier_score_loss(y, probability(p)[:, 1]),
    "accuracy": lambda y, p: oracle.accuracy_score(y, p.value),
    "macro_f1": lambda y, p: oracle.f1_score(y, p.value, average="macro"),
}


def classified(y: np.ndarray, n_classes: int, seed: int) -> Predictions:
    """Return random probabilities of these rows."""
    shares = np.random.default_rng(seed).dirichlet(np.ones(n_classes), len(y))
    return Predictions(shares.argmax(axis=1), shares)


@pytest.mark.parametrize("name", list(NUMERIC))
@SETTINGS
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_numeric_metrics_agree(name: str, seed: int, n_rows: int) -> None:
    """Each equals scikit-learn's of the same rows."""
    draw = np.random.default_rng(seed)
    y, guess = draw.exponential(10, (2, n_rows))
    predictions = Predictions(guess)
    assert METRICS[name].score(y, predictions) == pytest.approx(
        NUMERIC[name](y, predictions), rel=1e-9
    )


@pytest.mark.parametrize("name", list(CLASSES))
@SETTINGS
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_metrics_of_classes_agree(name: str, seed: int, n_rows: int) -> None:
    """Each equals scikit-learn's of the same rows, also where a class is absent."""
    y = np.random.default_rng(seed).integers(0, 3, n_rows)
    predictions = classified(y, 3, seed + 1)
    assert METRICS[name].score(y, predictions) == pytest.approx(
        CLASSES[name](y, predictions), rel=1e-9
    )


@pytest.mark.parametrize("name", list(BINARY))
@SETTINGS
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_metrics_of_two_classes_agree(name: str, seed: int, n_rows: int) -> None:
    """Each equals scikit-learn's of the same rows."""
    y = np.array([0, 1, *np.random.default_rng(seed).integers(0, 2, n_rows)])
    predictions = classified(y, 2, seed + 1)
    assert METRICS[name].score(y, predictions) == pytest.approx(
        BINARY[name](y, predictions), rel=1e-9
    )


@SETTINGS
@given(st.integers(0, 2**32 - 1))
def test_the_area_under_the_curve_counts_pairs(seed: int) -> None:
    """It is the share of pairs in the right order, ties counting half (Hanley, McNeil 1982)."""
    draw = np.random.default_rng(seed)
    y, score = draw.permutation([0, 1] * 6), draw.integers(0, 4, 12) / 4
    wins = [
        1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
        for i in np.flatnonzero(y == 1)
        for j in np.flatnonzero(y == 0)
    ]
    predictions = Predictions((score > 0.5).astype(int), np.column_stack([1 - score, score]))
    assert METRICS["roc_auc"].score(y, predictions) == pytest.approx(np.mean(wins))


@pytest.mark.parametrize("name", [n for n, m in METRICS.items() if m.row_loss is not None])
def test_a_metric_is_a_function_of_its_mean_loss(name: str) -> None:
    """What the bootstrap resamples is what the metric scores."""
    metric = METRICS[name]
    y = np.array([0, 1, 1, 0])
    predictions = classified(y, 2, 3)
    assert metric.row_loss is not None
    losses = metric.row_loss(y, predictions)
    assert losses.shape == (4,)
    assert metric.score(y, predictions) == pytest.approx(metric.of_mean(sum(losses) / 4))


@pytest.mark.parametrize("name", list(METRICS))
def test_the_truth_scores_best(name: str) -> None:
    """Perfect predictions beat others, and the gain is then positive."""
    metric = METRICS[name]
    y = np.array([0, 1, 1, 0])
    right = Predictions(y, np.eye(2)[y])
    wrong = Predictions(1 - y, np.eye(2)[1 - y])
    scores = [metric.score(y, p) for p in (right, wrong)]
    assert metric.gain(*scores) > 0 > metric.gain(*reversed(scores))


@pytest.mark.parametrize("name", list(METRICS))
def test_no_score_lies_beyond_its_bounds(name: str) -> None:
    """The best there is reaches the better end, and the worst stays within the other."""
    metric = METRICS[name]
    y = np.array([0, 1, 1, 0])
    least, most = metric.bounds
    right, wrong = (metric.score(v, Predictions(y, np.eye(2)[y])) for v in (y, 1 - y))
    assert right == pytest.approx(most if metric.greater_is_better else least)
    assert least <= wrong <= most


def test_every_task_finds_its_metrics() -> None:
    """There is code for each metric a workload may name, and none besides."""
    assert {m for names in METRICS_BY_TASK.values() for m in names} == set(METRICS)


def test_a_class_never_seen_is_the_worst_case() -> None:
    """A label the model cannot name costs the largest loss, and is never right."""
    y, predictions = np.array([-1, 1]), classified(np.array([0, 1]), 2, 1)
    assert METRICS["log_loss"].row_loss is not None
    assert METRICS["log_loss"].row_loss(y, predictions)[0] == pytest.approx(-np.log(1e-15))
    assert METRICS["accuracy"].score(y[:1], predictions.take(np.array([0]))) == 0.0
    assert METRICS["brier"].score(y[:1], predictions.take(np.array([0]))) == 1.0


def test_a_class_never_seen_has_no_place_in_the_ranking() -> None:
    """The area under the curve is that of the known rows; of one class it is not a number."""
    y = np.array([0, 1, -1, 0, 1])
    predictions = classified(np.abs(y), 2, 5)
    known = np.flatnonzero(y >= 0)
    metric = METRICS["roc_auc"]
    assert metric.score(y, predictions) == metric.score(y[known], predictions.take(known))
    assert np.isnan(metric.score(np.array([1, 1, -1, 1, 1]), predictions))


@pytest.mark.parametrize("name", list(METRICS))
def test_a_watched_metric_is_a_loss_by_the_row(name: str) -> None:
    """Smaller is better, and there is one number a row."""
    watched = watched_metric(name)
    assert watched.row_loss is not None
    assert not watched.greater_is_better


@SETTINGS
@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(0, 100)), min_size=1, max_size=20))
def test_means_of_blocks_agree_with_a_loop(rows: list[tuple[int, float]]) -> None:
    """Each block's mean is that of its rows, in the order of the blocks."""
    blocks = np.array([b for b, _ in rows])
    losses = np.array([loss for _, loss in rows])
    wanted = [np.mean([v for b, v in rows if b == block]) for block in sorted(set(blocks))]
    np.testing.assert_allclose(block_means(losses, blocks), wanted)


def test_a_block_is_a_day() -> None:
    """Rows of one UTC day belong together, also before 1970; without time each is its own."""
    hour = 3_600_000_000
    assert block_ids(np.array([0, 23 * hour, 24 * hour, -1]), 4).tolist() == [0, 0, 1, -1]
    assert block_ids(None, 3).tolist() == [0, 1, 2]
