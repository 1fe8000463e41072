"""One table tells of every candidate what it gives, what it takes and how it stands."""

import pytest

from twinloop.leaderboard import columns, lines, remarks
from twinloop.results import CandidateResult, Choice, FoldScore, Footprint, Leaderboard
from twinloop.vocabulary import CandidateName


def result(name: CandidateName, valid: float, train: float, seconds: float) -> CandidateResult:
    """Return a candidate of three folds, as small as others, that takes these seconds."""
    folds = (-0.01, 0.0, 0.01)
    return CandidateResult(
        name=name,
        metric="rmse",
        folds=tuple(
            FoldScore(train=train, valid=valid + d, train_rows=8, valid_rows=4) for d in folds
        ),
        fit_seconds=3.25,
        predict_seconds=0.5,
        rows=12,
        footprint=Footprint(
            batch_seconds=seconds,
            row_seconds=seconds / 10,
            size_bytes=1_234_567,
            fit_cpu_seconds=seconds,
            fit_money=seconds / 1000,
        ),
    )


BOARD = Leaderboard(
    candidates=(
        result("forest", 0.5, 0.1, 0.02),
        result("linear", 0.51, 0.5, 0.01),
        result("xgboost", 0.6, 0.1, 0.03),
    ),
    choice=Choice(winner="linear", reason="it is cheap"),
    currency="CHF",
)


def test_a_line_tells_all() -> None:
    """Score, interval, gap, milliseconds, kilobytes and money, under heads that name the units."""
    line = dict(zip(columns(BOARD), lines(BOARD)[0], strict=True))
    interval = line.pop("95 % interval")
    assert interval.startswith("[0.4")
    assert line == {
        "candidate": "forest",
        "validation": "0.5",
        "train": "0.1",
        "gap": "0.4, wide",
        "ms per 1000 rows": "20",
        "ms a row": "2.00",
        "kB": "1,235",
        "fit s": "3.25",
        "fit CHF": "2.0e-05",
        "standing": "front",
    }


def test_the_standing_tells_the_chosen_and_the_front() -> None:
    """Chosen, on the front, both or neither; order stays that of accuracy."""
    assert [(line[0], line[-1]) for line in lines(BOARD)] == [
        ("forest", "front"),
        ("linear", "chosen, front"),
        ("xgboost", ""),
    ]
    other = BOARD.model_copy(update={"choice": Choice(winner="xgboost", reason="because")})
    assert [line[-1] for line in lines(other)] == ["front", "front", "chosen"]


def test_what_was_not_measured_is_unknown() -> None:
    """A board written before footprints were measured can be shown."""
    old = BOARD.candidates[0].model_copy(update={"footprint": None})
    (line,) = lines(Leaderboard(candidates=(old,)))
    assert line[-6:] == ("unknown", "unknown", "unknown", "3.25", "unknown", "chosen")
    assert len(line) == len(columns(BOARD))


@pytest.mark.parametrize(("winner", "says"), [("linear", 1), ("forest", 2)])
def test_an_overfitted_winner_is_called_one(winner: CandidateName, says: int) -> None:
    """The reason of the choice always; both scores where training's says nothing of new rows."""
    board = BOARD.model_copy(update={"choice": Choice(winner=winner, reason="it is cheap")})
    found = remarks(board)
    assert found[0] == f"{winner} was chosen: it is cheap"
    assert len(found) == says
    if says == 2:
        assert found[1].startswith("forest overfits: rmse 0.1 on the rows it was fitted on, 0.5 on")
