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
    front: list[int] = []
    # Whatever beats a point comes before it in this order, and is on the front or beaten by one
    # that is.
    for i in sorted(known, key=lambda i: points[i]):
        if not any(_beats(points[j], points[i]) for j in front):
            front.append(i)
    return tuple(sorted(front))


def _beats(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return one != two and all(a <= b for a, b in zip(one, two, strict=True))
