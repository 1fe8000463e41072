"""Of candidates that the folds cannot tell apart the cheapest wins, and a board says why."""

import math
from typing import get_args

import pytest

from twinloop.candidates import CHEAP_FIRST
from twinloop.choice import _rank, choose, front_names, lead
from twinloop.results import CandidateResult, Choice, FoldScore, Footprint, Leaderboard, rank
from twinloop.training_keys import Training
from twinloop.vocabulary import AnyCandidate, CandidateName, ChoiceRule, TunedName


def result(
    name: AnyCandidate,
    valid: list[float],
    metric: str = "rmse",
    takes: tuple[float, int, float] | None = None,
) -> CandidateResult:
    """Return a candidate with these scores, eight fitted rows to two; time, size and money."""
    footprint = takes and Footprint(
        batch_seconds=takes[0],
        row_seconds=1.0,
        size_bytes=takes[1],
        fit_cpu_seconds=1.0,
        fit_money=takes[2],
    )
    return CandidateResult(
        name=name,
        metric=metric,
        folds=tuple(FoldScore(train=v, valid=v, train_rows=8, valid_rows=2) for v in valid),
        fit_seconds=1.0,
        predict_seconds=1.0,
        rows=10,
        footprint=footprint,
    )


def chosen(*candidates: CandidateResult, rule: ChoiceRule = "cheapest") -> Choice:
    """Choose among candidates in any order."""
    return choose(rank(list(candidates)), rule)


# The lead is 0.004 on average in folds that differ by far more; its error 0.0021.
EASY_AND_HARD = [1.0, 2.0, 3.0, 4.0]
BEHIND = [0.012, -0.004, 0.01, -0.002]
BEST = result("forest", EASY_AND_HARD)
CLOSE = result("linear", [v + d for v, d in zip(EASY_AND_HARD, BEHIND, strict=True)])
BEATEN = result("linear", [v + 0.004 for v in EASY_AND_HARD])
FAR = result("baseline", [9.0, 8.0, 9.0, 8.0])


def test_cheapest_is_the_default() -> None:
    """A workload that says nothing gets the cheapest that the folds cannot tell from the best."""
    assert Training().choice == "cheapest"


def test_the_cheapest_within_luck_wins() -> None:
    """A lead below its standard error is luck and the cheaper one wins, but with ``best``."""
    found = chosen(FAR, BEST, CLOSE)
    assert (found.winner, found.nothing_learned) == ("linear", False)
    assert found.reason.startswith("cheaper than forest, whose mean rmse is better by no more than")
    assert "0.004, standard error" in found.reason
    best = chosen(FAR, BEST, CLOSE, rule="best")
    assert (best.winner, best.reason) == ("forest", "the best mean rmse over folds")


def test_a_steady_lead_is_no_luck() -> None:
    """Better in every fold by as much, however much the folds differ: the best wins."""
    found = chosen(FAR, BEST, BEATEN)
    assert found.winner == "forest"
    assert "nothing cheaper is within one standard error" in found.reason


def test_what_is_dearer_never_wins_by_being_close() -> None:
    """The best is left for something cheaper only."""
    assert chosen(result("linear", [1.0, 2.0]), result("forest", [1.0, 2.0])).winner == "linear"
    assert chosen(result("forest", [1.0, 2.0]), result("linear", [1.0, 2.0])).winner == "linear"
    assert chosen(result("linear", [1.0, 2.0]), result("xgboost", [1.1, 1.9])).winner == "linear"


@pytest.mark.parametrize(("behind", "winner"), [(0.009, "linear"), (0.011, "forest")])
@pytest.mark.parametrize("metric", ["rmse", "roc_auc"])
def test_no_more_than_a_hundredth_is_given_up(behind: float, winner: str, metric: str) -> None:
    """However wide the error: not more than 1 % further from a perfect score than the best."""
    away = [0.8, 1.2, 0.9, 1.1]
    wild = [v + behind + d for v, d in zip(away, (0.2, -0.2, 0.2, -0.2), strict=True)]
    if metric == "roc_auc":
        away, wild = [1 - v / 4 for v in away], [1 - v / 4 for v in wild]
    assert chosen(result("forest", away, metric), result("linear", wild, metric)).winner == winner


