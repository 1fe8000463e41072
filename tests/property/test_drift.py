"""Drift: distances, corrected p-values, harm by labels, and what is decided of them."""

import warnings
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from twinloop.binning import learn_binning
from twinloop.decision import Harm, assess_harm, decide
from twinloop.divergence import distance, effect
from twinloop.drift import QUARANTINE, FeatureDrift, compare_profiles, holm, windows_ahead
from twinloop.encoding import Encoding, Feature
from twinloop.profile import Binning, ColumnProfile, Profile, Reference, combine
from twinloop.reference import with_quarantined
from twinloop.scorer import Predictions, Target
from twinloop.window import Window
from twinloop.workload import Workload

A_DAY = 86_400_000_000  # microseconds
COUNTS = st.lists(st.integers(0, 10_000), min_size=4, max_size=4).map(
    lambda counts: np.array(counts, np.float64)
)
BIKES = Workload.model_validate(
    {
        "name": "w",
        "task": "regression",
        "source": {"kind": "files", "path": "x"},
        "target": "y",
        "inference": {"quarantine_limit": 0.1},
    }
)
ENCODING = Encoding(
    features=(
        Feature(name="n", source="n", how="number"),
        Feature(name="k", source="k", how="category", levels=("a", "b", "c")),
    )
)


@given(COUNTS, COUNTS)
def test_distance_is_the_one_of_jensen_and_shannon(a: np.ndarray, b: np.ndarray) -> None:
    """It lies in [0, 1], is symmetric and equals SciPy's; no rows are far from nothing."""
    found = distance(a, b)
    assert 0.0 <= found <= 1.0
    assert found == distance(b, a)
    wanted = jensenshannon(a, b, base=2) if a.sum() and b.sum() else 0.0
    assert found == pytest.approx(wanted, abs=1e-7)


@given(COUNTS, st.integers(1, 1000))
def test_distance_is_of_shares(counts: np.ndarray, times: int) -> None:
    """Of the same shares it is 0, however many the rows are."""
    assert distance(counts, counts * times) == pytest.approx(0.0, abs=1e-7)


@given(COUNTS, COUNTS)
def test_nothing_in_common_is_a_distance_of_one(a: np.ndarray, b: np.ndarray) -> None:
    """Rows that share no bin are as far apart as can be."""
    there, here = np.append(a, np.zeros(4)), np.append(np.zeros(4), b)
    wanted = 1.0 if a.sum() and b.sum() else 0.0
    assert distance(there, here) == pytest.approx(wanted)


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(P_VALUES)
def test_holm_agrees_with_the_textbook(p_values: list[float]) -> None:
    """Each is the largest of its predecessors, each multiplied by how many are left (Holm 1979)."""
    wanted = dict.fromkeys(range(len(p_values)), 0.0)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        wanted[i] = min(1.0, largest)
    np.testing.assert_allclose(holm(np.array(p_values)), list(wanted.values()))


@given(P_VALUES)
def test_holm_keeps_order_and_forgives_nothing(p_values: list[float]) -> None:
    """A correction only raises, never past 1, and leaves the order as it was."""
    before = np.array(p_values)
    after = holm(before)
    assert np.all(after >= before)
    assert after.max() <= 1.0
    assert np.all(np.diff(after[np.argsort(before)]) >= 0)


def rows(seed: int, n_rows: int, shift: float = 0.0) -> tuple[np.ndarray, Predictions]:
    """Draw encoded rows and their predictions; a shift moves the number and what is predicted."""
    draw = np.random.default_rng(seed)
    n = draw.normal(shift, 1.0, n_rows)
    X = np.column_stack([n, draw.integers(0, 3, n_rows)]).astype(np.float32)
    return X, Predictions(n)


def reference(n_windows: int = 10, losses: tuple[float, ...] = (1.0,)) -> Reference:
    """Return what a model was trained on: windows of 300 rows, all alike."""
    binning = learn_binning(ENCODING, *rows(0, 3000), Target(name="y", task="regression"))
    windows = [binning.count(*rows(seed, 300)) for seed in range(1, n_windows + 1)]
    return Reference(
        binning=binning,
        whole=combine(windows, binning),
        windows=tuple(windows),
        importance=(0.9, 0.01),
        loss="mae",
        losses=losses,
        quarantine=True,
    )


def compared(known: Reference, current: Profile) -> tuple[FeatureDrift, ...]:
    """Compare by the usual rules."""
    return compare_profiles(known, current, alpha=0.01, min_effect=0.03)


def test_rows_of_the_same_kind_have_not_drifted() -> None:
    """Of fifty windows like those of the training, hardly one column is said to have drifted."""
    known = reference()
    found = [compared(known, known.binning.count(*rows(seed, 300))) for seed in range(100, 150)]
    names = {"n", "k", "prediction", QUARANTINE}
    assert all({c.column for c in columns} == names for columns in found)
    assert sum(c.drifted for columns in found for c in columns) <= 1


