"""Candidates are judged by what they know, not by how sure they say they are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from tasks.calibrating import temper_folds
from tasks.outoffold import SEEN, OutOfFold
from twinloop.calibration import log_losses
from twinloop.evaluation import METRICS
from twinloop.results import CandidateResult, FoldScore, rank
from twinloop.scorer import Predictions
from twinloop.tempering import Unseen, best_power, powers_of, raised, tempers
from twinloop.validation import shares_of, tempered
from twinloop.workload import Workload

SEEDS = st.integers(0, 2**32 - 1)
N_FOLDS, FOLD_ROWS = 4, 150


def workload_of(metric: str = "log_loss", **training: object) -> Workload:
    """Return a workload of classes."""
    base = {"name": "w", "source": {"kind": "files", "path": "x"}, "target": "y"}
    task = "regression" if metric == "rmse" else "binary"
    return Workload.model_validate(base | {"task": task, "metric": metric, "training": training})


def said(seed: int, n_rows: int, knows: float, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of three classes as sure as a power makes them, and the truth."""
    draw = np.random.default_rng(seed)
    true = softmax(knows * draw.normal(size=(n_rows, 3)), axis=1)
    y = (true.cumsum(axis=1) < draw.random((n_rows, 1))).sum(axis=1)
    return softmax(power * np.log(true), axis=1), y


def folds_of(seed: int, repeats: int = 1) -> list[Unseen]:
    """Return folds of rows that a model is far too sure of."""
    n_rows = N_FOLDS * FOLD_ROWS
    probability, y = said(seed, n_rows, 2.0, 3.0)
    draws = [np.random.default_rng(seed + i).permutation(n_rows) for i in range(repeats)]
    parts = [np.sort(part) for draw in draws for part in np.split(draw, N_FOLDS)]
    return [Unseen(part, probability[part], y[part]) for part in parts]


@pytest.mark.parametrize("power", [0.2, 0.5, 2.0, 3.0])
def test_the_power_that_was_used_is_undone(power: float) -> None:
    """On many rows, to a step of the grid and what chance leaves."""
    probability, y = said(0, 8000, 1.5, power)
    found = best_power(probability, y)
    assert found * power == pytest.approx(1, rel=0.12)
    assert log_losses(raised(probability, found), y).mean() < log_losses(probability, y).mean()


def test_probabilities_that_mean_what_they_say_are_left_alone() -> None:
    """Mostly: the gain has to be more than its standard error. None is told by no row at all."""
    found = [best_power(*said(seed, 400, 1.5, 1.0)) for seed in range(20)]
    assert sum(power != 1 for power in found) <= 3
    assert best_power(np.empty((0, 3)), np.empty(0, np.int64)) == 1
    probability, y = said(0, 50, 1.5, 4.0)
    assert best_power(probability, np.full_like(y, -1)) == 1
    assert raised(probability, 1.0) is probability


def test_a_class_held_for_impossible_is_made_possible() -> None:
    """One row may cost an infinite loss: no gain is then within its standard error."""
    probability, y = np.tile([0.9, 0.1], (300, 1)), np.repeat([0, 1], [270, 30])
    probability[:20] = [0.0, 1.0]
    assert best_power(probability, y) != 1


@given(SEEDS, st.integers(0, N_FOLDS - 1), st.integers(1, 2), st.booleans())
def test_the_power_of_a_fold_knows_nothing_of_its_truth(
    seed: int, at: int, repeats: int, ordered: bool
) -> None:
    """With other labels for its rows, wherever they are, and by time for all later ones."""
    folds = folds_of(seed, 1 if ordered else repeats)
    changed = np.concatenate([f.rows for f in folds[at:]]) if ordered else folds[at].rows
    other = [
        Unseen(f.rows, f.probability, np.where(np.isin(f.rows, changed), (f.y + 1) % 3, f.y))
        for f in folds
    ]
    before, whole = powers_of(folds, ordered=ordered)
    after, changed_whole = powers_of(other, ordered=ordered)
    assert after[at] == before[at]
    # It can fail: others do know of these rows.
    assert changed_whole != whole
    assert all(power < 0.6 for power in before[1 if ordered else 0 :])
    assert not ordered or before[0] == 1


