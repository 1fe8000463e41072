"""A rule is learned from rows outside the fit, helps on new rows, and survives JSON."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from twinloop.evaluation import METRICS
from twinloop.rule import PLAIN, Rule, learn_rule, scores_by_cut, tune_threshold
from twinloop.scorer import Predictions
from twinloop.workload import Workload


def two(second: np.ndarray) -> np.ndarray:
    """Return the probabilities of both classes."""
    return np.column_stack([1 - second, second])


def workload_of(metric: str = "macro_f1", task: str = "binary", **training: object) -> Workload:
    """Return a workload of classes."""
    return Workload.model_validate(
        {
            "name": "w",
            "task": task,
            "metric": metric,
            "source": {"kind": "files", "path": "x"},
            "target": "y",
            "training": training,
        }
    )


def rare(n: int, seed: int, shift: float = -2.5) -> tuple[np.ndarray, np.ndarray]:
    """Return true probabilities of a rare class, and classes drawn by them."""
    draw = np.random.default_rng(seed)
    said = expit(draw.normal(shift, 1.5, n))
    return said, (draw.random(n) < said).astype(int)


def folds_of(n: int) -> np.ndarray:
    """Return five folds."""
    return np.arange(n) * 5 // n


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_counting_agrees_with_scoring(metric: str, seed: int, n_rows: int) -> None:
    """For each cut the score is that of the predictions it makes, ties and absent classes, too."""
    draw = np.random.default_rng(seed)
    said, y = draw.integers(0, 5, n_rows) / 4, draw.integers(0, 2, n_rows)
    cuts = np.array([-1.0, 0.1, 0.25, 0.5, 0.99, 2.0])
    wanted = [METRICS[metric].score(y, Predictions((said > c).astype(int))) for c in cuts]
    np.testing.assert_allclose(scores_by_cut(said, y, cuts, metric), wanted)


def test_a_rare_class_gets_a_lower_threshold() -> None:
    """Macro F1 gains on new rows, though no row of theirs was looked at."""
    said, y = rare(4000, 1)
    found = tune_threshold(said, y, folds_of(4000), "macro_f1", ordered=False)
    assert 0.15 < found < 0.45
    new, truth = rare(4000, 2)
    plain, tuned = scores_by_cut(new, truth, np.array([0.5, found]), "macro_f1")
    assert tuned > plain + 0.02


def test_of_true_probabilities_one_half_is_best_for_accuracy() -> None:
    """Then no other threshold is kept, or one next to it: luck is not mistaken for gain."""
    far = [
        abs(tune_threshold(*rare(1000, seed, 0.0), folds_of(1000), "accuracy", ordered=False) - 0.5)
        for seed in range(20)
    ]
    assert np.mean([d == 0 for d in far]) >= 0.7
    assert max(far) < 0.15


@pytest.mark.parametrize("ordered", [True, False])
def test_a_shifted_model_gets_its_threshold_back(ordered: bool) -> None:
    """Where the classes part at 0.2 all rows can be told apart, and will be."""
    said = np.linspace(0, 1, 500)
    y = (said > 0.2).astype(int)
    mixed = np.random.default_rng(0).permutation(500)
    found = tune_threshold(said[mixed], y[mixed], folds_of(500), "accuracy", ordered=ordered)
    assert found == pytest.approx(0.2, abs=0.006)


def test_of_equal_thresholds_the_nearest_to_one_half_is_taken() -> None:
    """Cuts at 0.15 and at 0.35 make as many mistakes, in every fold."""
    said = np.tile(np.repeat([0.1, 0.2, 0.3, 0.4], [50, 5, 5, 50]), 5)
    y = np.tile(np.repeat([0, 1, 0, 1], [50, 5, 5, 50]), 5)
    found = tune_threshold(said, y, folds_of(550), "accuracy", ordered=False)
    assert found == pytest.approx(0.35)


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "brier"])
def test_metrics_of_probabilities_leave_one_half(metric: str) -> None:
    """They do not look at the class, so nothing is tuned."""
    assert tune_threshold(*rare(500, 1), folds_of(500), metric, ordered=False) == 0.5


@pytest.mark.parametrize("folds", [np.zeros(50, int), np.arange(50) // 25])
def test_without_folds_to_judge_by_nothing_is_tuned(folds: np.ndarray) -> None:
    """A gain seen once has no error to hold it against."""
    said = np.tile(np.linspace(0, 1, 25), 2)
    y = (said > 0.2).astype(int)
    assert tune_threshold(said, y, folds, "accuracy", ordered=True) == 0.5


@given(st.floats(0.01, 0.99), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_class_follows_the_threshold(threshold: float, said: list[float]) -> None:
    """The second of two where its probability is above; of more the likeliest, whatever it is."""
    rule = Rule(threshold=threshold)
    second = np.array(said)
    assert rule.decide(two(second)).tolist() == [int(p > threshold) for p in said]
    three = np.column_stack([second, 1 - second, second / 2])
    np.testing.assert_array_equal(rule.decide(three), three.argmax(axis=1))


def test_a_rule_has_what_the_workload_wants() -> None:
    """Both, one, none, or a threshold that was given; numbers have no rule."""
    said, y = rare(2000, 3)
    spoilt, folds = two(expit(3 * np.log(said / (1 - said)))), folds_of(2000)

    def learned(**keys: object) -> Rule:
        return learn_rule(spoilt, y, folds, workload_of(**keys))  # type: ignore[arg-type]

    both = learned()
    assert both.calibration.method != "none"
    assert both.threshold < 0.5
    only = learned(calibration="none")
    assert only.calibration.method == "none"
    # The same rows are cut off, by probabilities that mean something else.
    assert only.threshold < both.threshold
    given_one = learned(calibration="none", threshold=0.3)
    assert given_one == Rule(threshold=0.3)
    assert learned(metric="roc_auc").threshold == 0.5
    assert learned(metric="roc_auc").calibration.method == "sigmoid"
    assert learn_rule(None, y, folds, workload_of()) == PLAIN


def test_a_ranking_is_not_cut_into_steps() -> None:
    """Isotonic regression, best for the log loss of these rows, would tie what is to be ranked."""
    draw = np.random.default_rng(5)
    said = draw.random(4000)
    y = (draw.random(4000) < np.where(said < 0.5, 0.1, 0.9)).astype(int)
    found = {
        metric: learn_rule(two(said), y, folds_of(4000), workload_of(metric)).calibration.method
        for metric in ("log_loss", "roc_auc")
    }
    assert found["log_loss"] == "isotonic"
    assert found["roc_auc"] != "isotonic"


def test_many_classes_have_no_threshold() -> None:
    """Not even where the second class would gain by one."""
    said = np.random.default_rng(0).permutation(np.linspace(0, 1, 500))
    y = (said > 0.2).astype(int)
    three = np.column_stack([1 - said, said, np.zeros(500)])
    workload = workload_of("accuracy", "multiclass", calibration="none")
    assert learn_rule(three, y, folds_of(500), workload) == PLAIN


def test_of_many_classes_only_the_calibration_is_learned() -> None:
    """The likeliest class stays the likeliest."""
    draw = np.random.default_rng(0)
    true = draw.dirichlet(np.ones(3), 2000)
    y = (true.cumsum(axis=1) < draw.random((2000, 1))).sum(axis=1)
    spoilt = true**3 / (true**3).sum(axis=1, keepdims=True)
    rule = learn_rule(spoilt, y, folds_of(2000), workload_of("accuracy", "multiclass"))
    assert (rule.calibration.method, rule.threshold) == ("temperature", 0.5)
    after = rule.calibration.apply(spoilt)
    np.testing.assert_array_equal(after.argmax(axis=1), spoilt.argmax(axis=1))


def test_equal_rows_make_equal_rules() -> None:
    """Nothing is drawn."""
    said, y = rare(1500, 4)
    found = [learn_rule(two(said**2), y, folds_of(1500), workload_of()) for _ in range(2)]
    assert found[0] == found[1]
    assert Rule.model_validate_json(found[0].model_dump_json()) == found[0]