def test_a_shift_is_found_where_it_is() -> None:
    """One standard deviation moves the number and the prediction, and not the level."""
    known = reference()
    found = compared(known, known.binning.count(*rows(9, 300, shift=1.0)))
    assert {c.column for c in found if c.drifted} == {"n", "prediction"}
    assert [c.distance for c in found] == sorted((c.distance for c in found), reverse=True)
    wanted = {"n": 0.9, "k": 0.01, "prediction": 1.0, QUARANTINE: 0.0}
    assert {c.column: c.importance for c in found} == wanted


def test_an_effect_too_small_does_not_count() -> None:
    """However sure, a distance below the smallest that counts is no drift."""
    known = reference()
    current = known.binning.count(*rows(9, 300, shift=1.0))
    largest = compared(known, current)[0]
    for least, wanted in ((largest.distance, 1), (largest.distance + 1e-9, 0)):
        found = compare_profiles(known, current, alpha=0.01, min_effect=least)
        assert sum(c.drifted for c in found if c.column == largest.column) == wanted


@pytest.mark.parametrize(("n_rows", "n_columns"), [(0, 0), (149, 0), (150, 4)])
def test_a_tiny_window_tells_nothing(n_rows: int, n_columns: int) -> None:
    """Below half the rows of a past window no column is compared, and the decision says why."""
    known = reference()
    found = compared(known, known.binning.count(*rows(9, n_rows, shift=9.0)))
    assert len(found) == n_columns
    if not found:
        decision = decide(found, None, 0.0, BIKES)
        assert decision.action == "fine"
        assert decision.reasons == ("too few rows yet to compare with windows of the past",)


def test_without_past_windows_only_the_sample_speaks() -> None:
    """Fewer than four windows say nothing of ordinary variation: the sample's size decides."""
    known = reference(n_windows=3)
    same, other = (compared(known, known.binning.count(*rows(9, 300, s))) for s in (0.0, 1.0))
    assert not any(c.drifted for c in same)
    assert {c.column for c in other if c.drifted} == {"n", "prediction"}


def test_what_came_and_went_before_is_no_drift() -> None:
    """A swing that past windows made as well is ordinary, though the sample would call it sure."""
    binning: Binning = reference().binning
    windows = [binning.count(*rows(seed, 300, shift=(-1.0) ** seed)) for seed in range(10)]
    known = reference().model_copy(
        update={"windows": tuple(windows), "whole": combine(windows, binning)}
    )
    assert not any(c.drifted for c in compared(known, binning.count(*rows(99, 300, shift=1.0))))


LOSSES = st.lists(st.floats(0.1, 10.0), min_size=3, max_size=20, unique=True)


def harm_of(then: list[float], now: list[float], tolerance: float = 0.05) -> Harm | None:
    """Assess by the usual rules."""
    known = reference(losses=tuple(then))
    return assess_harm(
        known, np.array(now), 10 * len(now), alpha=0.05, tolerance=tolerance, of_mean=float
    )


@given(LOSSES, LOSSES)
def test_harm_agrees_with_welch(then: list[float], now: list[float]) -> None:
    """The p-value is that of Welch's one-sided test, the rest are means and counts."""
    found = harm_of(then, now)
    assert found is not None
    a, b = np.array(now), np.array(then)
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    degrees = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    t = (a.mean() - b.mean()) / np.sqrt(va + vb)
    assert found.p_value == pytest.approx(stats.t.sf(t, degrees), rel=1e-6, abs=1e-12)
    assert (found.expected, found.realised) == pytest.approx((b.mean(), a.mean()))
    assert (found.n_blocks, found.n_rows) == (len(now), 10 * len(now))
    assert found.harmful == (found.p_value < 0.05 and a.mean() > 1.05 * b.mean())


@pytest.mark.parametrize(("then", "now"), [(2, 30), (30, 2), (0, 0)])
def test_few_blocks_tell_no_harm(then: int, now: int) -> None:
    """With fewer than three days on either side there is no assessment."""
    draw = np.random.default_rng(0)
    assert harm_of(draw.random(then).tolist(), (9 + draw.random(now)).tolist()) is None


@pytest.mark.parametrize(("tolerance", "harmful"), [(0.0, True), (0.09, True), (0.11, False)])
def test_harm_within_the_tolerance_may_pass(tolerance: float, harmful: bool) -> None:
    """A rise of ten per cent, however sure, hurts only where less is tolerated."""
    then = [1.0 + 0.001 * (i % 2) for i in range(40)]
    found = harm_of(then, [1.1 * loss for loss in then], tolerance)
    assert found is not None
    assert found.p_value < 1e-6
    assert found.harmful is harmful


