"""Every version has its model card before it may serve, and the registry a short form of it."""

import re
from datetime import UTC, datetime
from pathlib import Path

import mlflow.artifacts
import pytest

from flows.train_model import train_model
from tasks import describing
from tasks.registry import find_champion, versions
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.results import TrainingResult
from twinloop.workload import Overrides

QUICK = Overrides(candidates=("baseline", "linear"), folds=3)

pytestmark = pytest.mark.usefixtures("prefect")


def card(result: TrainingResult, ending: str) -> str:
    """Read the card of a training."""
    client()
    uri = f"runs:/{result.run_id}/model_card.{ending}"
    return mlflow.artifacts.load_text(uri)


def test_each_version_has_a_card_with_its_verdict(home: Path) -> None:
    """Of two versions each has its own number, verdict, scores, digest, bill and command."""
    results = [
        train_model("bikes", as_of=datetime(2011, 7, day, tzinfo=UTC), overrides=QUICK)
        for day in (1, 29)
    ]
    assert results[0].verdict.outcome == "promote"
    for result, was in zip(results, ("no version served before", "against version 1"), strict=True):
        found = client().get_model_version("bikes", result.version)
        tags = found.tags
        for text in (card(result, "md"), re.sub(r"<[^>]*>", "", card(result, "html"))):
            for part in (
                f"bikes version {result.version}",
                result.verdict.outcome,
                was,
                f"{result.holdout:.4g}",
                tags["twinloop.data_digest"],
                f"twinloop reproduce bikes --version {result.version}",
                "blocks of days: 14",
                "estimated",
                *(c.name for c in result.board.candidates),
            ):
                assert part in text, part
        short = found.description or ""
        assert f"rmsle {result.holdout:.4g}" in short
        assert f"Verdict: {result.verdict.outcome}" in short
        assert f"`twinloop reproduce bikes --version {result.version}`" in short


def test_classes_are_told_of(home: Path) -> None:
    """Calibration and threshold stand on the card of a classifier, and its probabilities' error."""
    result = train_model("breast_cancer", as_of=datetime(2024, 1, 1, tzinfo=UTC), overrides=QUICK)
    text = card(result, "md")
    for part in ("Probabilities", "Brier score", "Calibration error", "Threshold", "single rows"):
        assert f"- **{part}" in text or part in text, part


def test_no_version_serves_without_a_card(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the card cannot be written, the run fails before the alias is moved."""

    def broken(facts: object) -> None:
        raise OSError("no ink")

    monkeypatch.setattr(describing, "write_card", broken)
    with pytest.raises(OSError, match="no ink"):
        train_model("diabetes", as_of=datetime(2024, 1, 1, tzinfo=UTC), overrides=QUICK)
    workload = load_workload("diabetes")
    assert [v.version for v in versions(workload)] == ["1"]
    assert find_champion(workload) is None
