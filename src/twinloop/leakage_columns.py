"""Leaks by columns: features that give the target away, or name their row."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from twinloop.digest import row_hashes
from twinloop.leakage_case import (
    JUDGED_ROWS,
    MIN_ROWS,
    ROUNDING,
    Case,
    Leak,
    tells,
)
from twinloop.scorer import Target

_FITTED = 4000  # rows of a fold in the check of single features
_BINS = 200
_MAX_CLASSES = 16
_MIN_JUDGED = 50
# Of the target's variance. Of the honest features tried the strongest explain 0.89 (the width of an
# iris' petal) and 0.88 (the day of the week, of working days); `registered` explains 0.975 of the
# rentals it is a part of. A class that one feature sets quite apart is a false alarm all the same.
_NEAR = 0.95
_MANY = 0.95  # share of different values from which a column names its rows


def target_copy(case: Case) -> Iterator[Leak]:
    """Find features, alone or two added up, that are the target in other words."""
    name = case.target.name
    for column in case.features:
        if column.name in case.copies:
            yield Leak(
                (column.name,),
                {"rows": float(case.table.num_rows - case.table.column(column.name).null_count)},
                f"{column.name!r} is the target {name!r} in other words: each gives the other away "
                "in every row.",
                f"List {column.name!r} under 'ignore'.",
            )
    for a, sign, b, rows in _sums(case):
        yield Leak(
            (a, b),
            {"rows": float(rows)},
            f"{a!r} {sign} {b!r} is the target {name!r} in all {rows} rows that have the three.",
            f"List {a!r} and {b!r} under 'ignore', unless both are known before the target is.",
        )


def _sums(case: Case) -> Iterator[tuple[str, str, str, int]]:
    """Yield pairs of numbers whose sum or difference is the target, and in how many rows."""
    y = case.y[case.sample]
    names = [
        c.name
        for c in case.features
        if c.kind == "number"
        and c.name not in case.copies
        and np.nanmax(x := case.sampled[c.name], initial=-np.inf) > np.nanmin(x, initial=np.inf)
    ]
    if case.target.task != "regression" or len(names) < 2:
        return
    # A few rows that differ rule out all but a few pairs; these are looked at on all rows.
    probe = np.unique(y, return_index=True)[1][:: max(1, len(np.unique(y)) // 32)][:32]
    few = np.stack([case.sampled[n][probe] for n in names])
    for i, a in enumerate(names):
        for sign, partner, start in (
            ("+", y[probe] - few[i], i + 1),
            ("-", few[i] - y[probe], 0),
        ):
            near = np.abs(few[start:] - partner) <= ROUNDING * np.ptp(y)
            unknown = np.isnan(few[start:] - partner)
            fits = (near | unknown).all(axis=1) & (near.sum(axis=1) * 2 >= len(probe))
            for j in np.flatnonzero(fits) + start:
                rows = _rows_of_sum(case, a, names[j], 1 if sign == "+" else -1)
                if j != i and rows:
                    yield a, sign, names[j], rows


def _rows_of_sum(case: Case, a: str, b: str, sign: int) -> int:
    off = case.column(a) + sign * case.column(b) - case.y
    known = ~np.isnan(off)
    if not tells(case.y[known]) or np.abs(off[known]).max() > ROUNDING * np.ptp(case.y):
        return 0
    return int(known.sum())


def near_target(case: Case) -> Iterator[Leak]:
    """Predict the target from one feature at a time, on rows of the folds not fitted on."""
    truth = _indicators(case.y, case.target)
    folds = _small_folds(case)
    if sum(len(held) for _, held in folds) < _MIN_JUDGED:
        return
    known = _explained(_previous(case), truth, folds, coded=case.target.task != "regression")
    for column in case.features:
        if column.name in case.copies:
            continue
        x = case.column(column.name)
        share = _explained(x, truth, folds, coded=column.kind == "category")
        # Of a target that hardly moves, its last value says as much; so may an honest feature.
        if share >= _NEAR and 1 - share < (1 - known) / 2:
            yield Leak(
                (column.name,),
                {"explained": round(share, 4)},
                f"{column.name!r} alone explains {share:.1%} of the target {case.target.name!r} on "
                "rows not fitted on: it may be known only together with it.",
                f"If it is known before the target is, leave it; else list {column.name!r} under "
                "'ignore'.",
            )


def _indicators(y: np.ndarray, target: Target) -> np.ndarray:
    """Return ranks, shape (n_rows, 1), or a column of 0 and 1 for each of the commonest classes.

    Ranks, since a few very large values would else be all that counts.
    """
    if target.task == "regression":
        return pd.Series(y).rank(pct=True).to_numpy()[:, None]
    classes, counts = np.unique(y, return_counts=True)
    common = classes[np.argsort(-counts, kind="stable")][:_MAX_CLASSES]
    return (y[:, None] == common).astype(np.float64)


def _small_folds(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the last folds of the first draw, with few rows of each."""
    rng = np.random.default_rng(case.workload.seed)

    def some(rows: np.ndarray, n: int) -> np.ndarray:
        return rows if len(rows) <= n else np.sort(rng.choice(rows, n, replace=False))

    return [(some(fit, _FITTED), some(held, JUDGED_ROWS)) for fit, held in case.first_folds[-5:]]