@pytest.mark.parametrize(("now", "harmful"), [(1.0, False), (2.0, True), (0.5, False)])
def test_losses_without_spread_are_compared_all_the_same(now: float, harmful: bool) -> None:
    """Where every day has one loss, a larger one is harm and an equal one is not; no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = harm_of([1.0] * 5, [now] * 5)
    assert found is not None
    assert found.harmful is harmful


def feature(column: str, importance: float, *, drifted: bool) -> FeatureDrift:
    """Return a column that drifted, or did not."""
    return FeatureDrift(
        column=column, distance=0.5, p_value=0.001, importance=importance, drifted=drifted
    )


def harm(*, harmful: bool) -> Harm:
    """Return what labels say."""
    return Harm(
        metric="rmse",
        expected=1.0,
        realised=2.0 if harmful else 1.0,
        p_value=0.001 if harmful else 0.5,
        n_rows=100,
        n_blocks=10,
        harmful=harmful,
    )


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("telling", [False, True])
@pytest.mark.parametrize("hurts", [True, False, None])
def test_every_case_is_decided(
    hurts: bool | None, telling: bool, ignored: bool, crowded: bool
) -> None:
    """Labels outrank drift; without them drift of what the model uses retrains; else watch."""
    features = (feature("used", 0.02, drifted=telling), feature("idle", 0.019, drifted=ignored))
    labels = None if hurts is None else harm(harmful=hurts)
    found = decide(features, labels, 0.051 if crowded else 0.05, BIKES)
    if hurts or (hurts is None and telling):
        assert found.action == "retrain"
    else:
        assert found.action == ("watch" if telling or crowded else "fine")
    assert found.drifted == tuple(f.column for f in features if f.drifted)
    text = "; ".join(found.reasons)
    assert ("used drifted" in text, "which the model hardly uses" in text) == (telling, ignored)
    assert ("5.1% of the rows are quarantined" in text) == crowded
    assert ("labelled rows" in text) == (hurts is not None)
    assert ("no labels yet" in text) == (hurts is None and (telling or ignored))
    assert ("no column drifted" in text) == (not telling and not ignored)


def test_harm_is_the_first_reason() -> None:
    """What labels say comes before what drifted: the first reason goes on the retraining."""
    found = decide((feature("used", 0.9, drifted=True),), harm(harmful=True), 0.0, BIKES)
    assert found.reasons[0] == "rmse 2 on 100 labelled rows, 1 expected, p 0.001"
    assert found.reasons[1] == "used drifted: distance 0.50, p 0.001"


def test_harm_without_drift_retrains() -> None:
    """A concept that changed shows in the labels alone, also before columns can be compared."""
    assert decide((), harm(harmful=True), 0.0, BIKES).action == "retrain"


@given(COUNTS, COUNTS)
def test_an_effect_lies_in_its_interval(a: np.ndarray, b: np.ndarray) -> None:
    """It is never above the plain distance, and both ends are distances."""
    found = effect(a, b)
    assert 0.0 <= found.low <= found.distance <= found.high <= 1.0
    assert found.distance <= distance(a, b) + 1e-12


def test_what_chance_makes_is_no_effect() -> None:
    """Of two samples of the same rows the effect is near 0, though they are some way apart."""
    draw = np.random.default_rng(0)
    shares = np.full(20, 0.05)
    pairs = [(draw.multinomial(9000, shares), draw.multinomial(300, shares)) for _ in range(200)]
    effects = [effect(a.astype(float), b.astype(float)) for a, b in pairs]
    assert np.mean([distance(a, b) for a, b in pairs]) > 0.09
    assert np.median([e.distance for e in effects]) < 0.03
    assert np.mean([e.low == 0.0 for e in effects]) > 0.95


def told(reference: Reference, **counts: int) -> FeatureDrift:
    """Check a window of 300 rows like those of the past, with other counts; tell of quarantine."""
    current = reference.binning.count(*rows(9, 300)).model_copy(update=counts)
    return next(f for f in compared(reference, current) if f.column == QUARANTINE)


def test_quarantine_is_compared_with_the_past() -> None:
    """One in twenty is an alarm where none was before, and none where it was always so."""
    known = reference()
    assert told(known, read=316, quarantined=16).drifted
    assert not told(known, read=301, quarantined=1).drifted
    usual = tuple(w.model_copy(update={"read": 316, "quarantined": 16}) for w in known.windows)
    assert not told(known.model_copy(update={"windows": usual}), read=316, quarantined=16).drifted
    assert not told(known.model_copy(update={"windows": usual}), read=300).drifted


def test_a_share_that_always_broke_the_contract_is_no_drift() -> None:
    """One row in a hundred, in windows of a training and after it, over days and without any."""
    known = reference(26)
    for by_day in ({}, dict.fromkeys(range(182), 3)):
        bad = 3 * 26 if not by_day else 3 * 182
        windows = with_quarantined(known.windows, bad, 300 * 26, by_day, 182 * A_DAY - 1, 7 * A_DAY)
        n = 3 if not by_day else 21
        assert [(w.read, w.quarantined) for w in windows] == [(300 + n, n)] * 26
        usual = known.model_copy(update={"windows": windows})
        assert not told(usual, read=300 + n, quarantined=n).drifted
        assert told(usual, read=300 + 6 * n, quarantined=6 * n).drifted


def test_rows_that_broke_the_contract_are_in_the_window_of_their_day() -> None:
    """A bad week is one window's; rows of no window are in none, undated ones in all."""
    windows = reference(3).windows
    newest = 21 * A_DAY - 1
    days = {0: 1, 6: 2, 7: 30, 20: 4, 21: 50, -1: 60}

    def found(bad: int, newest: int | None = newest, span: int = 7 * A_DAY) -> list[int]:
        counted = with_quarantined(windows, bad, 900, days, newest, span)
        return [w.quarantined for w in counted]

    assert found(147) == [4, 30, 3]
    assert found(177) == [14, 40, 13]
    # Without times, and in windows shorter than a day, they are spread over the rows.
    assert found(147, None) == found(147, newest, A_DAY // 2) == [49, 49, 49]


def test_of_a_past_that_was_not_counted_nothing_is_said() -> None:
    """A version of an older release does not know of it: the fixed half of the limit stands."""
    older = reference().model_copy(update={"quarantine": False})
    current = older.binning.count(*rows(9, 300)).model_copy(update={"read": 316, "quarantined": 16})
    assert QUARANTINE not in {f.column for f in compared(older, current)}


def test_more_quarantine_than_usual_is_a_reason_to_watch() -> None:
    """It retrains nothing by itself, and replaces the fixed half of the limit."""
    found = feature(QUARANTINE, 0.0, drifted=True)
    assert decide((found,), None, 0.01, BIKES).action == "watch"
    calm = found.model_copy(update={"drifted": False})
    assert decide((calm,), None, 0.09, BIKES).action == "fine"


def test_a_column_that_tells_the_time_does_not_drift() -> None:
    """Each window of the past had a level of its own: that the next has another one is no drift."""
    columns = (ColumnProfile(name="day", counts=(0,) * 20), ColumnProfile(name="y", counts=(0,)))
    binning = Binning(columns=columns)

    def day(i: int) -> Profile:
        X = np.full((300, 1), i, np.float32)
        return binning.count(X, Predictions(np.zeros(300)))

    windows = tuple(day(i) for i in reversed(range(10)))
    whole = combine(list(windows), binning)
    known = reference().model_copy(
        update={"binning": binning, "windows": windows, "whole": whole, "importance": (1.0,)}
    )
    assert not any(f.drifted for f in compared(known, day(12)))


def test_windows_ahead_are_counted_from_the_training_rows() -> None:
    """The window after the newest row is the first, whatever lies between is more."""
    until = datetime(2026, 1, 8, tzinfo=UTC)
    known = reference().model_copy(update={"until": int(until.timestamp() * 1e6)})
    week = timedelta(days=7)
    for weeks in (1, 2, 5):
        window = Window(start=until + (weeks - 1) * week, end=until + weeks * week)
        assert windows_ahead(known, window) == pytest.approx(weeks)
        assert windows_ahead(reference(), window) == 1.0
    assert windows_ahead(known, None) == 1.0


def test_a_cycle_of_the_calendar_counts_where_no_window_is_left_out() -> None:
    """Weeks that go along with the month: what is off by half of that is found, gaps hide it."""
    draw = np.random.default_rng(0)
    heights = np.sin(2 * np.pi * np.arange(27) / (365.25 / 12 / 7)) + draw.normal(0, 0.02, 27)
    known = reference()
    counted = [known.binning.count(*rows(i, 3000, h)) for i, h in enumerate(heights[:26])]
    whole = combine(counted, known.binning)
    known = known.model_copy(
        update={"whole": whole, "windows": tuple(counted[::-1]), "span": timedelta(days=7)}
    )
    ordinary = known.binning.count(*rows(26, 3000, heights[26]))
    off = known.binning.count(*rows(26, 3000, heights[26] - 0.7))

    def drifted(known: Reference, current: Profile, span: timedelta | None) -> set[str]:
        found = compare_profiles(known, current, alpha=0.01, min_effect=0.03, span=span)
        return {f.column for f in found if f.drifted}

    week, gaps = timedelta(days=7), known.model_copy(update={"span": None})
    assert drifted(known, ordinary, week) == set()
    assert drifted(known, off, week) == {"n", "prediction"}
    assert drifted(known, off, None) == drifted(gaps, off, week) == set()
    assert drifted(known, off, timedelta(days=1)) == set()
