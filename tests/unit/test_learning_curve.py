"""A learning curve takes parts of the folds, and only what the budget has room for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.learning_curve import SHARES, CurvePoint, affordable, part_of_folds
from twinloop.results import CandidateResult, FoldScore
from twinloop.splitting import Split
from twinloop.workload import Workload

N_ROWS = 400


def split() -> Split:
    """Return two folds of 300 fitted rows and 50 others."""
    rows = np.arange(N_ROWS)
    folds = ((rows[50:350], rows[:50]), (rows[:300], rows[300:350]))
    return Split(
        train=rows[:350], folds=folds, holdout=rows[350:], served=rows, description="by hand"
    )


def result(fit: float = 10.0, predict: float = 1.0) -> CandidateResult:
    """Return a winner of two folds."""
    folds = tuple(FoldScore(train=1, valid=v, train_rows=300, valid_rows=50) for v in (2, 3))
    return CandidateResult(
        name="linear",
        metric="rmse",
        folds=folds,
        fit_seconds=fit,
        predict_seconds=predict,
        rows=100,
    )


@given(st.sampled_from([0.125, 0.25, 0.5, 1.0]), st.integers(0, 2**32 - 1))
def test_a_part_is_of_the_fold_and_nests(share: float, seed: int) -> None:
    """Fitted rows are a share of the fold's, within every larger share; what is held out stays."""
    whole = split()
    some = part_of_folds(whole, share, times=None, groups=None, seed=seed)
    more = part_of_folds(whole, min(2 * share, 1.0), times=None, groups=None, seed=seed)
    for (few, valid), (many, _), (all_rows, held) in zip(
        some.folds, more.folds, whole.folds, strict=True
    ):
        assert len(few) == int(300 * share)
        assert set(few) <= set(many) <= set(all_rows)
        np.testing.assert_array_equal(valid, held)
        assert (np.diff(few) > 0).all()
    np.testing.assert_array_equal(some.holdout, whole.holdout)
    again = part_of_folds(whole, share, times=None, groups=None, seed=seed)
    np.testing.assert_array_equal(again.folds[0][0], some.folds[0][0])


def test_with_time_the_latest_rows_are_kept() -> None:
    """More history reaches further back; rows of one instant stay together."""
    times = np.arange(N_ROWS) // 10
    found = part_of_folds(split(), 0.25, times=times, groups=None, seed=0)
    assert [(f.min(), f.max()) for f, _ in found.folds] == [(270, 349), (220, 299)]


def test_groups_stay_whole() -> None:
    """A group is in or out, and who is in hangs on the seed."""
    groups = np.array([f"g{i % 40}" for i in range(N_ROWS)])
    found = part_of_folds(split(), 0.25, times=None, groups=groups, seed=1)
    for (few, _), (whole, _) in zip(found.folds, split().folds, strict=True):
        inside = set(groups[few])
        assert set(whole[np.isin(groups[whole], list(inside))]) == set(few)
        assert 75 <= len(few) <= 85
    other = part_of_folds(split(), 0.25, times=None, groups=groups, seed=2)
    assert set(groups[other.folds[0][0]]) != set(groups[found.folds[0][0]])


def test_a_part_has_rows_enough_to_fit() -> None:
    """Twenty at least, or all there are."""
    found = part_of_folds(split(), 0.001, times=None, groups=None, seed=0)
    assert [len(f) for f, _ in found.folds] == [20, 20]


@pytest.mark.parametrize(("spent", "room"), [(0.0, True), (48.2, True), (48.3, False)])
def test_the_budget_decides(spent: float, room: bool) -> None:
    """The shares' part of the winner's fits, and its predictions once a share, must fit in."""
    workload = Workload.model_validate(
        {
            "name": "w",
            "task": "regression",
            "source": {"kind": "files", "path": "x"},
            "target": "y",
            "training": {"budget": {"minutes": 1}},
        }
    )
    assert (sum(SHARES), len(SHARES)) == (0.875, 3)
    assert affordable(result(), spent, workload) is room


def test_a_point_knows_its_rows_and_the_overlap_of_whole_folds() -> None:
    """Few rows have a wide interval by their spread, not because few rows overlap more."""
    point = CurvePoint(share=0.5, result=result(), overlap=0.0)
    assert point.rows == 300
    low, high = point.interval
    assert high - low < result().interval[1] - result().interval[0]
