"""Of equal models a verdict promotes one in twenty at most; of better ones, most.

Seeds are fixed, so a rate is what it is. The setting is unkind on purpose: rows of a day share
errors, models differ in everything but their worth, and some days are ten times as long as others.
"""

from dataclasses import replace

import numpy as np
import pytest

from twinloop.evaluation import METRICS
from twinloop.paired import Pairing, holm, measure_gain
from twinloop.scorer import Predictions
from twinloop.slices import Slicing
from twinloop.verdict import compare, slice_gains, slices_check, with_checks

REPEATS = 1000
ROWS_A_DAY = 10
SHARES = {"macro_f1": (0.6, 0.3, 0.1)}


def days(draw: np.random.Generator, n_days: int, kind: str) -> np.ndarray:
    """Return the day of each row."""
    sizes = np.full(n_days, ROWS_A_DAY)
    if kind == "unequal":
        sizes = draw.integers(2, 2 * ROWS_A_DAY - 1, n_days)
    return np.repeat(np.arange(n_days), sizes)


def errors(draw: np.random.Generator, blocks: np.ndarray, kind: str) -> np.ndarray:
    """Return errors of two models: shape (2, n_rows), a part of them shared within a day."""
    n_days = int(blocks[-1]) + 1
    daily = draw.normal(size=(2, n_days))
    if kind == "dependent":
        for t in range(1, n_days):
            daily[:, t] = 0.4 * daily[:, t - 1] + np.sqrt(1 - 0.4**2) * daily[:, t]
    found = draw.normal(size=(2, len(blocks))) + daily[:, blocks]
    if kind == "heavy":
        found = np.sign(found) * np.expm1(0.9 * np.abs(found))
    return np.asarray(found)


def pairing(
    seed: int, n_days: int, name: str = "rmse", kind: str = "plain", edge: float = 0.0
) -> Pairing:
    """Put two equally good models before the same rows; an edge makes the new one better."""
    draw = np.random.default_rng([seed, n_days])
    blocks = days(draw, n_days, kind)
    e = errors(draw, blocks, kind) * np.array([[1.0], [1.0 - edge]])
    metric, n = METRICS[name], len(blocks)
    if name in ("rmse", "rmsle"):
        level = 6.0 + draw.normal(size=n)
        if name == "rmse":
            old, new = (Predictions(level + v) for v in e)
            return Pairing(level, old, new, blocks, metric)
        old, new = (Predictions(np.expm1(level + 0.3 * v)) for v in e)
        return Pairing(np.expm1(level), old, new, blocks, metric)
    shares = np.array(SHARES.get(name, (0.75, 0.25)))
    k = len(shares)
    y = np.searchsorted(np.cumsum(shares[:-1]), draw.random(n)).astype(np.int64)
    marks = 1.5 * (y[:, None] == np.arange(k)) + 0.5 * e[:, :, None] * np.linspace(-1, 1, k)
    odds = np.exp(
        marks + 0.7 * (1 - edge * np.array([0, 1]))[:, None, None] * draw.normal(size=(2, n, k))
    )
    models = (p / p.sum(axis=1, keepdims=True) for p in odds)
    old, new = (Predictions(p.argmax(axis=1), p) for p in models)
    return Pairing(y, old, new, blocks, metric)


def promotions(n_days: int, name: str, kind: str, edge: float = 0.0, repeats: int = REPEATS) -> int:
    """Count the repeats that promote."""
    found = (compare(pairing(i, n_days, name, kind, edge), min_rows=30) for i in range(repeats))
    return sum(v.outcome == "promote" for v in found)


@pytest.mark.parametrize("kind", ["plain", "unequal", "heavy", "dependent"])
@pytest.mark.parametrize("n_days", [5, 7, 12, 28, 90])
def test_equal_models_are_promoted_in_five_of_a_hundred_at_most(n_days: int, kind: str) -> None:
    """Whether errors are heavy-tailed, days unequal, or each day a little like the one before."""
    assert promotions(n_days, "rmse", kind) <= 0.05 * REPEATS


