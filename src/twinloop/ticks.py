"""Ticks: the round numbers on the axes of a drawing, and how they are spelt."""

import itertools
import math
from collections.abc import Sequence

_MOST_DECIMALS = 12


def nice_ticks(most: float, about: int = 4) -> tuple[float, ...]:
    """Return round numbers from 0 to at least the largest value."""
    if most <= 0 or not math.isfinite(most):
        return (0.0,)
    step = _nice(most / about)
    return tuple(step * i for i in range(math.ceil(most / step - 1e-9) + 1))


def nice_between(low: float, high: float, about: int = 4) -> tuple[float, ...]:
    """Return round numbers between two."""
    step = _nice((high - low) / about)
    first = math.ceil(low / step)
    return tuple(step * i for i in range(first, math.floor(high / step) + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return round numbers between two powers of ten, at least two.

    Parameters
    ----------
    low, high
        The powers.
    """
    found = [
        m * 10.0**e
        for e in range(math.floor(low), math.ceil(high) + 1)
        for m in (1, 2, 5)
        if low <= math.log10(m) + e <= high
    ]
    if len(found) < 2:
        # So close together tenfold steps are as good as even ones.
        return nice_between(10**low, 10**high)
    powers = [v for v in found if abs(math.log10(v) - round(math.log10(v))) < 1e-9]
    return tuple(powers if len(powers) > 2 else found)


def spell_ticks(ticks: Sequence[float]) -> tuple[str, ...]:
    """Spell round numbers of an axis, all with as few decimals as tell each of them exactly."""
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    near = 1e-6 * (min(steps) if steps else max(map(abs, ticks), default=0.0))
    most = next(
        (d for d in range(_MOST_DECIMALS) if all(abs(t - round(t, d)) <= near for t in ticks)),
        _MOST_DECIMALS,
    )
    return tuple(f"{t:,.{most}f}" for t in ticks)


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if step <= m * power * (1 + 1e-9))
