"""Candidates are ranked by what they did on rows they had not seen."""

import math
import random

import pytest

from twinloop.results import CandidateResult, FoldScore, Leaderboard, gap_text, rank
from twinloop.vocabulary import CandidateName

NAMES: tuple[CandidateName, ...] = ("baseline", "linear", "forest", "xgboost")


def result(name: CandidateName, valid: list[float], metric: str = "rmse") -> CandidateResult:
    """Return a candidate with these scores on the folds' validation rows."""
    folds = tuple(FoldScore(train=v / 2, valid=v) for v in valid)
    return CandidateResult(
        name=name, metric=metric, folds=folds, fit_seconds=1.0, predict_seconds=0.1, rows=10
    )


@pytest.mark.parametrize(
    ("metric", "order"),
    [
        ("rmse", ["xgboost", "linear", "forest", "baseline"]),
        ("roc_auc", ["forest", "linear", "xgboost", "baseline"]),
    ],
)
def test_the_best_comes_first_and_none_last(metric: str, order: list[str]) -> None:
    """Small errors and large areas win; a candidate without a value is behind all others."""
    values = {"xgboost": 0.1, "linear": 0.2, "forest": 0.3, "baseline": math.nan}
    for seed in range(10):
        found = [result(name, [values[name]], metric) for name in NAMES]
        random.Random(seed).shuffle(found)  # noqa: S311 - an order, not a secret
        assert [c.name for c in rank(found)] == order


def test_equals_keep_their_order() -> None:
    """Of two equals the one named first in the workload wins: the simpler one."""
    assert [c.name for c in rank([result(n, [0.5]) for n in NAMES])] == list(NAMES)
    assert [c.name for c in rank([result(n, [math.nan]) for n in NAMES])] == list(NAMES)


def test_a_fold_without_a_value_does_not_count() -> None:
    """Mean and spread are those of the folds that have a value; of none there is no mean."""
    some = result("linear", [0.2, math.nan, 0.4])
    assert (some.valid, some.train) == pytest.approx((0.3, 0.15))
    assert some.spread == pytest.approx(0.02**0.5)
    none = result("linear", [math.nan])
    assert math.isnan(none.valid)
    assert (none.spread, result("linear", [0.2]).spread) == (0.0, 0.0)


def test_the_winner_leads_the_board() -> None:
    """The first of the ranking is the winner, and the board survives JSON."""
    board = Leaderboard(
        candidates=rank([result(n, [0.5 - i / 10]) for i, n in enumerate(NAMES[:3])]),
        skipped=("xgboost",),
        split="5 folds",
    )
    assert board.winner.name == "forest"
    assert Leaderboard.model_validate_json(board.model_dump_json()) == board


def scored(
    valid: list[float], train: list[float], rows: tuple[int, int], metric: str = "accuracy"
) -> CandidateResult:
    """Return a candidate with these scores, every fold of as many fitted and validation rows."""
    folds = tuple(
        FoldScore(train=t, valid=v, train_rows=rows[0], valid_rows=rows[1])
        for v, t in zip(valid, train, strict=True)
    )
    return CandidateResult(
        name="linear", metric=metric, folds=folds, fit_seconds=1.0, predict_seconds=0.1, rows=10
    )


def test_the_error_of_the_mean_counts_what_folds_share() -> None:
    """Variance times (1/k + validation rows / fitted rows), as Nadeau and Bengio have it."""
    found = scored([0.6, 0.7, 0.8, 0.7, 0.7], [0.7] * 5, (80, 20))
    assert found.standard_error == pytest.approx(found.spread * (1 / 5 + 20 / 80) ** 0.5)
    low, high = found.interval
    # 2.7764 is Student's t with 4 degrees of freedom at 97.5 %.
    assert (high - low) / 2 == pytest.approx(2.7764 * found.standard_error, rel=1e-4)
    assert (high + low) / 2 == pytest.approx(found.valid)


def test_expanding_folds_share_by_their_rows() -> None:
    """All validation rows are held against all fitted ones, however unlike folds are."""
    folds = tuple(
        FoldScore(train=0.5, valid=v, train_rows=n, valid_rows=100)
        for v, n in ((0.5, 100), (0.6, 200), (0.7, 300))
    )
    found = scored([0.5], [0.5], (1, 1)).model_copy(update={"folds": folds})
    assert found.standard_error == pytest.approx(0.1 * (1 / 3 + 300 / 600) ** 0.5)


def test_results_without_counts_are_taken_for_even_folds() -> None:
    """Boards written before rows were counted have an interval, too: that of k even folds."""
    found = result("linear", [0.2, 0.3, 0.4])
    assert found.standard_error == pytest.approx(0.1 * (1 / 3 + 1 / 2) ** 0.5)


@pytest.mark.parametrize(("metric", "ends"), [("accuracy", (0.0, 1.0)), ("rmse", (0.0, 1e9))])
def test_an_interval_holds_possible_values_only(metric: str, ends: tuple[float, float]) -> None:
    """No accuracy above 1, no error below 0."""
    low, high = scored([0.0, 1.0, 0.5], [0.5] * 3, (2, 1), metric).interval
    assert low == ends[0]
    assert high <= ends[1]
    assert (metric == "rmse") == (high > 1)


def test_of_one_fold_no_interval_is_known() -> None:
    """One value says nothing of its own error, and no gap is wide then."""
    found = scored([0.5], [1.0], (80, 20))
    assert math.isnan(found.standard_error)
    assert all(math.isnan(end) for end in found.interval)
    assert (found.overfits, gap_text(found)) == (False, "0.5")


@pytest.mark.parametrize(
    ("metric", "train", "gap", "wide"),
    [
        ("accuracy", 0.75, 0.05, False),
        ("accuracy", 1.0, 0.3, True),
        ("accuracy", 0.2, -0.5, False),
        ("rmse", 0.1, 0.6, True),
        ("rmse", 0.65, 0.05, False),
        ("rmse", 1.7, -1.0, False),
    ],
)
def test_a_gap_is_wide_beyond_the_interval(
    metric: str, train: float, gap: float, wide: bool
) -> None:
    """Better on fitted rows by more than the validation score's interval; worse is never wide."""
    found = scored([0.65, 0.7, 0.75], [train] * 3, (2, 1), metric)
    assert found.gap == pytest.approx(gap)
    assert found.overfits is wide
    assert gap_text(found).endswith(", wide") is wide


def test_a_fold_without_a_score_survives_json_that_anybody_reads() -> None:
    """A search that is resumed and a version fitted again read it back; NaN is no JSON."""
    text = result("linear", [1.0, math.nan]).model_dump_json()
    assert "NaN" not in text
    again = CandidateResult.model_validate_json(text)
    assert again.folds[0].valid == 1.0
    assert math.isnan(again.folds[1].valid)