@pytest.mark.parametrize("name", ["rmsle", "log_loss", "accuracy", "roc_auc", "macro_f1"])
@pytest.mark.parametrize("n_days", [7, 40])
def test_the_rate_holds_for_every_kind_of_metric(n_days: int, name: str) -> None:
    """Also for those that are no mean over rows."""
    assert promotions(n_days, name, "unequal") <= 0.05 * REPEATS


def test_rows_without_an_order_hold_the_rate() -> None:
    """Where each row is a block of its own, in a file sorted by the target."""
    promoted = 0
    for seed in range(REPEATS):
        found = pairing(seed, 12)
        order = np.argsort(found.y)
        alone = replace(found.take(order), blocks=np.arange(len(order)), ordered=False)
        # Rows of a day hang together no more: errors drawn anew for each.
        e = np.random.default_rng([seed, 1]).normal(size=(2, len(order)))
        models = (Predictions(alone.y + v) for v in e)
        promoted += measure_gain(replace(alone, old=next(models), new=next(models))).low > 0
    assert 0.02 * REPEATS <= promoted <= 0.05 * REPEATS


@pytest.mark.parametrize(("n_days", "edge"), [(14, 0.4), (28, 0.25), (90, 0.15)])
def test_a_real_gain_is_promoted_in_most_repeats(n_days: int, edge: float) -> None:
    """Errors smaller by 40, 25 or 15 % are found in two, four and twelve weeks."""
    assert promotions(n_days, "rmse", "plain", edge, repeats=300) > 0.6 * 300


def test_a_challenger_with_rare_disasters_is_as_good_as_none() -> None:
    """A little better on most days, far worse on some, equal on the whole: no more often."""
    promoted = 0
    for seed in range(REPEATS):
        draw = np.random.default_rng(seed)
        blocks = np.repeat(np.arange(14), ROWS_A_DAY)
        shift = np.where(draw.random(14) < 0.1, 0.27, -0.03)[blocks]
        losses = draw.normal(size=len(blocks)) ** 2 + 0.3 * draw.normal(size=(2, len(blocks)))
        y = np.zeros(len(blocks))
        # What is lost is the metric itself: predictions above a truth of zero, as a mean error.
        old, new = (Predictions(v + 3) for v in (losses[0], losses[1] + shift))
        promoted += measure_gain(Pairing(y, old, new, blocks, METRICS["mae"])).low > 0
    assert promoted <= 0.05 * REPEATS


def slicings(found: Pairing, n_levels: int = 6) -> list[Slicing]:
    """Cut rows by two columns that have nothing to do with anything."""
    codes = np.random.default_rng(len(found.y)).integers(0, n_levels, size=(2, len(found.y)))
    levels = tuple(str(i) for i in range(n_levels))
    return [Slicing(name, codes[i], levels) for i, name in enumerate("ab")]


def test_slices_veto_equal_models_in_five_of_a_hundred_at_most() -> None:
    """Of twelve slices some look worse by luck; corrected, one of them vetoes no more often."""
    vetoes = uncorrected = 0
    for seed in range(300):
        found = pairing(seed, 28)
        gains = slice_gains(slicings(found), found)
        assert len(gains) == 12
        vetoes += any(s.worse for s in gains)
        uncorrected += any(s.high < 0 for s in gains)
    assert vetoes <= 0.05 * 300
    assert uncorrected > 0.2 * 300


def test_a_slice_that_got_worse_is_a_veto_that_names_it() -> None:
    """However much the whole gained."""
    found = pairing(1, 60, edge=0.5)
    cut = slicings(found)[0]
    bad = cut.codes == 2
    value = np.where(bad, found.y + 1.4 * (found.old.value - found.y), found.new.value)
    found = replace(found, new=Predictions(value))
    verdict = compare(found, min_rows=30)
    assert verdict.outcome == "promote"
    gains = slice_gains([cut], found)
    judged = with_checks(verdict, [slices_check(gains, "rmse", 0.95)], gains)
    assert judged.outcome == "keep"
    assert [s.name for s in judged.slices if s.worse] == ["a = 2"]
    assert judged.reason.startswith("slice a = 2 got worse: rmse ")
    assert judged.reason.endswith(verdict.reason)


def test_holm() -> None:
    """The example by hand: each is multiplied by how many are left, and none overtakes."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
