"""The Pareto front holds what nothing beats, and no clock has a say in the choice."""

from hypothesis import given
from hypothesis import strategies as st

from twinloop.candidates import CHEAP_FIRST
from twinloop.choice import choose
from twinloop.front import pareto_front
from twinloop.results import CandidateResult, FoldScore, Footprint, rank

POINTS = st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), max_size=12)
SCORES = st.lists(st.floats(0.5, 1.5), min_size=3, max_size=3)


def beats(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    """Tell whether one point is as good everywhere and better somewhere."""
    pairs = list(zip(one, two, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@given(POINTS)
def test_whoever_is_on_the_front_is_not_beaten_and_all_others_are(
    points: list[tuple[float, ...]],
) -> None:
    """A point is off the front if and only if one on it beats it."""
    front = pareto_front(points)
    for i, point in enumerate(points):
        assert (i not in front) == any(beats(points[j], point) for j in front)


@given(POINTS.filter(bool), st.permutations(range(3)))
def test_the_best_of_each_kind_is_on_the_front(
    points: list[tuple[float, ...]], order: list[int]
) -> None:
    """The first by any order of what counts is never beaten; so the front is never empty."""
    first = min(range(len(points)), key=lambda i: [points[i][k] for k in order])
    assert first in pareto_front(points)


@given(POINTS, st.randoms(use_true_random=False))
def test_the_front_does_not_hang_on_the_order(
    points: list[tuple[float, ...]], draw: object
) -> None:
    """Shuffled points have the same front."""
    shuffled = sorted(points, key=lambda _: draw.random())  # type: ignore[attr-defined]
    assert sorted(points[i] for i in pareto_front(points)) == sorted(
        shuffled[i] for i in pareto_front(shuffled)
    )


@given(POINTS)
def test_what_is_not_known_is_not_on_the_front_and_keeps_none_off(
    points: list[tuple[float, ...]],
) -> None:
    """A point with a NaN changes nothing for the others."""
    unknown = (0.0, float("nan"), 0.0)
    assert pareto_front([*points, unknown]) == pareto_front(points)


def candidates(scores: list[list[float]], clock: list[float]) -> list[CandidateResult]:
    """Return all candidates with these scores, and times that a clock gave them."""
    return [
        CandidateResult(
            name=name,
            metric="rmse",
            folds=tuple(FoldScore(train=v, valid=v, train_rows=8, valid_rows=4) for v in valid),
            fit_seconds=seconds,
            predict_seconds=seconds,
            rows=10,
            footprint=Footprint(
                batch_seconds=seconds,
                row_seconds=seconds,
                size_bytes=1,
                fit_cpu_seconds=seconds,
                fit_money=seconds,
            ),
        )
        for name, valid, seconds in zip(CHEAP_FIRST, scores, clock, strict=True)
    ]


ALL = len(CHEAP_FIRST)
CLOCKS = st.lists(st.floats(1e-6, 1e3), min_size=ALL, max_size=ALL)


@given(st.lists(SCORES, min_size=ALL, max_size=ALL), CLOCKS, CLOCKS)
def test_no_clock_decides(scores: list[list[float]], one: list[float], two: list[float]) -> None:
    """Two runs on the same rows choose alike, whatever time they took."""
    for rule in ("best", "cheapest"):
        first = choose(rank(candidates(scores, one)), rule)
        assert choose(rank(candidates(scores, two)), rule) == first


@given(st.lists(SCORES, min_size=ALL, max_size=ALL))
def test_the_cheapest_is_no_dearer_than_the_best_and_hardly_worse(
    scores: list[list[float]],
) -> None:
    """What is chosen is the best, or cheaper and at most 1 % worse."""
    ranked = rank(candidates(scores, [1.0] * ALL))
    best = ranked[0]
    winner = next(c for c in ranked if c.name == choose(ranked, "cheapest").winner)
    assert CHEAP_FIRST.index(winner.name) <= CHEAP_FIRST.index(best.name)
    assert winner.valid <= best.valid * 1.01 + 1e-9
