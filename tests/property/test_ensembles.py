"""No ensemble looks good because it was chosen to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.ensemble import (
    MOST_PICKS,
    HeldOut,
    gain_by,
    mean_of,
    mean_powers,
    select_weights,
    weights_by_fold,
)
from twinloop.scorer import Target

NUMBER = Target(name="y", task="regression")
CLASSES = Target(name="y", task="binary", classes=("a", "b"))
RMSE, AUC = gain_by("rmse", NUMBER), gain_by("roc_auc", CLASSES)
LOSS = gain_by("log_loss", CLASSES)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 5)


def library(seed: int, n_members: int, n_folds: int = 3, n_rows: int = 12) -> list[HeldOut]:
    """Return folds of rows, and members that are more or less wrong about them."""
    draw = np.random.default_rng(seed)
    wrong = draw.uniform(0.2, 2, n_members)[:, None]
    folds = []
    for i in range(n_folds):
        y = draw.normal(size=n_rows)
        said = y + wrong * draw.normal(size=(n_members, n_rows)) + draw.normal(size=n_rows) / 3
        folds.append(HeldOut(np.arange(n_rows) + i * n_rows, y, said))
    return folds


@given(SEEDS, SIZES)
def test_weights_sum_to_one_and_hang_on_nothing_else(seed: int, n_members: int) -> None:
    """They are shares of at most twenty picks, the same each time."""
    folds = library(seed, n_members)
    weights = select_weights(folds, RMSE)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert any(np.allclose(weights * n, np.round(weights * n)) for n in range(1, MOST_PICKS + 1))
    assert (weights == select_weights(folds, RMSE)).all()


@given(SEEDS, SIZES)
def test_on_the_rows_it_was_selected_on_no_member_is_better(seed: int, n_members: int) -> None:
    """The first pick is the best member, and what follows is kept only if it is better."""
    folds = library(seed, n_members)
    weights = select_weights(folds, RMSE)
    whole = np.mean([RMSE(f.y, mean_of(f.said, weights)) for f in folds])
    alone = [np.mean([RMSE(f.y, f.said[i]) for f in folds]) for i in range(n_members)]
    assert whole >= max(alone) - 1e-9


@given(SEEDS, st.integers(0, 3), st.booleans())
def test_weights_of_a_fold_know_nothing_of_its_truth(seed: int, at: int, ordered: bool) -> None:
    """With other truths in a fold, and by time in all later ones, its weights are the same."""
    folds = library(seed, 4, n_folds=4)
    other = np.random.default_rng(seed + 1)
    changed = [
        HeldOut(f.rows, other.normal(size=len(f.y)), f.said)
        if i == at or (ordered and i > at)
        else f
        for i, f in enumerate(folds)
    ]
    before = weights_by_fold(folds, RMSE, ordered=ordered, best=1)
    after = weights_by_fold(changed, RMSE, ordered=ordered, best=1)
    assert (before[at] == after[at]).all()


@given(SEEDS, st.integers(0, 3), st.booleans())
def test_tempered_weights_of_a_fold_know_nothing_of_its_truth(
    seed: int, at: int, ordered: bool
) -> None:
    """Nor does what their mean is raised to; by time the same holds of all later folds."""
    draw = np.random.default_rng(seed)
    folds, changed = [], []
    for i in range(4):
        odds, rows = draw.normal(size=40), np.arange(40) + 40 * i
        share = 1 / (1 + np.exp(-np.outer([1, 4, 8], odds) - draw.normal(size=(3, 40))))
        y = (draw.random(40) < 1 / (1 + np.exp(-odds))).astype(int)
        folds.append(HeldOut(rows, y, np.stack([1 - share, share], axis=2)))
        later = i == at or (ordered and i > at)
        changed.append(HeldOut(rows, 1 - y if later else y, folds[-1].said))
    powers = [[1.0, 0.3, 0.2]] * 4
    found = []
    for some in (folds, changed):
        weights = weights_by_fold(some, LOSS, ordered=ordered, best=0, powers=powers)
        found.append((weights, mean_powers(some, weights, powers, ordered=ordered)))
    (before, one), (after, two) = found
    assert (before[at] == after[at]).all()
    assert one[at] == two[at]


def test_members_are_weighed_as_they_are_tempered() -> None:
    """One that knows nearly all, but not how little it knows, is heard once it is tempered."""
    draw = np.random.default_rng(0)
    odds = 2 * draw.normal(size=900)
    y = (draw.random(900) < 1 / (1 + np.exp(-odds))).astype(int)
    share = 1 / (1 + np.exp(-np.stack([0.5 * (odds + 2 * draw.normal(size=900)), 10 * odds])))
    whole = np.stack([1 - share, share], axis=2)
    folds = [HeldOut(r, y[r], whole[:, r]) for r in np.split(np.arange(900), 3)]
    raw = weights_by_fold(folds, LOSS, ordered=False, best=0)
    fair = weights_by_fold(folds, LOSS, ordered=False, best=0, powers=[[1.0, 0.1]] * 3)
    assert max(w[1] for w in raw) < 0.7 < min(w[1] for w in fair)


def test_noise_does_not_look_better_by_selection() -> None:
    """Of thirty members that know nothing a mean is found that ranks its rows; not other rows."""
    flattered, honest, best = [], [], []
    for seed in range(12):
        draw = np.random.default_rng(seed)
        folds = []
        for i in range(4):
            share = draw.random((30, 60))
            y = draw.integers(0, 2, 60)
            folds.append(HeldOut(np.arange(60) + 60 * i, y, np.stack([1 - share, share], axis=2)))
        weights = select_weights(folds, AUC)
        flattered.append(np.mean([AUC(f.y, mean_of(f.said, weights)) for f in folds]))
        apart = weights_by_fold(folds, AUC, ordered=False, best=0)
        pairs = zip(folds, apart, strict=True)
        honest.append(np.mean([AUC(f.y, mean_of(f.said, w)) for f, w in pairs]))
        best.append(max(np.mean([AUC(f.y, f.said[i]) for f in folds]) for i in range(30)))
    assert np.mean(flattered) > 0.6
    assert np.mean(honest) == pytest.approx(0.5, abs=0.03)
    # The best single one was chosen for being best, too: noise never leads it.
    assert np.mean(honest) < np.mean(best)