def test_the_error_is_that_of_the_differences() -> None:
    """Mean and error of the lead, fold by fold, with Nadeau and Bengio's correction."""
    mean, error = lead(BEST, CLOSE)
    variance = sum((d - 0.004) ** 2 for d in BEHIND) / 3
    assert mean == pytest.approx(0.004)
    assert error == pytest.approx(math.sqrt(variance * (1 / 4 + 2 / 8)))
    one = result("linear", [0.75, math.nan, 0.5], "roc_auc")
    two = result("forest", [0.5, 0.9, math.nan], "roc_auc")
    assert lead(one, two)[0] == pytest.approx(0.25)
    assert math.isnan(lead(one, two)[1])


def test_of_one_fold_the_best_wins() -> None:
    """One fold says nothing of its own error."""
    found = chosen(result("forest", [1.0]), result("linear", [1.0001]))
    assert (found.winner, found.nothing_learned) == ("forest", False)
    assert chosen(result("baseline", [1.0]), result("linear", [1.1])).nothing_learned


def test_a_baseline_that_is_not_beaten_is_named() -> None:
    """A person is told, whether it wins or is too far off to be tolerable."""
    words = "nothing learned beats the baseline"
    found = chosen(result("baseline", [1.0, 2.0, 3.0]), result("xgboost", [1.01, 1.98, 3.0]))
    assert (found.winner, found.nothing_learned) == ("baseline", True)
    assert words in found.reason
    found = chosen(result("baseline", [1.5, 1.0]), result("xgboost", [1.0, 1.2]))
    assert (found.winner, found.nothing_learned) == ("xgboost", True)
    assert words in found.reason
    assert words not in chosen(FAR, BEST, CLOSE).reason


def test_without_a_score_the_first_is_taken() -> None:
    """Where no fold has a value there is nothing to choose by, and nothing is claimed."""
    none = [result("linear", [math.nan]), result("forest", [math.nan])]
    found = chosen(*none)
    assert (found.winner, found.nothing_learned) == ("linear", False)
    assert "no fold has a rmse" in found.reason


def test_every_candidate_has_its_place_in_the_order_of_cost() -> None:
    """Whoever adds a candidate says what it costs beside the others."""
    shipped = [*get_args(CandidateName), *get_args(TunedName)]
    assert sorted(CHEAP_FIRST) == sorted(shipped)
    for tuned in get_args(TunedName):
        base = tuned.removesuffix("-tuned")
        assert CHEAP_FIRST.index(tuned) > CHEAP_FIRST.index(base)


STEADY = [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("gains", "rule", "winner"),
    [
        ((0.02, 0.03, 0.02, 0.03), "cheapest", "ensemble"),
        ((0.004, 0.005, 0.004, 0.005), "cheapest", "forest"),
        ((0.004, 0.005, 0.004, 0.005), "best", "ensemble"),
        ((0.2, -0.1, 0.2, -0.1), "best", "ensemble"),
        ((0.1, -0.118, 0.1, -0.118), "best", "ensemble"),
        ((0.1, -0.122, 0.1, -0.122), "best", "forest"),
        ((0.1, -0.2, 0.1, -0.2), "cheapest", "forest"),
        ((0.2, -0.1, 0.2, -0.1), "cheapest", "forest"),
        ((0.0, 0.0, 0.0, 0.0), "best", "forest"),
        ((-0.1, -0.1, -0.1, -0.1), "best", "forest"),
    ],
)
@pytest.mark.parametrize("metric", ["rmse", "roc_auc"])
def test_an_ensemble_wins_only_by_what_outlasts_its_cost(
    gains: tuple[float, ...], rule: ChoiceRule, winner: str, metric: str
) -> None:
    """Not clearly behind; where the cheapest is wanted, clearly ahead and by more than 1 %."""
    single, better = STEADY, [v - g for v, g in zip(STEADY, gains, strict=True)]
    if metric == "roc_auc":
        single, better = [1 - v / 4 for v in single], [1 - v / 4 for v in better]
    both = result("forest", single, metric), result("ensemble", better, metric)
    found = chosen(*both, rule=rule)
    assert found.winner == winner
    assert found.nothing_learned is False
    if sum(gains) > 0 and winner == "forest":
        assert "the best mean" in found.reason
        assert "of a single model" in found.reason
        assert "its gain does not outlast its cost" in found.reason
    else:
        assert "outlast" not in found.reason


