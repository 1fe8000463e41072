"""Estimates without labels against closed forms, scikit-learn and XGBoost; labels are drawn."""

import numpy as np
import pytest
import xgboost as xgb
from sklearn import metrics as sk

from twinloop.evaluation import METRICS
from twinloop.gauge import Gauge, fit_gauge
from twinloop.loss_model import LossModel, _boost, _rows
from twinloop.rule import PLAIN
from twinloop.scorer import Predictions

CLASSES = {"log_loss": 3, "brier": 2, "accuracy": 3, "roc_auc": 2, "macro_f1": 4}


def probabilities(draw: np.random.Generator, n_rows: int, n_classes: int) -> Predictions:
    """Draw calibrated probabilities, sure of some rows and unsure of others."""
    p = draw.dirichlet(np.linspace(0.4, 1.2, n_classes), n_rows)
    return Predictions(PLAIN.decide(p), p)


def labels(draw: np.random.Generator, said: Predictions) -> np.ndarray:
    """Draw each row's class by its probabilities."""
    assert said.probability is not None
    sure = draw.random(len(said.value))[:, None]
    found: np.ndarray = (said.probability.cumsum(axis=1) < sure).sum(axis=1)
    return np.minimum(found, said.probability.shape[1] - 1)


def history(metric: str, seed: int) -> tuple[Predictions, np.ndarray, np.ndarray]:
    """Draw a past of ten windows of 300 rows."""
    draw = np.random.default_rng(seed)
    said = probabilities(draw, 3000, CLASSES[metric])
    return said, labels(draw, said), np.arange(3000)[::-1] // 300


def gauge_of(metric: str, seed: int = 0) -> Gauge:
    """Fit a gauge on a past."""
    said, y, windows = history(metric, seed)
    X = np.zeros((3000, 1), np.float32)
    return fit_gauge(metric, CLASSES[metric], X, said, y, windows, ordered=True)


def of_sklearn(metric: str, y: np.ndarray, said: Predictions) -> float:
    """Return a metric by another implementation."""
    p = said.probability
    assert p is not None
    if metric == "log_loss":
        return float(sk.log_loss(y, p, labels=range(p.shape[1])))
    if metric == "brier":
        return float(sk.brier_score_loss(y, p[:, 1]))
    if metric == "roc_auc":
        return float(sk.roc_auc_score(y, p[:, 1]))
    if metric == "macro_f1":
        return float(sk.f1_score(y, said.value, average="macro"))
    return float(sk.accuracy_score(y, said.value))


@pytest.mark.parametrize("metric", CLASSES)
def test_an_estimate_is_the_mean_over_all_that_labels_may_say(metric: str) -> None:
    """With labels drawn many times, the estimate is their mean, and its variance theirs."""
    draw = np.random.default_rng(1)
    said = probabilities(draw, 800, CLASSES[metric])
    gauge = gauge_of(metric)
    found = gauge.estimate(gauge.count(np.zeros((800, 1), np.float32), said).tolist())
    assert found is not None
    drawn = np.array([of_sklearn(metric, labels(draw, said), said) for _ in range(250)])
    error = 4 * drawn.std() / np.sqrt(len(drawn)) + 0.002
    assert found.value == pytest.approx(drawn.mean(), abs=error)
    scale = np.log(drawn) if metric == "log_loss" else drawn
    # Of macro F1 a bound above the variance is known.
    most = 2.2 if metric == "macro_f1" else 1.2
    assert 0.85 * scale.std() < np.sqrt(found.variance) < most * scale.std()


def test_closed_forms_of_one_probability() -> None:
    """Where every row has the same probability, entropy, p (1 - p), p and a half come out."""
    said = Predictions(np.ones(500, np.int64), np.tile([0.3, 0.7], (500, 1)))
    X = np.zeros((500, 1), np.float32)
    entropy = -0.3 * np.log(0.3) - 0.7 * np.log(0.7)
    wanted = {"log_loss": entropy, "brier": 0.21, "accuracy": 0.7, "roc_auc": 0.5}
    # Of the class that is never said F1 is 0; of the other, precision 0.7 and recall 1.
    wanted["macro_f1"] = (2 * 0.7 / 1.7) / 2
    for metric, value in wanted.items():
        gauge = Gauge(metric=metric, n_classes=2, edges=(0.2, 0.5) if metric == "roc_auc" else ())
        found = gauge.estimate(gauge.count(X, said).tolist())
        assert found is not None
        assert found.value == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("metric", CLASSES)
