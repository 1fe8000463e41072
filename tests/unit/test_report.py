"""What the command prints of a training can be read, on whatever width."""

import io

import pytest
from rich.console import Console

from flows import report
from twinloop.leaderboard import columns, lines, remarks
from twinloop.results import CandidateResult, Choice, FoldScore, Leaderboard, TrainingResult
from twinloop.verdict import first_version
from twinloop.vocabulary import CandidateName


def result(name: CandidateName, valid: float) -> CandidateResult:
    """Return a candidate of two folds."""
    folds = (FoldScore(train=0.1, valid=valid), FoldScore(train=0.1, valid=valid + 0.01))
    return CandidateResult(
        name=name, metric="rmse", folds=folds, fit_seconds=1.0, predict_seconds=1.0, rows=10
    )


BOARD = Leaderboard(
    candidates=(result("forest", 0.5), result("baseline", 0.505)),
    split="2 folds",
    choice=Choice(winner="baseline", reason="nothing learned beats the baseline"),
    currency="EUR",
)
TRAINING = TrainingResult(
    workload="w",
    window="all",
    version="1",
    winner="baseline",
    metric="rmse",
    holdout=0.5,
    verdict=first_version("rmse", 0.5),
    champion="1",
    run_id="r",
    board=BOARD,
)


@pytest.mark.parametrize(("width", "tables"), [(160, 1), (100, 2)])
def test_every_cell_of_the_leaderboard_is_printed(
    width: int, tables: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one table where there is room, else in two; the reason of the choice stands below."""
    sink = io.StringIO()
    monkeypatch.setattr(report, "_console", Console(file=sink, width=width, highlight=False))
    report.training(TRAINING)
    text = sink.getvalue()
    assert text.count("w: all") == tables
    assert "…" not in text
    for cell in (*columns(BOARD), *(cell for line in lines(BOARD) for cell in line)):
        assert cell in text
    assert remarks(BOARD)[0] in " ".join(text.split())
    assert "nothing learned beats the baseline" in text
