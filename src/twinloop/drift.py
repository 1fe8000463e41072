"""Drift: whether the input has changed beyond what is ordinary."""

from datetime import UTC, datetime, timedelta

import numpy as np
from scipy import stats

from twinloop import ordinary
from twinloop.columnscores import angles, learn_scores
from twinloop.divergence import Effect, divergence, effect
from twinloop.profile import ColumnProfile, Profile, Reference
from twinloop.samples import SIZE
from twinloop.separation import separation
from twinloop.vocabulary import Frozen
from twinloop.window import Window

# Share of a past window's rows below which a window is too young to be compared.
_ENOUGH = 0.5
# Windows of the past that are this far from the others differ in time itself: a month, a date. Half
# a year of temperatures is at 0.5 or so, which is a season and can drift.
_CLOCK = 0.75
# Rows of a window below which nothing is said of all columns together.
_FEW_ROWS = 100
_WIDTH = float(stats.norm.ppf(0.975))
# Names of what is checked beside the columns.
TOGETHER, QUARANTINE = "all columns together", "quarantined rows"


class FeatureDrift(Frozen):
    """How far a column is from its reference.

    Attributes
    ----------
    distance
        Jensen-Shannon distance in base 2, less what samples of this size are apart by chance: 0
        (the same) to 1 (nothing in common).
    p_value
        Chance of a window as different by sample size and ordinary variation between windows,
        corrected for the number of things checked (Holm 1979).
    importance
        Share of the column in the model.
    low, high
        Interval of 95 % for the distance.
    """

    column: str
    distance: float
    p_value: float
    importance: float
    drifted: bool
    low: float = 0.0
    high: float = 1.0


def compare_profiles(
    reference: Reference,
    current: Profile,
    *,
    alpha: float,
    min_effect: float,
    ahead: float = 1.0,
    span: timedelta | None = None,
) -> tuple[FeatureDrift, ...]:
    """Compare a window with what the model was trained on: every column, and all of them together.

    A column has drifted where its distance is at least `min_effect` and what is seen of it cannot
    be explained by the size of the samples or by how much windows of the training rows differed.

    Parameters
    ----------
    reference
        Stored with the model.
    current
        Profile of recent rows, of the same bins.
    alpha
        Chance of a false alarm, over all that is checked of the window.
    min_effect
        Smallest distance that counts.
    ahead
        How many windows after the newest one of the training rows this one is.
    span
        Length of the window, which tells cycles of the calendar where past ones were as long; None
        where rows have no time.

    Returns
    -------
    tuple of FeatureDrift
        By distance, the largest first; empty where there are too few rows to compare with windows
        of the past.
    """
    span = span if span == reference.span else None
    sizes = np.array([w.rows for w in reference.windows][::-1], np.float64)
    typical = float(np.median(sizes)) if len(sizes) else 0.0
    if current.rows == 0 or current.rows < _ENOUGH * typical:
        return ()
    p_raw, effects = [], []
    for i in range(len(current.columns)):
        then, now = _cells(reference.whole.columns[i]), _cells(current.columns[i])
        past = np.array([_cells(w.columns[i]) for w in reversed(reference.windows)])
        past = past.reshape(-1, len(then))
        is_coded = not reference.binning.columns[i].edges
        means = _means(reference, current, i)
        p_raw.append(_p_of_column(then, past, sizes, now, is_coded, ahead, span, means))
        effects.append(effect(then, now))
    outputs = len(current.columns) - len(reference.importance)
    checked = [c.name for c in current.columns]
    importance = [*reference.importance, *[1.0] * outputs]
    for name, weight, found in (
        (TOGETHER, 1.0, _together(reference, current, ahead, span)),
        (QUARANTINE, 0.0, _quarantined(reference, current)),
    ):
        if found is not None:
            checked, importance = [*checked, name], [*importance, weight]
            p_raw, effects = [*p_raw, found[0]], [*effects, found[1]]
    features = (
        FeatureDrift(
            column=name,
            distance=size.distance,
            low=size.low,
            high=size.high,
            p_value=float(p),
            importance=weight,
            drifted=bool(p < alpha and size.distance >= min_effect),
        )
        for name, size, p, weight in zip(
            checked, effects, holm(np.array(p_raw)), importance, strict=True
        )
    )
    return tuple(sorted(features, key=lambda f: -f.distance))


