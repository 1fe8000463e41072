"""The champion's history: written first, followed by the alias, taken back where it was wrong."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from flows.score_batch import score_batch
from flows.train_model import train_model
from flows.watch_drift import watch_drift
from tasks import announcing
from tasks.engines import engines_off
from tasks.history import champion_history
from tasks.orphans import close_orphans
from tasks.registry import (
    CHAMPION,
    FORMER,
    champion_at,
    champion_moves,
    find_alias,
    find_champion,
    find_version,
    move_champion,
    roll_back,
)
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.decision import Decision
from twinloop.verdict import Verdict
from twinloop.workload import Workload

START = pd.Timestamp("2024-01-01", tz="UTC")
A_DAY, A_WEEK = timedelta(days=1), timedelta(weeks=1)
LATE = datetime(2024, 6, 3, tzinfo=UTC)
FIRST = LATE - 10 * A_WEEK
FILE = """
name: plant
task: regression
source: {{kind: files, path: "{path}"}}
time: at
key: [at]
target: output
metric: rmse
training: {{window: 10w, holdout: 2w, folds: 3, candidates: [linear]}}
inference: {{window: 1d, shadow: 0.5}}
monitoring: {{window: 7d, labels_after: 0d}}
retraining: {{jury: null, {rules}}}
"""


def history(bad: tuple[datetime, datetime] | None = None) -> pd.DataFrame:
    """Return thirty weeks of a plant; between two moments its meter turned large into small."""
    draw = np.random.default_rng(3)
    load, noise = draw.normal(size=(2, 24 * 7 * 30))
    at = pd.date_range(START, periods=len(load), freq="1h")
    output = 50 + 5 * load + 6 * np.sin(at.hour * np.pi / 12) + 2 * noise
    table = pd.DataFrame({"at": at, "load": load, "output": output})
    if bad is not None:
        rows = (table["at"] >= bad[0]) & (table["at"] < bad[1])
        table.loc[rows, "output"] = 100 - table.loc[rows, "output"]
    return table


def write(home: Path, table: pd.DataFrame, rules: str = "slices: true") -> Workload:
    """Write rows and rules of the plant."""
    path = home / "plant.parquet"
    table.to_parquet(path)
    file = home / "data" / "workloads" / "plant.yaml"
    file.write_text(FILE.format(path=path, rules=rules))
    return load_workload("plant")


def promoted(home: Path, *, poisoned: bool, rules: str = "slices: true") -> Workload:
    """Train twice; the second version wins on its window, of which nearly all may be poisoned."""
    write(home, history(), rules)
    train_model("plant", as_of=FIRST)
    if poisoned:
        write(home, history((LATE - 9 * A_WEEK, LATE)), rules)
        assert train_model("plant", as_of=LATE).champion == "2"
    else:
        # The first version has learned from a broken meter; the second from one that was mended.
        write(home, history((FIRST - 10 * A_WEEK, FIRST)), rules)
        train_model("plant", as_of=FIRST)
        roll_back(load_workload("plant"), "2", FIRST)
        write(home, history(), rules)
        assert train_model("plant", as_of=LATE).champion == "3"
    return write(home, history(), rules)


def days(first: int, last: int) -> Decision:
    """Score days after the promotion one by one, and watch at the end of the last."""
    for day in range(first, last + 1):
        score_batch("plant", as_of=LATE + day * A_DAY)
    return watch_drift("plant", LATE + last * A_DAY)


def numbers() -> tuple[str, str]:
    """Return the versions that are champion and former champion now."""
    workload = load_workload("plant")
    found = (find_champion(workload), find_alias(workload, FORMER))
    return found[0].version if found[0] else "", found[1].version if found[1] else ""


@pytest.mark.usefixtures("prefect")
def test_a_poisoned_champion_is_taken_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It won on broken rows; once five days of honest ones show it, its predecessor serves."""
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(announcing, "emit_event", lambda **event: events.append(event))
    workload = promoted(home, poisoned=True)
    assert numbers() == ("2", "1")
    early = days(1, 4)
    assert numbers() == ("2", "1")
    assert not any("v1" in reason for reason in early.reasons)
    decision = days(5, 5)
    assert numbers() == ("1", "")
    assert "rolled back: v2 is worse than v1" in decision.reason
    # Labels are bad, but of a version that is gone: that calls for nothing.
    assert (decision.action, decision.held, decision.calls) == ("watch", "rolled back", False)
    assert decision.harm is not None
    assert decision.harm.harmful
    assert [e["event"] for e in events] == [announcing.ROLLBACK_EVENT]
    move = champion_moves(workload)[0]
    assert (move.was, move.became, move.at) == ("2", "1", LATE + 5 * A_DAY)
    assert move.reason == decision.reason
    assert move.low is not None
    assert move.low > 0
    check = client().get_run(move.evidence)
    assert check.data.tags["twinloop.kind"] == "monitoring"
    assert check.data.tags["twinloop.probation"] == "rolled back"
    assert check.data.tags["twinloop.decision"] == "watch"
    page = Path(client().download_artifacts(check.info.run_id, "drift.html")).read_text("utf-8")
    assert "v2 is worse than v1" in page
    assert move.by == f"flow run {check.data.tags['twinloop.prefect_flow_run_id']}"
    (event,) = events
    assert (event["payload"]["from"], event["payload"]["to"]) == ("2", "1")
    # Who served when is still known, and the one that is back is on no trial.
    served = {d: champion_at(workload, LATE + d * A_DAY) for d in (-1, 0, 4, 5)}
    assert {d: v.version for d, v in served.items() if v} == {-1: "1", 0: "2", 4: "2", 5: "1"}
    assert not any("v1" in reason for reason in days(6, 7).reasons)
    assert len(champion_moves(workload)) == 3


