"""What the command prints of a training can be read, on whatever width."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from flows import report
from tasks.history import ChampionHistory
from tasks.registry import Move, ServedVersion
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


def test_a_move_names_its_flow_run_in_short_and_leads_to_its_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole id would take half the line; who has it in a terminal can click it."""
    flow_run, page = "0123abcd-1234-1234-1234-0123456789ab", "http://127.0.0.1:4200/runs/1"
    moves = [
        Move(at=at, was="1", became="2", reason="better", recorded=1, run_id="r", by=by, page=link)
        for at, by, link in (
            (datetime(2026, 1, 2, tzinfo=UTC), f"flow run {flow_run}", page),
            (datetime(2026, 1, 1, tzinfo=UTC), "ann@home", ""),
        )
    ]
    made: dict[str, Any] = {"version": "2", "trained_at": moves[0].at, "metric": "rmse", "score": 1}
    versions = (ServedVersion.model_construct(**made),)
    known: dict[str, Any] = {"workload": "w", "champion": "2", "versions": versions, "moves": moves}
    out = io.StringIO()
    monkeypatch.setattr(report, "_console", Console(file=out, width=120, force_terminal=True))
    report.champion(ChampionHistory.model_construct(**known))
    text = out.getvalue()
    assert "flow run 0123abcd" in text
    assert flow_run not in text
    assert text.count(page) == 1
    assert "ann@home" in text
