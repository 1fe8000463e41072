"""Amounts of money as people read them: as many digits as tell them apart, the same in a column."""

import math
from collections.abc import Iterable

_MOST = 9


def decimals_for(values: Iterable[float]) -> int:
    """Return how many decimals give the largest of some amounts three digits that count."""
    known = [abs(v) for v in values if math.isfinite(v) and v]
    if not known:
        return 2
    return min(max(2 - math.floor(math.log10(max(known))), 2), _MOST)


def money(value: float, decimals: int | None = None) -> str:
    """Spell an amount, with so many decimals or as many as it needs; NaN is ``unknown``."""
    if math.isnan(value):
        return "unknown"
    return f"{value:,.{decimals_for([value]) if decimals is None else decimals}f}"


def count(value: float) -> str:
    """Spell a number of predictions: exactly below ten thousand, roughly above."""
    for name, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if value >= max(size, 1e4):
            return f"{value / size:.3g} {name}"
    return f"{value:,.0f}"
