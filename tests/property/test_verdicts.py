"""A verdict promotes what is better, and hardly ever what is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.evaluation import METRICS
from twinloop.paired import Pairing
from twinloop.scorer import Predictions
from twinloop.verdict import Verdict, compare, first_version

ROWS_A_BLOCK = 8


def judge(
    y: np.ndarray,
    champion: Predictions,
    challenger: Predictions,
    blocks: np.ndarray,
    name: str,
    margin: float = 0.0,
) -> Verdict:
    """Compare two models by the usual rules."""
    pairing = Pairing(y, champion, challenger, blocks, METRICS[name])
    return compare(pairing, min_rows=30, margin=margin)


def judged(
    seed: int, n_blocks: int, edge: float = 0.0, name: str = "rmse", margin: float = 0.0
) -> Verdict:
    """Judge two models whose errors are of equal size, the challenger's shrunk by an edge.

    Rows of one block share a part of their errors, as neighbouring hours do.
    """
    draw = np.random.default_rng([seed, n_blocks])
    blocks = np.repeat(np.arange(n_blocks), ROWS_A_BLOCK)
    y = draw.normal(size=len(blocks))
    errors = draw.normal(size=(2, len(blocks))) + draw.normal(size=(2, n_blocks))[:, blocks]
    champion, challenger = Predictions(y + errors[0]), Predictions(y + (1 - edge) * errors[1])
    return judge(y, champion, challenger, blocks, name, margin)


def test_a_real_gain_is_promoted() -> None:
    """Errors a third smaller over thirty days are found nearly always, and losses kept out."""
    better = [judged(seed, 30, edge=0.33).outcome for seed in range(30)]
    worse = [judged(seed, 30, edge=-0.5).outcome for seed in range(30)]
    assert better.count("promote") >= 27
    assert worse.count("keep") >= 27
    assert "keep" not in better
    assert "promote" not in worse


def test_a_margin_asks_for_more() -> None:
    """A gain of a third promotes where a tenth is wanted; of a half, it is known to fall short."""
    half = [judged(seed, 90, edge=0.33, margin=0.5) for seed in range(20)]
    tenth = [judged(seed, 90, edge=0.33, margin=0.1).outcome for seed in range(20)]
    assert tenth.count("promote") >= 18
    assert [v.outcome for v in half].count("keep") >= 14
    assert "promote" not in {v.outcome for v in half}
    for verdict in half:
        (check,) = verdict.checks
        assert verdict.champion is not None
        assert check.limit == pytest.approx(0.5 * verdict.champion)
        assert "wanted" in verdict.reason


CLASSIFIED = ["accuracy", "roc_auc", "log_loss"]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["rmse", "mae", "r2", *CLASSIFIED]))
def test_swapping_the_models_turns_the_verdict(seed: int, name: str) -> None:
    """The gain changes its sign, the interval is mirrored, promote becomes keep."""
    draw = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(8), 5)
    y = draw.integers(0, 2, 40)
    models = []
    for strength in draw.uniform(0, 1, 2):
        p = np.clip(strength * y + (1 - strength) * draw.random(40), 0.01, 0.99)
        value = (p > 0.5).astype(int) if name in CLASSIFIED else p
        models.append(Predictions(value, np.column_stack([1 - p, p])))
    one, other = models
    there = judge(y, one, other, blocks, name)
    back = judge(y, other, one, blocks, name)
    turned = {"promote": "keep", "keep": "promote"}
    assert back.outcome == turned.get(there.outcome, there.outcome)
    assert (back.champion, back.challenger) == (there.challenger, there.champion)
    assert there.gain is not None
    assert there.low is not None
    assert there.high is not None
    assert [back.gain, back.low, back.high] == pytest.approx([-there.gain, -there.high, -there.low])


@pytest.mark.parametrize(("n_blocks", "n_rows"), [(4, 100), (1, 100), (10, 29)])
def test_too_little_is_no_evidence(n_blocks: int, n_rows: int) -> None:
    """With few rows or few blocks even a perfect challenger waits; the counts are told."""
    y = np.arange(float(n_rows))
    found = judge(y, Predictions(y + 100), Predictions(y), np.arange(n_rows) % n_blocks, "rmse")
    assert found.outcome == "insufficient evidence"
    assert (found.n_rows, found.n_blocks) == (n_rows, n_blocks)
    assert found.reason.startswith(f"{n_rows} fresh rows in {n_blocks} blocks")


def test_a_metric_that_has_no_value_is_no_evidence() -> None:
    """Fresh rows of one class have no ranking: the champion stays, and the reason is told."""
    sure = Predictions(np.ones(40, int), np.tile([0.2, 0.8], (40, 1)))
    found = judge(np.ones(40, int), sure, sure, np.arange(40), "roc_auc")
    assert found.outcome == "insufficient evidence"
    assert found.reason == "roc_auc cannot be computed on these 40 rows"


def test_a_model_does_not_beat_itself() -> None:
    """Equal predictions have a gain of nothing and stay where they are."""
    y = np.arange(50.0)
    same = Predictions(y + 1)
    found = judge(y, same, same, np.arange(50), "mae")
    assert (found.outcome, found.gain) == ("insufficient evidence", 0.0)


def test_the_numbers_are_those_of_the_metric() -> None:
    """Both scores and their difference are told, and the interval holds the gain."""
    found = judged(3, 30, edge=0.3, name="mae")
    assert found.gain is not None
    assert found.champion is not None
    assert found.challenger is not None
    assert found.low is not None
    assert found.high is not None
    assert found.gain == pytest.approx(found.champion - found.challenger)
    assert found.low < found.gain < found.high
    assert (found.metric, found.n_rows, found.n_blocks) == ("mae", 240, 30)


def test_a_verdict_is_the_same_each_time_and_survives_json() -> None:
    """Nothing is drawn at random; the ledger keeps the verdict as JSON."""
    found = judged(5, 10)
    assert judged(5, 10) == found
    assert Verdict.model_validate_json(found.model_dump_json()) == found


def test_the_first_version_is_promoted() -> None:
    """Where nothing serves, there is nothing to beat."""
    assert first_version("rmse", 1.5).outcome == "promote"
