"""Profiles count every row, merge exactly, and stay small."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.binning import learn_binning
from twinloop.encoding import Encoding, Feature
from twinloop.profile import PREDICTION, Binning, Profile, Reference, combine, window_numbers
from twinloop.scorer import Predictions, Target

LEVELS = ("a", "b", "c")
ENCODING = Encoding(
    features=(
        Feature(name="n", source="n", how="number"),
        Feature(name="level", source="level", how="category", levels=LEVELS),
        Feature(name="t.hour", source="t", how="hour"),
    )
)
REGRESSION = Target(name="y", task="regression")
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.just(np.nan)
CODES = st.sampled_from([0.0, 1.0, 2.0, np.nan])
ROWS = st.lists(st.tuples(NUMBERS, CODES, st.integers(0, 23), st.floats(-1e6, 1e6)), max_size=30)


def table(rows: list[tuple[float, ...]]) -> tuple[np.ndarray, Predictions]:
    """Return encoded rows and their predictions."""
    cells = np.array(rows, np.float64).reshape(-1, 4)
    return cells[:, :3].astype(np.float32), Predictions(cells[:, 3])


def binning_of(rows: list[tuple[float, ...]]) -> Binning:
    """Learn the bins from these rows."""
    return learn_binning(ENCODING, *table(rows), REGRESSION)


@given(st.tuples(ROWS, ROWS, ROWS))
def test_merged_profiles_are_that_of_the_tables_together(
    parts: tuple[list[tuple[float, ...]], ...],
) -> None:
    """In any order and grouping, merging counts what one look at all rows counts."""
    binning = binning_of(parts[0])
    a, b, c = (binning.count(*table(rows)) for rows in parts)
    whole = binning.count(*table([row for rows in parts for row in rows]))
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == c.merge(a).merge(b) == whole
    assert all(
        combine(list(order), binning) == whole for order in itertools.permutations((a, b, c))
    )


@given(ROWS)
def test_a_profile_of_no_rows_changes_nothing(rows: list[tuple[float, ...]]) -> None:
    """The empty profile is neutral, from either side, and is what no rows give."""
    binning = binning_of(rows)
    found = binning.count(*table(rows))
    assert found.merge(binning.empty()) == binning.empty().merge(found) == found
    assert binning.count(*table([])) == binning.empty()


def test_rows_read_and_quarantined_add_up() -> None:
    """What was read and set aside goes along with what was counted."""
    one = binning_of([]).empty().model_copy(update={"rows": 5, "read": 7, "quarantined": 2})
    merged = one.merge(one)
    assert (merged.rows, merged.read, merged.quarantined) == (10, 14, 4)


@given(ROWS, ROWS)
def test_every_row_is_counted_once(
    trained: list[tuple[float, ...]], rows: list[tuple[float, ...]]
) -> None:
    """In every column counts and missing add up to the rows, and NaN is what is missing."""
    found = binning_of(trained).count(*table(rows))
    X, _ = table(rows)
    assert found.rows == found.read == len(rows)
    assert [c.name for c in found.columns] == ["n", "level", "t.hour", PREDICTION]
    for column in found.columns:
        assert sum(column.counts) + column.missing == len(rows)
        assert column.shares().sum() == len(rows)
    missing = [c.missing for c in found.columns]
    assert missing == [*np.isnan(X).sum(axis=0).tolist(), 0]


@given(ROWS)
def test_training_rows_leave_the_outermost_bins_empty(rows: list[tuple[float, ...]]) -> None:
    """What is below the least or above the largest value seen falls there, and nothing else."""
    X, _ = table(rows)
    known = X[:, 0][~np.isnan(X[:, 0])].astype(np.float64)
    binning = binning_of(rows)
    number = binning.count(*table(rows)).columns[0]
    if len(known) == 0:
        assert number.counts == (0,)
        return
    assert number.counts[0] == number.counts[-1] == 0
    with np.errstate(over="ignore"):
        below, above = (
            np.nextafter(np.float32(end), np.float32(way))
            for end, way in ((known.min(), -np.inf), (known.max(), np.inf))
        )
    beyond = binning.count(*table([(below, 0, 0, 0), (above, 0, 0, 0), (np.nan, 0, 0, 0)]))
    counts = beyond.columns[0].counts
    assert (counts[0], counts[-1], sum(counts), beyond.columns[0].missing) == (1, 1, 2, 1)


@given(st.integers(0, 1000))
def test_bins_of_a_quantity_are_equally_full(seed: int) -> None:
    """Of 2000 different values each inner bin holds a twentieth."""
    draw = np.random.default_rng(seed)
    X = np.column_stack([draw.permutation(2000), np.zeros((2000, 2))]).astype(np.float32)
    predictions = Predictions(draw.normal(size=2000))
    profile = learn_binning(ENCODING, X, predictions, REGRESSION).count(X, predictions)
    for column in (profile.columns[0], profile.columns[-1]):
        assert len(column.counts) == 24
        # Both ends are divided once more, at one in two hundred.
        assert column.counts[1:-1] == (10, 90, *[100] * 18, 90, 10)


def test_new_levels_are_no_missing_values() -> None:
    """Both are NaN to the model; what has no value in the table is missing, the rest is new."""
    binning = binning_of([(0.0, 0.0, 0, 0.0)])
    X, predictions = table([(np.nan, np.nan, 0, 0.0), (0.0, np.nan, 0, 0.0), (0.0, 1.0, 0, 0.0)])
    rows = pa.table({"n": [None, 0.0, 0.0], "level": [None, "z", "b"], "t": [0, 0, 0]})
    told = binning.count(X, predictions, ENCODING.nulls(rows)).columns
    assert [(c.missing, c.new) for c in told[:2]] == [(1, 0), (1, 1)]
    untold = binning.count(X, predictions).columns
    assert [(c.missing, c.new) for c in untold[:2]] == [(1, 0), (2, 0)]
    assert [c.shares().tolist() for c in told] == [c.shares().tolist() for c in untold]


def test_a_code_has_a_bin_of_its_own() -> None:
    """Levels and hours are counted one by one, those never seen in training too."""
    binning = binning_of([(0.0, 0.0, 0, 0.0)])
    found = binning.count(*table([(0.0, 2.0, 23, 0.0), (0.0, 2.0, 7, 0.0)]))
    assert found.columns[1].counts == (0, 0, 2)
    assert np.flatnonzero(found.columns[2].counts).tolist() == [7, 23]


@pytest.mark.parametrize(("classes", "bins"), [(("no", "yes"), 6), (("a", "b", "c"), 3)])
def test_predicted_classes_are_counted(classes: tuple[str, ...], bins: int) -> None:
    """Of two classes the probability of the second is counted, of more the class itself."""
    shares = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
    if len(classes) == 3:
        shares = np.column_stack([shares, [0.95, 0.0, 0.0, 0.0]])
    predictions = Predictions(shares.argmax(axis=1), shares)
    X = np.zeros((4, 3), np.float32)
    target = Target(name="y", task="multiclass", classes=classes)
    columns = learn_binning(ENCODING, X, predictions, target).count(X, predictions).columns
    counts = columns[3].counts
    assert sum(counts) == 4
    names = [f"probability of {c}" for c in classes] if len(classes) == 3 else []
    assert [c.name for c in columns[3:]] == [PREDICTION, *names]
    assert all(sum(c.counts) == 4 for c in columns[3:])
    assert counts == (1, 2, 1) if len(classes) == 3 else len(counts) > bins


def test_profiles_of_other_bins_do_not_merge() -> None:
    """Counts by other edges are refused, never added up, even where the bins are as many."""
    one, other = (binning_of([(i * k, 0.0, 0, i) for i in range(30)]).empty() for k in (1, 2))
    assert [len(c.counts) for c in one.columns] == [len(c.counts) for c in other.columns]
    with pytest.raises(ValueError, match="profiles have different bins"):
        one.merge(other)
    with pytest.raises(ValueError, match="'n' and 'level' are different columns"):
        one.columns[0].merge(one.columns[1])


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=50), st.integers(1, 10**14))
def test_windows_count_back_from_the_newest_row(times: list[int], span: int) -> None:
    """The newest row is in window 0, and rows share a window where less than its length apart."""
    found = window_numbers(np.array(times), len(times), span)
    assert found.tolist() == [(max(times) - t) // span for t in times]
    assert found.min() == 0


@given(st.integers(0, 200))
def test_rows_without_time_make_ten_windows(n_rows: int) -> None:
    """They keep their order, and the sizes differ by one at most."""
    found = window_numbers(None, n_rows, 1)
    assert len(found) == n_rows
    assert np.all(np.diff(found) >= 0)
    sizes = np.bincount(found, minlength=10)
    assert len(sizes) == 10
    assert sizes.max() - sizes.min() <= 1


def reference(n_columns: int, n_windows: int) -> Reference:
    """Return the reference of a model of many columns, trained on a year of hours."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(8760, n_columns)).astype(np.float32)
    predictions = Predictions(draw.normal(size=len(X)))
    names = [f"a_column_of_some_length_{i}" for i in range(n_columns)]
    features = tuple(Feature(name=n, source=n, how="number") for n in names)
    binning = learn_binning(Encoding(features=features), X, predictions, REGRESSION)
    at = np.arange(len(X)) % n_windows
    windows = tuple(binning.count(X[at == i], predictions.take(at == i)) for i in range(n_windows))
    return Reference(
        binning=binning,
        whole=combine(list(windows), binning),
        windows=windows,
        importance=tuple([1 / n_columns] * n_columns),
        loss="rmse",
        losses=tuple(draw.random(30).tolist()),
    )


def test_a_reference_survives_json_and_stays_small() -> None:
    """Read back it is equal and counts alike; 30 columns by 26 windows are some kilobytes."""
    made = reference(30, 26)
    text = made.model_dump_json()
    read = Reference.model_validate_json(text)
    assert read == made
    X, predictions = np.linspace(-9, 9, 900).reshape(30, 30), Predictions(np.linspace(-9, 9, 30))
    assert read.binning.count(X, predictions) == made.binning.count(X, predictions)
    assert len(text) < 200_000
    assert len(made.windows[0].model_dump_json()) < 10_000


@given(ROWS)
def test_a_profile_survives_json(rows: list[tuple[float, ...]]) -> None:
    """Bins and counts read back are equal, whatever the numbers."""
    binning = binning_of(rows)
    found = binning.count(*table(rows))
    assert Profile.model_validate_json(found.model_dump_json()) == found
    assert Binning.model_validate_json(binning.model_dump_json()) == binning