def test_a_good_champion_proves_itself(home: Path) -> None:
    """One that is better stays, and its predecessor is on no alias any more."""
    with engines_off():
        workload = promoted(home, poisoned=False)
        assert numbers() == ("3", "2")
        decision = days(1, 5)
    assert "v3 has proved itself better than v2" in decision.reasons[-1]
    assert numbers() == ("3", "")
    assert champion_moves(workload)[0].became == "3"


def test_a_look_that_failed_is_taken_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the champion cannot be moved the check fails, and the next one takes it back."""
    with engines_off():
        promoted(home, poisoned=True)
        days(1, 4)

        def refuse(*_: object, **__: object) -> None:
            raise OSError("no")

        with monkeypatch.context() as patch:
            patch.setattr("tasks.probation.move_champion", refuse)
            with pytest.raises(OSError, match="no"):
                days(5, 5)
        assert numbers() == ("2", "1")
        watch_drift("plant", LATE + 5 * A_DAY)
    assert numbers() == ("1", "")


@pytest.mark.parametrize("alias", [CHAMPION, FORMER])
def test_a_move_that_fails_half_way_leaves_the_champion(
    home: Path, monkeypatch: pytest.MonkeyPatch, alias: str
) -> None:
    """Whichever of the two aliases is refused, who served goes on serving."""
    with engines_off():
        workload = promoted(home, poisoned=True)
    champion = find_champion(workload)
    assert champion is not None
    move = MlflowClient.set_registered_model_alias

    def refuse(self: MlflowClient, name: str, which: str, version: str) -> None:
        if which == alias:
            raise OSError("no")
        move(self, name, which, version)

    why = Verdict(outcome="promote", reason="better", metric="rmse")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", refuse)
        with pytest.raises(OSError, match="no"):
            move_champion(workload, find_version(workload, "1"), champion, why, LATE + A_DAY)
    assert numbers()[0] == "2"
    assert [m.became for m in champion_moves(workload)] == ["2", "1"]


def test_nothing_is_taken_back_unasked(home: Path) -> None:
    """With `rollback: never` no predecessor answers, and the worse champion stays."""
    with engines_off():
        promoted(home, poisoned=True, rules="rollback: never")
        assert numbers() == ("2", "")
        days(1, 6)
    assert numbers() == ("2", "")


def test_a_rollback_by_hand_is_recorded_with_its_person(home: Path) -> None:
    """Who, when, from, to; the version gone back from is on no trial either."""
    with engines_off():
        workload = promoted(home, poisoned=True)
    roll_back(workload, "1", LATE + A_DAY)
    move = champion_history(workload).moves[0]
    assert (move.was, move.became, move.reason) == ("2", "1", "rolled back by hand")
    assert "@" in move.by
    assert move.evidence == ""
    assert numbers() == ("1", "")


KILLED = """
import os, signal
from datetime import UTC, datetime
from mlflow import MlflowClient
from tasks.registry import roll_back
from tasks.settings import load_workload

move = MlflowClient.set_registered_model_alias

def killed(self, name, alias, version):
    if {after}:
        move(self, name, alias, version)
    os.kill(os.getpid(), signal.SIGKILL)

MlflowClient.set_registered_model_alias = killed
roll_back(load_workload("plant"), "1", datetime(2024, 6, 4, tzinfo=UTC))
"""


@pytest.mark.parametrize("after", [False, True], ids=["before the alias", "after the alias"])
def test_a_move_that_was_killed_is_finished(home: Path, after: bool) -> None:
    """Wherever between record and alias the process dies, both say the same at the next start."""
    with engines_off():
        workload = promoted(home, poisoned=True)
    (home / ".prefect").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", KILLED.format(after=after)],
        env=os.environ | {"PREFECT_HOME": str(home / ".prefect")},
        check=False,
        timeout=120,
    )
    assert ended.returncode == -signal.SIGKILL
    assert numbers()[0] == ("1" if after else "2")
    assert [m.became for m in champion_moves(workload)] == ["2", "1"]
    close_orphans(prefect=False)
    assert numbers() == ("1", "")
    moves = champion_moves(workload)
    assert [(m.was, m.became) for m in moves] == [("2", "1"), ("1", "2"), ("", "1")]
    assert (moves[0].reason, f"{moves[0].at:%Y-%m-%d}") == ("rolled back by hand", "2024-06-04")
    bill = client().get_run(moves[0].run_id).data
    assert bill.metrics["cost/money"] >= 0
    assert bill.metrics["accuracy/known"] == 1
    assert bill.tags["twinloop.bill"].startswith("until its last sign of life, ")
    close_orphans(prefect=False)
    assert len(champion_moves(workload)) == 3


def test_a_move_that_fails_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLflow refuses the alias, the error is told, and ledger and alias stay as they were."""
    with engines_off():
        workload = promoted(home, poisoned=True)

    def refuse(*_: object) -> None:
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_registered_model_alias", refuse)
        with pytest.raises(OSError, match="no"):
            roll_back(workload, "1", LATE + A_DAY)
    close_orphans(prefect=False)
    assert numbers()[0] == "2"
    assert [m.became for m in champion_moves(workload)] == ["2", "1"]


def test_an_alias_moved_by_others_is_put_back(home: Path) -> None:
    """The ledger knows who serves; what was done to its cache is undone at the next start."""
    with engines_off():
        promoted(home, poisoned=True)
    client().set_registered_model_alias("plant", CHAMPION, "1")
    close_orphans(prefect=False)
    assert numbers()[0] == "2"
    client().delete_registered_model_alias("plant", CHAMPION)
    close_orphans(prefect=False)
    assert numbers()[0] == "2"
    assert len(champion_moves(load_workload("plant"))) == 2
