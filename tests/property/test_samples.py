"""Samples merge exactly and are fair; moments are those of NumPy; rows that differ are told."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.moments import learn_grid
from twinloop.samples import SIZE, Sample, smallest
from twinloop.separation import separation

VALUES = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40)


def rows_of(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw hashes, some of them twice, and rows."""
    draw = np.random.default_rng(seed)
    hashes = draw.integers(0, 2**64, n, np.uint64)
    hashes[: n // 10] = hashes[n // 2 : n // 2 + n // 10]
    return hashes, draw.integers(0, 200, (n, 3)).astype(np.uint8)


@given(st.integers(0, 1000), st.integers(0, 2 * SIZE), st.integers(0, 2 * SIZE))
def test_merged_samples_are_that_of_the_rows_together(seed: int, first: int, second: int) -> None:
    """Wherever a table is cut, and in whatever order its parts come."""
    hashes, rows = rows_of(seed, 3 * SIZE)
    ends = [0, *sorted((first, second)), 3 * SIZE]
    parts = [Sample.of(hashes[a:b], rows[a:b]) for a, b in pairwise(ends)]
    whole = Sample.of(hashes, rows)
    a, b, c = parts
    assert a.merge(b).merge(c) == c.merge(a).merge(b) == a.merge(b.merge(c)) == whole
    assert len(whole.keys()) == len(whole.codes()) == SIZE


@given(st.integers(0, 1000), st.integers(0, 3 * SIZE))
def test_the_smallest_hashes_suffice(seed: int, n: int) -> None:
    """A sample of what was picked is the sample of all rows."""
    hashes, rows = rows_of(seed, n)
    few = smallest(hashes)
    assert Sample.of(hashes[few], rows[few]) == Sample.of(hashes, rows)


@given(VALUES, VALUES)
def test_moments_add_up_and_are_close(one: list[float], other: list[float]) -> None:
    """Sums of parts are those of the whole to the last digit; the mean is within half a step."""
    a, b = np.array(one, np.float32), np.array([*other, np.nan], np.float32)
    grid = learn_grid(a)
    parts = [grid.sums(v, int(np.isnan(v).sum())) for v in (a, b)]
    both = np.concatenate([b, a])
    assert grid.sums(both, 1) == tuple(sum(p) for p in zip(*parts, strict=True))
    total, squares = parts[0]
    slack = grid.unit + 1e-6 * float(np.abs(a).max())
    assert grid.mean(total, len(a)) == pytest.approx(a.mean(dtype=np.float64), abs=slack)
    spread = np.sqrt(grid.variance(total, squares, len(a)))
    assert spread == pytest.approx(a.std(dtype=np.float64), abs=2 * slack)


def test_values_far_off_stop_at_the_end_of_the_grid() -> None:
    """They are counted as 256 standard deviations, so that no sum overflows."""
    grid = learn_grid(np.array([-1.0, 1.0], np.float32))
    far = np.array([1e30, np.inf], np.float32)
    assert grid.mean(grid.sums(far, 0)[0], 2) == pytest.approx(256.0)
    assert grid.mean(grid.sums(-far, 0)[0], 2) == pytest.approx(-256.0)


def ranks(seed: int, n: int, together: float) -> np.ndarray:
    """Draw the bins of ten columns, of which the first two go along."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n, 10))
    z[:, 1] = together * z[:, 0] + np.sqrt(1 - together**2) * z[:, 1]
    return np.clip(10 + 4 * z, 0, 20).astype(np.uint8)


def test_rows_of_one_kind_cannot_be_told_apart() -> None:
    """The area is near one half, whichever rows were drawn."""
    areas = [separation(ranks(2 * s, 2000, 0.8), ranks(2 * s + 1, 500, 0.8)) for s in range(20)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)
    assert max(areas) < 0.58


def test_columns_that_no_longer_go_along_are_seen() -> None:
    """No column shows anything alone, and the rows are told apart all the same."""
    areas = [separation(ranks(2 * s, 2000, 0.8), ranks(2 * s + 1, 500, 0.0)) for s in range(10)]
    assert min(areas) > 0.65


def test_few_rows_tell_nothing() -> None:
    """A sample of less than eight rows is not told apart from anything."""
    assert separation(ranks(0, 100, 0.8), ranks(1, 7, 0.0)) == 0.5