def leave(folder: Path, probability: np.ndarray) -> None:
    """Write what a candidate's folds leave behind."""
    (folder / SEEN).mkdir(parents=True)
    for i, rows in enumerate(np.split(np.arange(len(probability)), N_FOLDS)):
        predictions = Predictions(probability[rows].argmax(axis=1), probability[rows])
        OutOfFold(rows, predictions).save(folder / f"{i}.npz")
        OutOfFold(rows, predictions).save(folder / SEEN / f"{i}.npz")


def test_who_knows_more_wins_however_sure_it_is(tmp_path: Path) -> None:
    """One knows nearly all and hardly says so; the other knows half of it and says just that."""
    spec, score = workload_of(), FoldScore(train=9.0, valid=9.0, train_rows=9, valid_rows=9)
    draw, n_rows = np.random.default_rng(1), 800
    odds = 3 * draw.normal(size=n_rows)
    y = (draw.random(n_rows) < 1 / (1 + np.exp(-odds))).astype(int)
    vague = softmax(0.05 * np.column_stack([0 * odds, odds]), axis=1)
    half = odds + draw.normal(size=n_rows) * 2
    fair = softmax(0.6 * np.column_stack([0 * half, half]), axis=1)
    plain, results = {}, []
    for name, probability in (("forest", vague), ("linear", fair)):
        leave(tmp_path / name, probability)
        plain[name] = log_losses(probability, y).mean()
        files = {p: p.read_bytes() for p in (tmp_path / name).rglob("*.npz")}
        scores, power = temper_folds(spec, y, [score] * N_FOLDS, tmp_path / name)
        assert {p: p.read_bytes() for p in files} == files
        result = CandidateResult(
            name=name,
            metric="log_loss",
            folds=scores,
            fit_seconds=1,
            predict_seconds=1,
            rows=n_rows,
            power=power,
        )
        results.append(result)
    assert plain["linear"] < plain["forest"] - 0.1
    assert rank(results)[0].name == "forest"
    assert results[0].power > 5
    assert results[0].train == pytest.approx(results[0].valid)
    # Each fold has the score of what its own power makes of its own rows.
    for i, fold in enumerate(results[0].folds):
        rows = np.split(np.arange(n_rows), N_FOLDS)[i]
        wanted = METRICS["log_loss"].score(
            y[rows], Predictions(y[rows], raised(vague[rows], fold.power))
        )
        assert fold.valid == wanted


@pytest.mark.parametrize(
    ("metric", "training", "wanted"),
    [
        ("log_loss", {}, True),
        ("brier", {}, True),
        ("roc_auc", {}, False),
        ("accuracy", {}, False),
        ("rmse", {}, False),
        ("log_loss", {"calibration": "none"}, False),
    ],
)
def test_only_what_reads_probabilities_is_tempered(
    metric: str, training: dict[str, object], wanted: bool, tmp_path: Path
) -> None:
    """And only where calibration is not refused: else no file is looked at."""
    spec, scores = workload_of(metric, **training), [FoldScore(train=1.0, valid=2.0)]
    assert tempers(spec) == wanted
    if not wanted:
        assert temper_folds(spec, np.zeros(1), scores, tmp_path) == (tuple(scores), 1.0)


def test_numbers_have_no_probabilities() -> None:
    """To temper them is a mistake; to leave them as they are is none."""
    numbers = Predictions(np.zeros(2))
    assert tempered(numbers, 1.0) is numbers
    with pytest.raises(ValueError, match="no probabilities"):
        shares_of(numbers)


def test_results_of_before_can_be_read() -> None:
    """They know of no power: what they hold was scored as it was said."""
    assert FoldScore.model_validate_json('{"train": 1, "valid": 2}').power == 1