def _previous(case: Case) -> np.ndarray:
    """Return the target of the row before, of the same group or key; NaN where there is none."""
    times, workload = case.times, case.workload
    before = np.full(len(case.y), np.nan)
    if times is None:
        return before
    names = [n for n in (workload.group, *workload.key) if n not in (None, workload.time)]
    series = row_hashes(case.table, sorted(set(names)))
    order = np.lexsort((times, series))
    same = series[order][1:] == series[order][:-1]
    before[order[1:]] = np.where(same, case.y[order[:-1]], np.nan)
    return before


def _explained(
    x: np.ndarray, truth: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], *, coded: bool
) -> float:
    """Return the share of the truth's variance that a feature explains on rows not fitted on."""
    wrong = total = 0.0
    for fit, held in folds:
        guess = _predict(x[fit], truth[fit], x[held], coded=coded)
        wrong += float(((truth[held] - guess) ** 2).sum())
        total += float(((truth[held] - truth[held].mean(axis=0)) ** 2).sum())
    return 1.0 - wrong / total if total > 0 else 0.0


def _predict(x: np.ndarray, truth: np.ndarray, asked: np.ndarray, *, coded: bool) -> np.ndarray:
    """Predict by the mean of a level or, between the means of neighbouring bins, by a line."""
    missing = np.isnan(x)
    guess = np.tile(truth.mean(axis=0), (len(asked), 1))
    if missing.any():
        guess[np.isnan(asked)] = truth[missing].mean(axis=0)
    if missing.all():
        return guess
    x, truth = x[~missing], truth[~missing]
    values, at = np.unique(x, return_inverse=True)
    if not coded and len(values) > _BINS:
        inner = np.quantile(x, np.linspace(0, 1, _BINS + 1)[1:-1])
        _, at = np.unique(np.searchsorted(inner, x, side="right"), return_inverse=True)
    counts = np.bincount(at)
    centres = np.bincount(at, x) / counts
    means = np.stack([np.bincount(at, t) / counts for t in truth.T], axis=1)
    if coded:
        place = np.clip(np.searchsorted(centres, asked), 0, len(centres) - 1)
        met = centres[place] == asked
        guess[met] = means[place[met]]
        return guess
    known = ~np.isnan(asked)
    for k in range(truth.shape[1]):
        guess[known, k] = np.interp(asked[known], centres, means[:, k])
    return guess


def id_like(case: Case) -> Iterator[Leak]:
    """Find features that name their row."""
    for column in case.features:
        if column.kind not in ("number", "category"):
            continue
        names = _names_rows if column.kind == "category" else _counts_rows
        if names(case.sampled[column.name]) and names(x := case.column(column.name)):
            known = x[~np.isnan(x)]
            different = len(np.unique(known))
            yield Leak(
                (column.name,),
                {"different": float(different), "rows": float(len(known))},
                f"{column.name!r} has {different} different values in {len(known)} rows: it looks "
                "like the name of a row, which a model can learn by heart and never meets again.",
                f"List {column.name!r} under 'ignore', or under 'key' if it identifies a row.",
            )


def _names_rows(codes: np.ndarray) -> bool:
    """Tell whether nearly every row has a value of its own."""
    known = codes[~np.isnan(codes)]
    return len(known) >= 2 * MIN_ROWS and len(np.unique(known)) >= _MANY * len(known)


def _counts_rows(x: np.ndarray) -> bool:
    """Tell whether numbers are numbered: whole, different, and without gaps or evenly strewn.

    Measures that happen to be whole, like incomes, differ too, but crowd somewhere.
    """
    if not _names_rows(x):
        return False
    known = np.sort(x[~np.isnan(x)])
    if (known != np.floor(known)).any():
        return False
    span = known[-1] - known[0] + 1
    if len(np.unique(known)) >= 0.3 * span:
        return True
    # Distance from the uniform distribution (Kolmogorov and Smirnov), at a level of 1 %.
    even = (known - known[0] + 0.5) / span
    distance = np.abs(even - (np.arange(len(known)) + 0.5) / len(known)).max()
    return len(known) >= 200 and bool(distance < 1.63 / np.sqrt(len(known)))
