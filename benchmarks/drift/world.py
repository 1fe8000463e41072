"""A made-up world of 30 mixed features whose drift is known, and its profiles at little cost.

Every feature is made of a standard normal number by the row, pushed by what the window is like: a
cycle, a slow trend, and chance from one window to the next. What a column's bins then
hold is known exactly, so that the counts of a window of 100,000 rows are drawn bin by bin and not
row by row; the few rows of a sample are drawn one by one, with the factor that columns share.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
from scipy import special, stats

from twinloop.profile import Binning, ColumnProfile, Profile, Reference, combine
from twinloop.reference import sample_windows
from twinloop.samples import SIZE, Sample

N_NUMBERS, N_CODES = 18, 12
N_FEATURES = N_NUMBERS + N_CODES
LEVELS = (2, 2, 2, 3, 4, 5, 8, 10, 12, 20, 30, 1000)
KEPT = 64  # of levels, by the encoding
PAST = 26  # windows a model was trained on: half a year of weeks
WINDOW = timedelta(days=7)
MONTH = 30.44 / 7  # windows
SHARED = 0.5  # share of the variance of the first ten numbers that is one factor
N_SHARED = 10
NOISE = 0.5  # of the target, beside the variance 1 of what can be predicted


@dataclass(frozen=True)
class World:
    """What a world is like.

    Attributes
    ----------
    cuts
        Of each feature, where the standard normal number changes the bin.
    missing
        Rate of missing values.
    weights
        Of each feature in the prediction, on its normal number.
    height, phase, slope, wander
        Cycle, trend by the window, and standard deviation from window to window.
    period
        Of the cycle: a wave of a month, or a sawtooth of 3 to 9 windows that no calendar knows.
    """

    cuts: tuple[np.ndarray, ...]
    missing: np.ndarray
    weights: np.ndarray
    height: np.ndarray
    phase: np.ndarray
    slope: np.ndarray
    wander: np.ndarray
    period: np.ndarray

    def push(self, window: int, rng: np.random.Generator) -> np.ndarray:
        """Return by how much each number is pushed in a window: shape (N_FEATURES,)."""
        turns = window / self.period + self.phase / (2 * np.pi)
        saw = 2 * (turns % 1) - 1
        cycle = self.height * np.where(self.period == MONTH, np.sin(2 * np.pi * turns), saw)
        chance = self.wander * rng.normal(size=N_FEATURES)
        return np.asarray(cycle + self.slope * (window - PAST / 2) + chance)


@dataclass(frozen=True)
class Change:
    """What is done to the rows of a window.

    Attributes
    ----------
    column
        Which feature.
    kind
        ``shift`` (of the number), ``scale``, ``missing`` (more of it), ``stuck`` (at the median, a
        share of the rows), ``new`` (levels never seen), ``shuffled`` (a share of the rows gets
        another row's value).
    size
        Of it.
    """

    column: int
    kind: str
    size: float


def make_world(seed: int, *, seasons: bool) -> World:
    """Make a world; without seasons all windows are alike."""
    rng = np.random.default_rng(seed)
    ranks = np.sort([*np.linspace(0, 1, 21), 0.005, 0.995])
    cuts = [stats.norm.ppf(ranks) for _ in range(N_NUMBERS)]
    # A count of few values, and a number that is mostly zero.
    cuts[-1] = stats.norm.ppf(stats.poisson.cdf(np.arange(8), 2.0))
    cuts[-2] = stats.norm.ppf(np.append(0.7, np.linspace(0.75, 1.0, 6)))
    for n in LEVELS:
        shares = 1 / np.arange(1, n + 1) ** 1.1
        cuts.append(stats.norm.ppf(np.cumsum(shares / shares.sum())[:-1]))
    used = rng.random(N_FEATURES) ** 2
    weights = rng.choice([-1.0, 1.0], N_FEATURES) * used / np.sqrt((used**2).sum())
    half = rng.random(N_FEATURES) < 0.5
    on = float(seasons)
    return World(
        cuts=tuple(cuts),
        missing=np.where(rng.random(N_FEATURES) < 0.4, rng.uniform(0.005, 0.1, N_FEATURES), 0.0),
        weights=weights,
        height=on * half * rng.uniform(0.05, 0.4, N_FEATURES),
        phase=rng.uniform(0, 2 * np.pi, N_FEATURES),
        slope=on * (rng.random(N_FEATURES) < 0.25) * rng.normal(0, 0.01, N_FEATURES),
        wander=on * rng.uniform(0.0, 0.05, N_FEATURES),
        period=np.where(rng.random(N_FEATURES) < 0.5, MONTH, rng.uniform(3, 9, N_FEATURES)),
    )


def binning_of(world: World) -> Binning:
    """Return how a model of this world counts."""
    columns = []
    for i, cuts in enumerate(world.cuts):
        if i < N_NUMBERS:
            n = len(cuts) + 1
            columns.append(
                ColumnProfile(name=f"x{i}", edges=tuple(range(len(cuts))), counts=(0,) * n)
            )
        else:
            columns.append(ColumnProfile(name=f"c{i}", counts=(0,) * min(len(cuts) + 1, KEPT)))
    n = 24
    columns.append(ColumnProfile(name="prediction", edges=tuple(range(n - 1)), counts=(0,) * n))
    return Binning(columns=tuple(columns))


_RANKS = stats.norm.ppf(np.sort([*np.linspace(0, 1, 21), 0.005, 0.995]))


def draw_profile(
    world: World,
    binning: Binning,
    window: int,
    rows: int,
    rng: np.random.Generator,
    change: Change | None = None,
) -> Profile:
    """Draw the profile of a window."""
    push = world.push(window, rng)
    columns = []
    for i, column in enumerate(binning.columns):
        cells = _cells(world, i, push, change, len(column.counts))
        drawn = rng.multinomial(rows, cells)
        *counts, missing, new = drawn.tolist()
        columns.append(
            ColumnProfile(name=column.name, counts=tuple(counts), missing=missing, new=new)
        )
    bad = int(rng.binomial(rows, 0.002))
    codes = _draw_codes(world, push, change, min(rows, SIZE), rng)
    hashes = np.arange(len(codes), dtype=np.uint64)
    return Profile(
        rows=rows,
        read=rows + bad,
        quarantined=bad,
        bins=binning.digest,
        columns=tuple(columns),
        sample=Sample.of(hashes, codes),
    )


def _cells(
    world: World, i: int, push: np.ndarray, change: Change | None, n_bins: int
) -> np.ndarray:
    """Return the share of each cell of a column in a window; missing and new levels last."""
    if i == N_FEATURES:
        mean, spread = _predicted(world, push, change)
        inner = np.diff(special.ndtr((_RANKS - mean) / spread), prepend=0, append=1)
        return np.clip(np.append(inner, [0.0, 0.0]), 0.0, None)
    mean, spread, missing, new, stuck = push[i], 1.0, world.missing[i], 0.0, 0.0
    if change is not None and change.column == i:
        mean += change.size * (change.kind == "shift")
        spread += change.size * (change.kind == "scale")
        missing += (1 - missing) * change.size * (change.kind == "missing")
        new = change.size * (change.kind == "new")
        stuck = change.size * (change.kind == "stuck")
    shares = np.diff(special.ndtr((world.cuts[i] - mean) / spread), prepend=0, append=1)
    shares *= 1 - stuck
    shares[np.searchsorted(world.cuts[i], 0.0)] += stuck
    beyond = shares[n_bins:].sum()
    known = shares[:n_bins] * (1 - new)
    cells = np.append(known * (1 - missing), [missing, (1 - missing) * (beyond * (1 - new) + new)])
    return np.asarray(np.clip(cells, 0, None) / cells.sum())


def _predicted(world: World, push: np.ndarray, change: Change | None) -> tuple[float, float]:
    """Return mean and standard deviation of the predictions, on the scale of an ordinary window."""
    shift, variance = float(world.weights @ push), 1.0
    if change is not None:
        w, size = world.weights[change.column], change.size
        gone = change.kind in ("missing", "stuck", "new")
        shift += w * size * (change.kind == "shift")
        variance += w**2 * ((1 + size) ** 2 - 1) * (change.kind == "scale") - w**2 * size * gone
    return shift, float(np.sqrt(variance))


def cost(world: World, change: Change) -> float:
    """Return by what share a change raises the root mean squared error of the model."""
    w, size = world.weights[change.column], change.size
    off = {
        "shift": size**2,
        "scale": size**2,
        "missing": size,
        "stuck": size,
        "new": size,
        "shuffled": 2 * size,
    }[change.kind] * w**2
    return float(np.sqrt(1 + off / NOISE**2) - 1)


def size_of(world: World, column: int, kind: str, wanted: float) -> float | None:
    """Return the size of a change that costs so much; None where none does."""
    off = ((1 + wanted) ** 2 - 1) * NOISE**2 / world.weights[column] ** 2
    if kind in ("shift", "scale"):
        return float(np.sqrt(off))
    size = float(off / 2 if kind == "shuffled" else off)
    return size if size <= 1 else None


def _draw_codes(
    world: World, push: np.ndarray, change: Change | None, rows: int, rng: np.random.Generator
) -> np.ndarray:
    z = rng.normal(size=(rows, N_FEATURES))
    factor = rng.normal(size=(rows, 1))
    z[:, :N_SHARED] = np.sqrt(SHARED) * factor + np.sqrt(1 - SHARED) * z[:, :N_SHARED]
    z += push
    lost = rng.random(z.shape) < world.missing
    fresh = np.zeros(rows, bool)
    if change is not None:
        i, hit = change.column, rng.random(rows) < change.size
        if change.kind == "shift":
            z[:, i] += change.size
        elif change.kind == "scale":
            z[:, i] = push[i] + (z[:, i] - push[i]) * (1 + change.size)
        elif change.kind == "missing":
            lost[hit, i] = True
        elif change.kind == "stuck":
            z[hit, i] = 0.0
        elif change.kind == "shuffled":
            z[hit, i] = push[i] + rng.normal(size=int(hit.sum()))
        else:
            fresh = hit
    predicted = z @ world.weights / float(np.sqrt(1 + _extra(world)))
    codes = np.empty((rows, N_FEATURES + 1), np.uint8)
    for i, cuts in enumerate(world.cuts):
        n = len(cuts) + 1
        last = n if i < N_NUMBERS else min(n, KEPT)
        place = np.minimum(np.searchsorted(cuts, z[:, i]), last)
        codes[:, i] = np.where(lost[:, i], last, place)
        if change is not None and change.column == i:
            codes[fresh, i] = last
    codes[:, -1] = np.searchsorted(_RANKS, predicted)
    return codes


def _extra(world: World) -> float:
    """Return what the shared factor adds to the variance of predictions."""
    w = world.weights[:N_SHARED]
    return float(SHARED * (w.sum() ** 2 - (w**2).sum()))


def reference_of(world: World, binning: Binning, rows: int, rng: np.random.Generator) -> Reference:
    """Draw what a model remembers of windows of so many rows."""
    windows = tuple(draw_profile(world, binning, w, rows, rng) for w in reversed(range(PAST)))
    importance = tuple((world.weights**2).tolist())
    plain, sample, separations = sample_windows(windows, importance)
    return Reference(
        binning=binning,
        whole=combine(list(plain), binning),
        windows=plain,
        importance=importance,
        loss="rmse",
        losses=(),
        sample=sample,
        separations=separations,
        span=WINDOW,
    )


def draw_rows(world: World, window: int, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the rows of a window: numbers of several distributions, and levels as text."""
    z = rng.normal(size=(rows, N_FEATURES))
    factor = rng.normal(size=(rows, 1))
    z[:, :N_SHARED] = np.sqrt(SHARED) * factor + np.sqrt(1 - SHARED) * z[:, :N_SHARED]
    z += world.push(window, rng)
    shapes: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
        lambda v: v,
        np.exp,
        stats.norm.cdf,
        lambda v: -np.log(stats.norm.sf(v)),
        lambda v: v**3,
    )
    columns: dict[str, np.ndarray] = {}
    for i, cuts in enumerate(world.cuts):
        lost = rng.random(rows) < world.missing[i]
        if i < N_NUMBERS - 2:
            columns[f"x{i}"] = np.where(lost, np.nan, shapes[i % len(shapes)](z[:, i]))
            continue
        places = np.searchsorted(cuts, z[:, i])
        if i < N_NUMBERS:
            columns[f"x{i}"] = np.where(lost, np.nan, places)
        else:
            levels = np.char.add("level ", places.astype(str)).astype(object)
            levels[lost] = None
            columns[f"c{i}"] = levels
    return pd.DataFrame(columns)
