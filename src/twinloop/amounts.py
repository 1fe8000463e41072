"""Amounts as people read them: as many digits as tell them apart, the same in a column."""

import math
from collections.abc import Iterable

_MOST = 9
_LEAST = 1e-8
_EXACT = 1e4
_SIZES = (("billion", 1e9), ("million", 1e6), ("thousand", 1e3))


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
    if decimals is None and 0 < abs(value) < _LEAST:
        return f"{value:.2g}"
    return f"{value:,.{decimals_for([value]) if decimals is None else decimals}f}"


def count(value: float) -> str:
    """Spell a number of predictions: exactly below ten thousand, roughly above."""
    if not _EXACT <= value < math.inf:
        return f"{value:,.0f}"
    # Rounded first: what becomes a million by that is no thousand thousands.
    rounded = float(f"{value:.3g}")
    name, size = next((n, s) for n, s in _SIZES if rounded >= s)
    number = rounded / size
    return f"{number:,.0f} {name}" if number >= 100 else f"{number:.3g} {name}"


def brackets(low: float, high: float) -> str:
    """Spell an interval: ``[0.95, 0.98]``, or ``unknown``."""
    return "unknown" if math.isnan(low) else f"[{low:.4g}, {high:.4g}]"
