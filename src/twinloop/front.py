"""The Pareto front: what nothing else beats in everything at once."""

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, ...]]) -> tuple[int, ...]:
    """Return which points are not beaten: no other is as good everywhere and better somewhere.

    Parameters
    ----------
    points
        Equally many numbers each, smaller is better; a point with a NaN is never on the front.

    Returns
    -------
    tuple of int
        Places of the points, increasing.
    """
    known = [i for i, p in enumerate(points) if not any(math.isnan(v) for v in p)]
    return tuple(i for i in known if not any(_beats(points[j], points[i]) for j in known))


def _beats(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return one != two and all(a <= b for a, b in zip(one, two, strict=True))
