"""The gauge: losses of numbers by region, what it cannot see, and exact sums."""

from itertools import pairwise

import numpy as np
import pytest

from twinloop.estimate import Check, error_of
from twinloop.evaluation import METRICS
from twinloop.gauge import Gauge, GaugedCounter, fit_gauge
from twinloop.loss_model import LossModel, chunks
from twinloop.profile import Binning, ColumnProfile, Counter, Profile
from twinloop.scorer import Predictions


def past(metric: str = "rmse", seed: int = 0, n_rows: int = 6000) -> Gauge:
    """Fit on rows whose noise is four times as large where the first feature is above 1."""
    draw = np.random.default_rng(seed)
    X, said, y = rows(draw, n_rows)
    return fit_gauge(metric, 0, X, said, y, np.arange(n_rows)[::-1] // 500, ordered=True)


def rows(
    draw: np.random.Generator, n_rows: int, shift: float = 0.0
) -> tuple[np.ndarray, Predictions, np.ndarray]:
    """Draw rows, what a good model says of them, and their truth."""
    X = draw.normal(size=(n_rows, 3)).astype(np.float32)
    X[:, 0] += shift
    mean = 10 + X[:, 1].astype(np.float64)
    y = mean + draw.normal(size=n_rows) * np.where(X[:, 0] > 1, 2.0, 0.5)
    return X, Predictions(mean), y


@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_more_rows_where_the_model_errs_more_are_seen(metric: str) -> None:
    """Noise that is larger in one region shows once rows move there, before any label comes."""
    gauge, draw = past(metric), np.random.default_rng(1)
    estimates = []
    for shift in (0.0, 1.5):
        X, said, y = rows(draw, 1000, shift)
        found = gauge.estimate(gauge.count(X, said).tolist())
        assert found is not None
        realised = METRICS[metric].score(y, said)
        assert found.value == pytest.approx(realised, rel=0.15)
        assert found.holds(realised)
        estimates.append(found)
    assert estimates[0].high < estimates[1].value


def test_a_changed_concept_is_not_seen() -> None:
    """The same input with another answer leaves the estimate where it was; labels tell."""
    gauge, draw = past(), np.random.default_rng(2)
    X, said, y = rows(draw, 1000)
    found = gauge.estimate(gauge.count(X, said).tolist())
    assert found is not None
    assert found.holds(METRICS["rmse"].score(y, said))
    assert not found.holds(METRICS["rmse"].score(y + 3 * (X[:, 2] > 0), said))


def test_intervals_of_numbers_hold_what_they_promise() -> None:
    """Of new windows, about nineteen in twenty lie within the interval, wherever rows moved."""
    draw, inside = np.random.default_rng(3), 0
    for seed in range(3):
        gauge = past(seed=seed)
        for _ in range(40):
            X, said, y = rows(draw, 300, float(draw.uniform(-0.5, 1.0)))
            found = gauge.estimate(gauge.count(X, said).tolist())
            assert found is not None
            inside += found.holds(METRICS["rmse"].score(y, said))
    assert inside >= 0.88 * 120


@pytest.mark.parametrize("metric", ["rmse", "r2", "log_loss", "macro_f1", "roc_auc"])
def test_sums_are_the_same_in_any_order(metric: str) -> None:
    """Cells of batches add up to the same whole numbers, whatever the order of the batches."""
    draw = np.random.default_rng(4)
    if metric in ("rmse", "r2"):
        X, said, _ = rows(draw, 5000)
        gauge = past(metric, n_rows=2000)
    else:
        p = draw.dirichlet([1, 2], 5000)
        X, said = np.zeros((5000, 1), np.float32), Predictions(p.argmax(axis=1), p)
        gauge = Gauge(metric=metric, n_classes=2, edges=(0.2, 0.6) if metric == "roc_auc" else ())
    ends = np.unique([0, *draw.integers(0, 5000, 12), 5000])
    cells = [gauge.count(X[a:b], said.take(np.arange(a, b))) for a, b in pairwise(ends)]
    one, other = sum(cells, gauge.none()), sum(cells[::-1], gauge.none())
    np.testing.assert_array_equal(one, other)
    assert one[0] == 5000
    assert one.dtype == np.int64
    whole, parts = gauge.estimate(gauge.count(X, said).tolist()), gauge.estimate(one.tolist())
    assert whole is not None
    assert parts is not None
    # Of a batch five hundred rows or so are looked at: not the same ones in each division.
    assert parts.value == pytest.approx(whole.value, rel=0.1)


def test_profiles_carry_the_sums() -> None:
    """A profile holds them after its columns, merging adds them, and no rows change nothing."""
    draw = np.random.default_rng(5)
    X, said, _ = rows(draw, 400)
    names = ("a", "b", "c", "prediction")
    columns = tuple(ColumnProfile(name=n, edges=(0.0,), counts=(0, 0)) for n in names)
    gauge, binning = past(n_rows=2000), Binning(columns=columns)
    counter = GaugedCounter(binning, gauge)
    halves = [
        counter.profile(counter.count(X[part], said.take(part)), 200)
        for part in (np.arange(200), np.arange(200, 400))
    ]
    plain = Counter(binning)
    assert (
        halves[0].columns
        == plain.profile(plain.count(X[:200], said.take(np.arange(200))), 200).columns
    )
    both = halves[0].merge(halves[1])
    assert both == halves[1].merge(halves[0])
    assert both.expected == tuple(np.add(halves[0].expected, halves[1].expected).tolist())
    assert binning.empty().merge(both).expected == both.expected
    assert Profile.model_validate_json(both.model_dump_json()) == both
    assert counter.profile(counter.none(), 0).expected == tuple(gauge.none().tolist())


def test_later_checks_move_the_interval() -> None:
    """Estimates that were found wrong widen it, and many that were right narrow it again."""
    gauge, draw = past(), np.random.default_rng(6)
    cells = gauge.count(*rows(draw, 500)[:2]).tolist()
    wrong = Check(estimated=1.0, realised=2.0, variance=0.001, rows=500)
    right = Check(estimated=1.0, realised=1.0, variance=0.001, rows=500)
    widths = []
    for later in ((), (wrong,) * 3, (wrong,) * 3 + (right,) * 12):
        found = gauge.estimate(cells, later)
        assert found is not None
        assert found.checks == len(gauge.checks) + len(later)
        widths.append(found.high - found.low)
    assert widths[0] < widths[2] < widths[1]


def test_nothing_is_said_of_no_rows() -> None:
    """Neither of an empty profile nor of one that another gauge counted."""
    gauge = past(n_rows=2000)
    assert gauge.estimate(gauge.none().tolist()) is None
    assert gauge.estimate(()) is None
    assert gauge.estimate((5, 1)) is None


def test_windows_are_estimated_from_older_ones_only() -> None:
    """With time, what comes later changes nothing in a check of what was before."""
    draw = np.random.default_rng(7)
    X, said, y = rows(draw, 3000)
    windows = np.arange(3000)[::-1] // 300
    before = fit_gauge("rmse", 0, X, said, y, windows, ordered=True)
    y[2700:] += 50
    after = fit_gauge("rmse", 0, X, said, y, windows, ordered=True)
    assert before.checks[:-1] == after.checks[:-1]
    assert before.checks[-1] != after.checks[-1]
    assert len(before.checks) == 9  # the first lot has none before it


def test_the_same_rows_give_the_same_file() -> None:
    """A gauge is part of what a version is: it is fitted again bit by bit, and read back."""
    one, other = past(seed=9, n_rows=2000), past(seed=9, n_rows=2000)
    assert one.model_dump_json() == other.model_dump_json()
    assert Gauge.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize("n_rows", [1, 30, 59])
def test_few_rows_have_a_mean_only(n_rows: int) -> None:
    """Below what trees need, every row is expected to lose the mean."""
    draw = np.random.default_rng(10)
    losses = draw.random(n_rows)
    model = LossModel.fit(np.zeros((n_rows, 1), np.float32), np.zeros(n_rows), losses)
    assert model.trees == ()
    expected = model.expected(np.ones((2, 1), np.float32), np.ones(2))
    np.testing.assert_allclose(expected, losses.mean())


def test_lots_are_whole_windows_in_order() -> None:
    """The oldest first, every row in one lot, no window divided."""
    windows = np.array([5, 5, 4, 3, 3, 2, 1, 0])
    lots = chunks(windows, 3)
    assert [windows[lot].tolist() for lot in lots] == [[5, 5, 4], [3, 3, 2], [1, 0]]
    assert np.sum(lots, axis=0).tolist() == [1] * 8


def test_errors_are_compared_as_factors_or_as_points() -> None:
    """Twice as much is the same error of a small loss and of a large one."""
    small, large = (Check(estimated=e, realised=2 * e, variance=0.0, rows=1) for e in (0.1, 100.0))
    assert error_of(small, by_factors=True) == pytest.approx(error_of(large, by_factors=True))
    assert error_of(small, by_factors=False) == pytest.approx(0.1)
