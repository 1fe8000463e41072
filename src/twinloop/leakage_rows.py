"""Leaks by rows: the same group, time or row on both sides of a split."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from twinloop.digest import mix, row_hashes
from twinloop.leakage_case import JUDGED_ROWS, MIN_VARIED, Case, Leak

_TWINS = 0.01  # share of twins worth a word
_KINDS = 20  # twins a row, from which the rows are of few kinds rather than copied


def group_overlap(case: Case) -> Iterator[Leak]:
    """Find groups on both sides of a cut."""
    name = case.workload.group
    if name is None:
        return
    codes = pd.factorize(case.table.column(name).to_pandas())[0]
    bad = sum(bool(seen_in(codes, *cut).any()) for cut in case.cuts)
    if bad:
        yield Leak(
            (name,),
            {"cuts": bad, "of": len(case.cuts)},
            f"{bad} of {len(case.cuts)} cuts have rows of one {name!r} on both sides.",
            "Leave training.split at auto, which keeps groups apart.",
        )


def time_overlap(case: Case) -> Iterator[Leak]:
    """Find cuts that predict the past from the future."""
    name, times = case.workload.time, case.times
    if name is None or times is None:
        return
    gap = int(case.workload.training.gap.total_seconds() * 1e6)
    bad = sum(bool(times[fit].max() + gap >= times[held].min()) for fit, held in case.cuts)
    if bad:
        yield Leak(
            (name,),
            {"cuts": bad, "of": len(case.cuts)},
            f"{bad} of {len(case.cuts)} cuts fit on rows that are no earlier, by {name!r} and the "
            "gap, than rows they are judged on: that is to predict the past from the future.",
            "Set training.split to time.",
        )


def duplicate_rows(case: Case) -> Iterator[Leak]:
    """Find rows judged on that are copies of rows fitted on."""
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
        twinned[held] |= seen_in(codes, fit, held)
    rows, of = int(twinned.sum()), int(judged.sum())
    if rows < max(_TWINS * of, MIN_VARIED) or _by_chance(whole, parts):
        return
    yield Leak(
        (),
        {"rows": float(rows), "share": round(rows / of, 4)},
        f"{rows} of {of} rows ({rows / of:.1%}) judged on have a twin, alike in every feature and "
        "the target, among the rows fitted on: that is to learn by heart.",
        "Drop copies at the source; where they belong together, name a 'group'.",
    )


def seen_in(codes: np.ndarray, fit: np.ndarray, held: np.ndarray) -> np.ndarray:
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
    few = slice(None, None, n_rows // JUDGED_ROWS + 1)
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
