"""Leakage: signs, before anything is fitted, that a model would see what it is to predict.

Each check has a code, which is its key under ``training.checks``. What is certain fails a training
unless the workload says otherwise; what is a suspicion warns.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from twinloop.contract import ColumnContract, Contract
from twinloop.errors import LeakageError
from twinloop.scorer import Target
from twinloop.splitting import Split
from twinloop.tables import mix, row_hashes
from twinloop.workload import CheckCode, Frozen, Workload

# Rows that columns are looked at; what looks suspicious on them is then looked at on all rows.
_SAMPLE = 20_000
_FITTED, _JUDGED = 4000, 2000  # rows of a fold in the check of single features
_BINS = 200
_MAX_CLASSES = 16
# A coincidence over fewer rows proves nothing.
_MIN_ROWS, _MIN_VARIED = 20, 10
_MIN_JUDGED = 50
# Of the target's variance. Of the honest features tried the strongest explain 0.89 (the width of an
# iris' petal) and 0.88 (the day of the week, of working days); `registered` explains 0.975 of the
# rentals it is a part of. A class that one feature sets quite apart is a false alarm all the same.
_NEAR = 0.95
_MANY = 0.95  # share of different values from which a column names its rows
_ROUNDING = 1e-6  # of the target's range: what writing numbers as decimals may change
_TWINS = 0.01  # share of twins worth a word
_KINDS = 20  # twins a row, from which the rows are of few kinds rather than copied


class Finding(Frozen):
    """One sign of a leak.

    Attributes
    ----------
    code
        Which check found it.
    level
        What the workload wants to happen: ``warn`` or ``fail``.
    columns
        Which columns it is about; none where it is about rows.
    numbers
        What was measured, by name.
    explanation
        One sentence on what was found and why it is a leak.
    advice
        What to do about it.
    """

    code: CheckCode
    level: Literal["warn", "fail"]
    columns: tuple[str, ...]
    numbers: dict[str, float]
    explanation: str
    advice: str


@dataclass(frozen=True)
class _Leak:
    """A finding before it is known how serious the workload takes it."""

    columns: tuple[str, ...]
    numbers: dict[str, float]
    explanation: str
    advice: str


def find_leaks(
    table: pa.Table, contract: Contract, target: Target, split: Split, workload: Workload
) -> tuple[Finding, ...]:
    """Look for leaks in rows that are about to be learned from.

    Parameters
    ----------
    table
        A snapshot's rows, shape (n_rows, n_columns).
    contract
        Says which columns are features.
    target
        What is predicted.
    split
        How the rows are divided.
    workload
        Its ``training.checks`` say which checks run, and what follows from a finding.

    Returns
    -------
    tuple of Finding
        In the order of the checks.
    """
    case = _Case(table, contract, target, split, workload)
    levels = workload.training.checks.model_dump()
    return tuple(
        Finding(code=code, level=levels[code], **vars(leak))
        for code, check in _CHECKS.items()
        if levels[code] != "disabled"
        for leak in check(case)
    )


def refuse_leaks(findings: Iterable[Finding]) -> None:
    """Stop where a finding is meant to.

    Raises
    ------
    LeakageError
        With every finding of level ``fail``.
    """
    failed = [f for f in findings if f.level == "fail"]
    if failed:
        codes = ", ".join(sorted({f"training.checks.{f.code}" for f in failed}))
        raise LeakageError(
            " ".join(f"{f.code}: {f.explanation} {f.advice}" for f in failed),
            f"Where it is no leak, set {codes} to warn.",
        )


@dataclass(frozen=True)
class _Case:
    """Rows, and what checks have in common of them."""

    table: pa.Table
    contract: Contract
    target: Target
    split: Split
    workload: Workload

    @cached_property
    def y(self) -> np.ndarray:
        """The target: numbers, or codes of classes."""
        return self.target.encode(self.table.column(self.target.name))

    @cached_property
    def times(self) -> np.ndarray | None:
        """Microseconds since 1970, or None where rows have no time."""
        name = self.workload.time
        return None if name is None else self.table.column(name).cast(pa.int64()).to_numpy()

    @cached_property
    def sample(self) -> np.ndarray:
        """Row numbers to look at first, increasing."""
        n_rows = self.table.num_rows
        if n_rows <= _SAMPLE:
            return np.arange(n_rows)
        rng = np.random.default_rng(self.workload.seed)
        return np.sort(rng.choice(n_rows, _SAMPLE, replace=False))

    @cached_property
    def sampled(self) -> dict[str, np.ndarray]:
        """Values of each feature on the sample; see `_numbers`."""
        part = self.table.take(pa.array(self.sample))
        return {c.name: _numbers(part.column(c.name)) for c in self.features}

    @cached_property
    def cuts(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Pairs of rows fitted on and rows judged on: the folds and the holdout."""
        return (*self.split.folds, (self.split.train, self.split.holdout))

    @property
    def first_folds(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """The folds of the first draw."""
        return self.split.folds[: self.workload.training.folds]

    @cached_property
    def copies(self) -> frozenset[str]:
        """Features that are the target under another name."""
        return frozenset(c.name for c in self.features if self._is_copy(c))

    @property
    def features(self) -> tuple[ColumnContract, ...]:
        """Columns that a model may see."""
        return self.contract.select("feature")

    def column(self, name: str) -> np.ndarray:
        """Return a feature's values on all rows; see `_numbers`."""
        return _numbers(self.table.column(name))

    def _is_copy(self, column: ColumnContract) -> bool:
        if self.target.task == "regression":
            if column.kind == "category":
                return False
            times = self.times
            seen = None if times is None else times[self.sample]
            first = _one_order(self.y[self.sample], self.sampled[column.name], seen)
            return first and _one_order(self.y, self.column(column.name), times)
        first = _relabelled(self.y[self.sample], self.sampled[column.name])
        return first and _relabelled(self.y, self.column(column.name))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Return float64 of shape (n_rows,), NaN where missing; of texts, codes without an order."""
    kind = column.type
    if pa.types.is_string(kind):
        codes = pd.factorize(column.to_pandas())[0]
        return np.where(codes < 0, np.nan, codes)
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def _tells(y: np.ndarray) -> bool:
    """Tell whether so many rows, and so many that differ, can be no coincidence."""
    if len(y) < _MIN_ROWS:
        return False
    _, counts = np.unique(y, return_counts=True)
    return bool(len(y) - counts.max() >= _MIN_VARIED)


def _one_order(y: np.ndarray, x: np.ndarray, times: np.ndarray | None) -> bool:
    """Tell whether a number rises or falls with the target, step by step and without exception.

    Scaling, shifting, logarithms and the like change nothing in that.
    """
    known = np.isfinite(x)
    y, x = y[known], x[known]
    if not _tells(y):
        return False
    order = np.argsort(x, kind="stable")
    rise, step = np.diff(y[order]) / np.ptp(y), np.diff(x[order]) / (np.ptp(x) or 1.0)
    slack = 1e-9
    if not ((rise >= -slack).all() or (rise <= slack).all()):
        return False
    # The same ties, but for a few that rounding made.
    steps = np.abs(rise) > slack
    if (steps != (step > slack)).sum() > 0.01 * steps.sum():
        return False
    if times is not None and _steady(y, times[known]):
        # What only ever grows goes along with everything else that does. A line is no accident.
        line = np.polyval(np.polyfit(x, y, 1), x)
        return bool(np.abs(line - y).max() <= _ROUNDING * np.ptp(y))
    return True


def _steady(y: np.ndarray, times: np.ndarray) -> bool:
    rise = np.diff(y[np.argsort(times, kind="stable")])
    return bool((rise >= 0).all() or (rise <= 0).all())


def _relabelled(y: np.ndarray, x: np.ndarray) -> bool:
    """Tell whether each class has one value of its own."""
    known = ~np.isnan(x)
    y, x = y[known], x[known]
    if not _tells(y) or len(np.unique(y)) < 2:
        return False
    frame = pd.DataFrame({"y": y, "x": x})
    return frame["y"].nunique() == frame["x"].nunique() == len(frame.drop_duplicates())


def _group_overlap(case: _Case) -> Iterator[_Leak]:
    name = case.workload.group
    if name is None:
        return
    codes = pd.factorize(case.table.column(name).to_pandas())[0]
    bad = sum(bool(_seen(codes, *cut).any()) for cut in case.cuts)
    if bad:
        yield _Leak(
            (name,),
            {"cuts": bad, "of": len(case.cuts)},
            f"{bad} of {len(case.cuts)} cuts have rows of one {name!r} on both sides.",
            "Leave training.split at auto, which keeps groups apart.",
        )


def _time_overlap(case: _Case) -> Iterator[_Leak]:
    name, times = case.workload.time, case.times
    if name is None or times is None:
        return
    gap = int(case.workload.training.gap.total_seconds() * 1e6)
    bad = sum(bool(times[fit].max() + gap >= times[held].min()) for fit, held in case.cuts)
    if bad:
        yield _Leak(
            (name,),
            {"cuts": bad, "of": len(case.cuts)},
            f"{bad} of {len(case.cuts)} cuts fit on rows that are no earlier, by {name!r} and the "
            "gap, than rows they are judged on: that is to predict the past from the future.",
            "Set training.split to time.",
        )


def _target_copy(case: _Case) -> Iterator[_Leak]:
    name = case.target.name
    for column in case.features:
        if column.name in case.copies:
            yield _Leak(
                (column.name,),
                {"rows": float(case.table.num_rows - case.table.column(column.name).null_count)},
                f"{column.name!r} is the target {name!r} in other words: each gives the other away "
                "in every row.",
                f"List {column.name!r} under 'ignore'.",
            )
    for a, sign, b, rows in _sums(case):
        yield _Leak(
            (a, b),
            {"rows": float(rows)},
            f"{a!r} {sign} {b!r} is the target {name!r} in all {rows} rows that have the three.",
            f"List {a!r} and {b!r} under 'ignore', unless both are known before the target is.",
        )


def _sums(case: _Case) -> Iterator[tuple[str, str, str, int]]:
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
            near = np.abs(few[start:] - partner) <= _ROUNDING * np.ptp(y)
            unknown = np.isnan(few[start:] - partner)
            fits = (near | unknown).all(axis=1) & (near.sum(axis=1) * 2 >= len(probe))
            for j in np.flatnonzero(fits) + start:
                rows = _rows_of_sum(case, a, names[j], 1 if sign == "+" else -1)
                if j != i and rows:
                    yield a, sign, names[j], rows


def _rows_of_sum(case: _Case, a: str, b: str, sign: int) -> int:
    off = case.column(a) + sign * case.column(b) - case.y
    known = ~np.isnan(off)
    if not _tells(case.y[known]) or np.abs(off[known]).max() > _ROUNDING * np.ptp(case.y):
        return 0
    return int(known.sum())


def _near_target(case: _Case) -> Iterator[_Leak]:
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
            yield _Leak(
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


def _small_folds(case: _Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the last folds of the first draw, with few rows of each."""
    rng = np.random.default_rng(case.workload.seed)

    def some(rows: np.ndarray, n: int) -> np.ndarray:
        return rows if len(rows) <= n else np.sort(rng.choice(rows, n, replace=False))

    return [(some(fit, _FITTED), some(held, _JUDGED)) for fit, held in case.first_folds[-5:]]


def _previous(case: _Case) -> np.ndarray:
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


def _id_like(case: _Case) -> Iterator[_Leak]:
    for column in case.features:
        if column.kind not in ("number", "category"):
            continue
        names = _names_rows if column.kind == "category" else _counts_rows
        if names(case.sampled[column.name]) and names(x := case.column(column.name)):
            known = x[~np.isnan(x)]
            different = len(np.unique(known))
            yield _Leak(
                (column.name,),
                {"different": float(different), "rows": float(len(known))},
                f"{column.name!r} has {different} different values in {len(known)} rows: it looks "
                "like the name of a row, which a model can learn by heart and never meets again.",
                f"List {column.name!r} under 'ignore', or under 'key' if it identifies a row.",
            )


def _names_rows(codes: np.ndarray) -> bool:
    """Tell whether nearly every row has a value of its own."""
    known = codes[~np.isnan(codes)]
    return len(known) >= 2 * _MIN_ROWS and len(np.unique(known)) >= _MANY * len(known)


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


def _duplicate_rows(case: _Case) -> Iterator[_Leak]:
    names = [*(c.name for c in case.features), case.target.name]
    parts = [
        mix(row_hashes(case.table, [name]) + np.uint64(place)) for place, name in enumerate(names)
    ]
    # Sums of hashes: a column is left out again by taking it off.
    whole = sum(parts, start=np.zeros(case.table.num_rows, np.uint64))
    codes = pd.factorize(whole)[0]
    judged, twinned = np.zeros((2, len(codes)), bool)
    # Draws after the first divide the same rows.
    for fit, held in (*case.first_folds, case.cuts[-1]):
        judged[held] = True
        twinned[held] |= _seen(codes, fit, held)
    rows, of = int(twinned.sum()), int(judged.sum())
    if rows < max(_TWINS * of, _MIN_VARIED) or _by_chance(whole, parts):
        return
    yield _Leak(
        (),
        {"rows": float(rows), "share": round(rows / of, 4)},
        f"{rows} of {of} rows ({rows / of:.1%}) judged on have a twin, alike in every feature and "
        "the target, among the rows fitted on: that is to learn by heart.",
        "Drop copies at the source; where they belong together, name a 'group'.",
    )


def _seen(codes: np.ndarray, fit: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Mark the rows judged on whose code is among the rows fitted on."""
    seen = np.zeros(int(codes.max()) + 1, bool)
    seen[codes[fit]] = True
    return seen[codes[held]]


def _by_chance(whole: np.ndarray, parts: list[np.ndarray]) -> bool:
    """Tell whether twins are what a table of few values has to have.

    Pairs of copies agree in every column. Of pairs that agree in all columns but one by chance, a
    fair share differs in that one, about as many as of any two rows. Sides of a split are of no
    matter here: without time, equal rows are held out together, which leaves kinds of rows out.
    """
    n_rows = len(whole)
    few = slice(None, None, n_rows // _JUDGED + 1)
    asked = len(whole[few])
    twins = _pairs(whole, whole[few]) - asked  # not of a row with itself
    having = int(pd.Series(whole).duplicated(keep=False)[few].sum())
    if twins > _KINDS * having:
        return True
    for part in parts:
        rest = whole - part
        agree = twins / max(_pairs(rest, rest[few]) - asked, 1.0)
        usual = _pairs(part, part[few]) / (n_rows * asked)
        if agree < 0.8 and agree < 5 * usual:
            return True
    return False


def _pairs(hashes: np.ndarray, few: np.ndarray) -> float:
    """Count pairs of a row of all and a row of few that have the same hash."""
    values, counts = np.unique(few, return_counts=True)
    place = pd.Index(values).get_indexer(pd.Index(hashes))
    return float(counts[place[place >= 0]].sum())


_CHECKS: dict[CheckCode, Callable[[_Case], Iterator[_Leak]]] = {
    "group_overlap": _group_overlap,
    "time_overlap": _time_overlap,
    "target_copy": _target_copy,
    "near_target": _near_target,
    "id_like": _id_like,
    "duplicate_rows": _duplicate_rows,
}
