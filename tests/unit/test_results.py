"""Candidates are ranked by what they did on rows they had not seen."""

import math
import random

import pytest

from twinloop.results import CandidateResult, FoldScore, Leaderboard, rank
from twinloop.workload import CandidateName

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