def test_a_single_model_ahead_by_luck_gives_way_to_the_ensemble() -> None:
    """It was picked for its mean, which flatters it; the reason says so, with both numbers."""
    single = result("forest", [1.0, 1.2, 1.0, 1.2])
    found = chosen(single, result("ensemble", [1.1, 1.0, 1.2, 1.12]), rule="best")
    assert found.winner == "ensemble"
    assert "forest was picked for its mean rmse" in found.reason
    assert "0.005, standard error" in found.reason


def test_noisy_folds_excuse_no_distance() -> None:
    """An ensemble a fifth behind is no near thing, however wide the error over four folds is."""
    forest, mean = result("forest", STEADY), result("ensemble", [1.5, 0.9, 1.5, 0.9])
    behind, error = lead(forest, mean)
    assert 0 < behind < error
    found = chosen(FAR, forest, mean, rule="best")
    assert (found.winner, found.nothing_learned) == ("forest", False)
    assert found.reason == "the best mean rmse over folds"


@pytest.mark.parametrize("leader", ["baseline", "forest"])
def test_a_mean_of_what_learned_nothing_does_not_win_from_behind(leader: AnyCandidate) -> None:
    """The baseline leads, or what leads is no better than it by more than luck explains."""
    near = [1.1, 0.903, 1.1, 0.903]
    others = [result("baseline", near)] if leader != "baseline" else []
    found = chosen(result(leader, STEADY), result("ensemble", near), *others, rule="best")
    assert (found.winner, found.nothing_learned) == (leader, True)


def test_of_one_fold_no_ensemble_wins() -> None:
    """Nobody knows the error of its lead."""
    found = chosen(result("forest", [1.0]), result("ensemble", [0.5]), rule="best")
    assert found.winner == "forest"
    assert "no more than luck explains" in found.reason
    found = chosen(result("forest", [1.0]), result("ensemble", [1.01]), rule="best")
    assert found.winner == "forest"


def test_an_ensemble_is_the_dearest() -> None:
    """It leaves room for whatever is as good, an estimator of the user's own before it."""
    own = result("own", [1.0, 2.0, 3.0])
    winner = chosen(own, result("ensemble", [1.001, 2.0, 3.0]))
    assert winner.winner == "own"
    assert _rank("forest") < _rank("own") < _rank("ensemble")


def test_the_board_follows_the_choice() -> None:
    """The winner is the one chosen, with its reason; candidates stay in order of accuracy."""
    ranked = rank([FAR, BEST, CLOSE])
    board = Leaderboard(candidates=ranked, choice=choose(ranked, "cheapest"))
    assert [c.name for c in board.candidates] == ["forest", "linear", "baseline"]
    assert board.winner.name == "linear"
    assert board.reason.startswith("cheaper than forest")
    assert Leaderboard(candidates=ranked).winner.name == "forest"
    assert Leaderboard(candidates=ranked).reason == "the best mean rmse over folds"
    assert Leaderboard.model_validate_json(board.model_dump_json()) == board


@pytest.mark.parametrize(
    ("takes", "on"),
    [
        ((1.0, 10, 1.0), False),
        ((0.5, 10, 1.0), True),
        ((1.0, 9, 1.0), True),
        ((1.0, 10, 0.5), True),
        ((2.0, 20, 2.0), False),
        (None, False),
    ],
)
@pytest.mark.parametrize("metric", ["rmse", "accuracy"])
def test_one_advantage_suffices_for_the_front(
    takes: tuple[float, int, float] | None, on: bool, metric: str
) -> None:
    """Less accurate than another, a candidate stays if it is faster, smaller or cheaper to fit."""
    better, worse = (0.1, 0.2) if metric == "rmse" else (0.2, 0.1)
    one = result("linear", [better, better], metric, (1.0, 10, 1.0))
    two = result("forest", [worse, worse], metric, takes)
    assert front_names([one, two]) == ({"linear", "forest"} if on else {"linear"})