def test_intervals_of_classes_hold_what_they_promise(metric: str) -> None:
    """Of new windows, about nineteen in twenty lie within the interval."""
    inside = 0
    for seed in range(4):
        gauge, draw = gauge_of(metric, seed), np.random.default_rng(100 + seed)
        for _ in range(50):
            said = probabilities(draw, 300, CLASSES[metric])
            found = gauge.estimate(gauge.count(np.zeros((300, 1), np.float32), said).tolist())
            assert found is not None
            inside += found.holds(METRICS[metric].score(labels(draw, said), said))
    assert inside / 200 >= 0.88


def test_intervals_widen_where_past_estimates_were_wrong() -> None:
    """Probabilities that boast in some windows more than in others: the interval still holds."""
    draw = np.random.default_rng(5)

    def window(n_rows: int) -> tuple[Predictions, np.ndarray]:
        true = probabilities(draw, n_rows, 2)
        assert true.probability is not None
        boast = true.probability ** np.exp(draw.normal(0.3, 0.3))
        p = boast / boast.sum(axis=1, keepdims=True)
        return Predictions(PLAIN.decide(p), p), labels(draw, true)

    parts = [window(400) for _ in range(14)]
    said = Predictions(
        np.concatenate([s.value for s, _ in parts]),
        np.concatenate([s.probability for s, _ in parts if s.probability is not None]),
    )
    y, numbers = np.concatenate([y for _, y in parts]), np.repeat(np.arange(14)[::-1], 400)
    X = np.zeros((len(y), 1), np.float32)
    gauge = fit_gauge("log_loss", 2, X, said, y, numbers, ordered=True)
    plain = gauge.model_copy(update={"checks": gauge.checks[:0]})
    held = chance = 0
    for _ in range(100):
        new, truth = window(400)
        cells = gauge.count(X[:400], new).tolist()
        found, bare = gauge.estimate(cells), plain.estimate(cells)
        assert found is not None
        assert bare is not None
        realised = METRICS["log_loss"].score(truth, new)
        held += found.holds(realised)
        reach = 1.96 * np.sqrt(bare.variance)
        chance += abs(np.log(realised / bare.value)) <= reach
    assert held >= 88
    assert chance < 70


@pytest.mark.parametrize("missing", [False, True])
def test_loss_trees_answer_as_xgboost_does(missing: bool) -> None:
    """The trees kept as plain numbers give the sums that the library gives, bit for bit nearly."""
    draw = np.random.default_rng(2)
    X = draw.normal(size=(3000, 4)).astype(np.float32)
    if missing:
        X[draw.random(X.shape) < 0.2] = np.nan
    losses = np.exp(np.nan_to_num(X[:, 0])) * draw.exponential(size=3000)
    value = draw.normal(size=3000)
    model = LossModel.fit(X, value, losses)
    settings = {
        "objective": "count:poisson",
        "max_depth": 3,
        "eta": 0.3,
        "min_child_weight": 150.0,
        "max_delta_step": 0.7,
        "base_score": 1.0,
        "tree_method": "hist",
        "max_bin": 64,
        "nthread": 1,
        "seed": 0,
    }
    rows = _rows(X, value)
    assert model.trees == _boost(rows, losses / losses.mean())
    matrix = xgb.DMatrix(rows.T, np.minimum(losses / losses.mean(), 100.0))
    wanted = xgb.train(settings, matrix, 20).predict(matrix) * losses.mean()
    np.testing.assert_allclose(model.expected(X, value), wanted, rtol=1e-4)


def test_r2_is_what_is_left_of_the_truth_s_variance() -> None:
    """Where predictions are means, estimated and realised R2 agree, and as scikit-learn has it."""
    draw = np.random.default_rng(8)
    X = draw.normal(size=(6000, 2)).astype(np.float32)
    mean = 3.0 * X[:, 0].astype(np.float64) + 40
    y = mean + draw.normal(size=6000) * (1 + (X[:, 1] > 0))
    said, windows = Predictions(mean), np.arange(6000)[::-1] // 500
    gauge = fit_gauge(
        "r2", 0, X[:5000], said.take(np.arange(5000)), y[:5000], windows[:5000], ordered=True
    )
    found = gauge.estimate(gauge.count(X[5000:], said.take(np.arange(5000, 6000))).tolist())
    assert found is not None
    assert found.value == pytest.approx(sk.r2_score(y[5000:], mean[5000:]), abs=0.02)