def _together(
    reference: Reference, current: Profile, ahead: float, span: timedelta | None
) -> tuple[float, Effect] | None:
    """Tell whether rows of the window are told from those of the past better than past windows'."""
    areas = np.array(reference.separations[::-1])
    rows, then = current.sample.codes(), reference.sample.codes()
    if len(areas) < ordinary.FEW or len(rows) < _FEW_ROWS:
        return None
    area = separation(then[:, reference.used], rows[:, reference.used])
    sizes = np.array([min(w.rows, SIZE) for w in reference.windows[::-1]], np.float64)
    # In units in which the variance is one over the rows (Mann and Whitney 1947), and twice that
    # as the classifier is fitted on other parts of the same rows.
    unit = np.sqrt(6 / (1 + len(rows) / len(then)))
    p = ordinary.p_values(
        unit * areas[:, None], sizes, np.array([unit * area]), float(len(rows)), ahead, span
    )
    usual = float(areas.mean())
    wide = _WIDTH * float(areas.std(ddof=1))
    ends = [min(max(2 * (area - usual + d), 0.0), 1.0) for d in (0.0, -wide, wide)]
    return float(p[0]) if area > usual else 1.0, Effect(*ends)


def _quarantined(reference: Reference, current: Profile) -> tuple[float, Effect] | None:
    """Tell whether more rows break the contract than did in the past; None if that is not known."""
    if current.read == 0 or not reference.quarantine:
        return None
    windows = reference.windows[::-1] or (reference.whole,)
    counts = np.array([[w.quarantined, max(w.read, 1)] for w in windows], np.float64)
    now = np.array([current.quarantined, current.read], np.float64)
    p = ordinary.p_values(
        angles(counts[:, :1], counts[:, 1:]),
        counts[:, 1],
        angles(now[:1], now[1:]),
        float(current.read),
    )
    then = counts.sum(axis=0)
    more = now[0] / now[1] > then[0] / then[1]
    both = [np.array([k, n - k]) for k, n in (then, now)]
    return float(p[0]) if more else 1.0, effect(both[0], both[1])


def windows_ahead(reference: Reference, window: Window | None) -> float:
    """Return how many windows after the newest one of the training rows a window is; at least 1."""
    if window is None or reference.until is None:
        return 1.0
    since = window.end - datetime.fromtimestamp(0, UTC) - timedelta(microseconds=reference.until)
    return max(1.0, since / (window.end - window.start))


def _cells(column: ColumnProfile) -> np.ndarray:
    return np.array([*column.counts, column.missing, column.new], np.float64)


def _means(reference: Reference, current: Profile, i: int) -> np.ndarray:
    """Return the means of a quantity's windows, the newest last: shape (n_windows + 1, 0 or 1).

    Ranks end where the training rows end; means tell by how far they were left behind. They are in
    standard deviations of the training rows, missing ones at the mean.
    """
    grid, whole = reference.binning.grid(i), reference.whole.columns[i]
    columns = [*(w.columns[i] for w in reversed(reference.windows)), current.columns[i]]
    known = sum(whole.counts)
    variance = known * whole.squares - whole.total**2
    if grid is None or variance <= 0:
        return np.empty((len(columns), 0))
    middle, deviation = whole.total / known, float(np.sqrt(variance)) / known
    means = [(c.total / sum(c.counts) if any(c.counts) else middle) - middle for c in columns]
    return np.array(means)[:, None] / deviation


def _p_of_column(
    then: np.ndarray,
    past: np.ndarray,
    sizes: np.ndarray,
    now: np.ndarray,
    is_coded: bool,
    ahead: float,
    span: timedelta | None,
    means: np.ndarray,
) -> float:
    """Return the smallest p-value of a column's scores, times how many there are (Bonferroni)."""
    if len(past) >= ordinary.FEW and np.median(divergence(then - past, past)) >= _CLOCK**2:
        return 1.0
    typical = float(np.median(sizes)) if len(sizes) else float(now.sum())
    scores = learn_scores(then, is_coded, typical)
    before = past.copy()
    if is_coded:
        # A level that no other window had would have been new, had the model not seen this one.
        only = (past == then) & (past > 0)
        only[:, -2:] = False
        before[:, -1] += (past * only).sum(axis=1)
        before[only] = 0.0
    sizes = sizes if len(sizes) else then.sum()[None]
    old = scores.of(before if len(before) else then[None])
    new = scores.of(now[None])
    # Where a quantity goes far, it is squeezed at the ends of its ranks: place bends all but means.
    led = None if is_coded or old.shape[1] < 2 else slice(1, old.shape[1])
    if len(past):
        old, new = np.hstack([old, means[:-1]]), np.hstack([new, means[-1:]])
    p = ordinary.p_values(old, sizes, new[0], float(now.sum()), ahead, span, led)
    return float(min(1.0, p.min() * len(p))) if len(p) else 1.0


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p-values for their number (Holm 1979, step-down): shape (n,)."""
    n = len(p_values)
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * (n - np.arange(n)))
    corrected = np.empty(n)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
