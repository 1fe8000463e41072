"""The ledger: every run with its bill, every move of the champion with its evidence."""

import resource
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copy
from typing import Any, NamedTuple

import pytest

from flows.replay_history import replay_history
from flows.score_batch import score_batch
from flows.train_model import train_model
from tasks.history import champion_history
from tasks.registry import find_champion, roll_back, versions
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.errors import RegistryError
from twinloop.loop_keys import Prices
from twinloop.replay import ReplayResult
from twinloop.workload import Overrides

START = datetime(2011, 7, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
QUICK = Overrides(candidates=("baseline", "linear"), folds=3)
POLICIES = ("drift", "every:14d")

pytestmark = pytest.mark.usefixtures("prefect")


def make_quick(home: Path) -> None:
    """Let the bikes train two candidates on three folds."""
    path = home / "data" / "workloads" / "bikes.yaml"
    text = path.read_text(encoding="utf-8")
    whole = "folds: 5, candidates: [baseline, linear, forest, xgboost]"
    assert whole in text
    path.write_text(text.replace(whole, "folds: 3, candidates: [baseline, linear]"))


def found_runs(experiment: str, where: str = "") -> list[Any]:
    """Return the runs of an experiment, the newest first."""
    found = client().get_experiment_by_name(experiment)
    return (
        []
        if found is None
        else list(client().search_runs([found.experiment_id], where, max_results=1000))
    )


def production(home: Path) -> tuple[str, dict[str, bytes]]:
    """Return the bikes' champion and every file of their lake."""
    lake = home / "data" / "lake" / "bikes"
    champion = find_champion(load_workload("bikes"))
    assert champion is not None
    return champion.version, {str(p): p.read_bytes() for p in lake.rglob("*") if p.is_file()}


class Replayed(NamedTuple):
    """A replay, its runs by id, and production before and after it."""

    result: ReplayResult
    runs: dict[str, Any]
    before: tuple[str, dict[str, bytes]]
    after: tuple[str, dict[str, bytes]]
    cpu_seconds: float


@pytest.fixture(scope="module")
def replayed(
    prefect: None, migrated_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replayed]:
    """Replay five weeks of the bikes by two policies, beside a champion in production."""
    home = tmp_path_factory.mktemp("replayed")
    (home / "mlflow" / "store").mkdir(parents=True)
    (home / "data" / "workloads").mkdir(parents=True)
    copy(migrated_store, home / "mlflow" / "store" / "mlflow.db")
    shipped = Path(__file__).parents[2] / "data" / "workloads" / "bikes.yaml"
    copy(shipped, home / "data" / "workloads" / "bikes.yaml")
    make_quick(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", str(home))
        train_model("bikes", as_of=START)
        score_batch("bikes", as_of=START + timedelta(days=1))
        before = production(home)
        began = cpu_of_this_process()
        result = replay_history("bikes", POLICIES, START, START + 5 * WEEK, WEEK)
        took = cpu_of_this_process() - began
        runs = found_runs("bikes-replay")
        yield Replayed(result, {r.info.run_id: r for r in runs}, before, production(home), took)


def cpu_of_this_process() -> float:
    """Ask the system for the CPU seconds of this process and its ended children."""
    found = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(f.ru_utime + f.ru_stime for f in found)


def flow_runs_below(flow_run_id: str) -> list[str]:
    """Ask Prefect's server for a flow run and all flow runs within it; return their ids."""
    from uuid import UUID

    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    found, level = [flow_run_id], [UUID(flow_run_id)]
    with get_client(sync_client=True) as prefect:
        while level:
            parents = FlowRunFilterParentFlowRunId(any_=level)
            runs = prefect.read_flow_runs(
                flow_run_filter=FlowRunFilter(parent_flow_run_id=parents), limit=200
            )
            level = [r.id for r in runs]
            found += [str(i) for i in level]
    return found


def test_every_run_of_a_replay_has_a_bill(replayed: Replayed) -> None:
    """Each run of every kind ends well and says how good, how long and how dear it was."""
    kinds = Counter(r.data.tags["twinloop.kind"] for r in replayed.runs.values())
    assert kinds["replay"] == 1 + len(POLICIES)
    assert kinds["inference"] == 5 * len(POLICIES)
    assert kinds["monitoring"] == 5
    # A search compares two candidates; in a refresh nothing competes.
    made = [
        r.data.tags for r in replayed.runs.values() if r.data.tags["twinloop.kind"] == "training"
    ]
    refreshes = sum(t.get("twinloop.recipe") == "refresh" for t in made)
    assert kinds["candidate"] == 2 * (kinds["training"] - refreshes)
    assert min(kinds["training"], kinds["promotion"]) >= len(POLICIES)
    for run in replayed.runs.values():
        families = {name.partition("/")[0] for name in run.data.metrics}
        assert families >= {"accuracy", "time", "cost"}, run.info.run_name
        assert run.info.status == "FINISHED"
        assert run.data.metrics["cost/money"] >= 0
        assert run.data.metrics["accuracy/known"] == 1
        assert not run.data.tags["twinloop.accuracy"].startswith("none")
        assert run.data.tags["twinloop.energy"].startswith(("estimated: CPU time", "measured: "))
        assert Prices.model_validate_json(run.data.tags["twinloop.prices"]) == Prices()


def test_every_run_of_a_replay_is_found_by_its_tag(replayed: Replayed) -> None:
    """The tag twinloop.replay, the parent links and the experiment name the same runs."""
    top = replayed.result.replay_id
    tagged = {
        r.info.run_id for r in found_runs("bikes-replay", f"tags.`twinloop.replay` = '{top}'")
    }
    assert tagged == set(replayed.runs) - {top}
    for run_id in tagged:
        at = run_id
        while at != top:
            at = replayed.runs[at].data.tags["mlflow.parentRunId"]


def test_every_flow_run_is_one_mlflow_run(replayed: Replayed) -> None:
    """Each flow run Prefect knows has one MLflow run with its id; its parts link to its page."""
    flow_run, runs = "twinloop.prefect_flow_run_id", replayed.runs
    owners = Counter(r.data.tags[flow_run] for r in runs.values() if flow_run in r.data.tags)
    top = runs[replayed.result.replay_id].data.tags[flow_run]
    assert owners == Counter(flow_runs_below(top))
    for run in runs.values():
        if flow_run not in run.data.tags:
            above = runs[run.data.tags["mlflow.parentRunId"]]
            assert run.data.tags["twinloop.prefect_url"] == above.data.tags["twinloop.prefect_url"]


def test_money_adds_up(replayed: Replayed) -> None:
    """What all runs cost, each its own part, is what the replay as a whole cost: to the last cent.

    So do time and memory, and the replay's bill is what the kernel says of this process.
    """
    top = replayed.runs[replayed.result.replay_id].data.metrics
    parts = sum(r.data.metrics["cost/money"] for r in replayed.runs.values())
    assert parts == pytest.approx(top["cost/money_total"], rel=1e-6)
    cpu_seconds = sum(r.data.metrics["time/cpu_s"] for r in replayed.runs.values())
    assert cpu_seconds == pytest.approx(top["time/cpu_total_s"], rel=1e-6)
    assert cpu_seconds == pytest.approx(replayed.cpu_seconds, rel=0.05)
    wall_seconds = sum(r.data.metrics["time/wall_s"] for r in replayed.runs.values())
    assert wall_seconds == pytest.approx(top["time/wall_total_s"], rel=1e-6)
    for policy in replayed.result.policies:
        assert 0 < policy.training_money < policy.money < top["cost/money_total"]


def test_policies_retrain_when_they_say(replayed: Replayed) -> None:
    """Every fortnight means every second weekly tick; drift never within its cooldown."""
    drift, fortnight = replayed.result.policies
    assert [t.trained for t in fortnight.ticks] == [False, True, False, True, False]
    assert fortnight.trainings == 3
    assert drift.trainings == 1 + sum(t.trained for t in drift.ticks)
    assert drift.scored == fortnight.scored == 5 * 7 * 24


def test_replay_leaves_production_alone(replayed: Replayed) -> None:
    """A replay moves no alias and touches no file of the workload it replays."""
    assert replayed.before == replayed.after
    promotions = found_runs("bikes", "tags.`twinloop.kind` = 'promotion'")
    assert [r.data.tags["twinloop.to"] for r in promotions] == ["1"]


def test_replay_starts_afresh(home: Path) -> None:
    """A second replay does not meet the champion nor the predictions of the first."""
    make_quick(home)
    first, second = (replay_history("bikes", ("never",), START, START + WEEK) for _ in range(2))
    assert first.policies[0].error == second.policies[0].error
    assert [p.promotions for r in (first, second) for p in r.policies] == [1, 1]
    moves = champion_history(load_workload("bikes-replay-never")).moves
    assert [(m.was, m.became, m.reason) for m in moves] == [
        ("", "2", "first version"),
        ("", "1", "first version"),
    ]


def test_no_promotion_without_fresh_rows(home: Path) -> None:
    """A second training on the champion's own window promotes nothing, however it scores."""
    train_model("bikes", as_of=START, overrides=QUICK)
    again = train_model("bikes", as_of=START, overrides=QUICK)
    assert again.verdict.outcome == "insufficient evidence"
    assert again.verdict.reason == "no rows that neither has seen"
    assert (again.version, again.champion) == ("2", "1")
    challenger = client().get_model_version_by_alias("bikes", "challenger")
    assert str(challenger.version) == "2"
    assert len(champion_history(load_workload("bikes")).moves) == 1


def test_promotion_and_rollback_are_recorded(home: Path) -> None:
    """Each move of the alias is a run of its own: from, to, why, when and how good."""
    bikes, later = load_workload("bikes"), START + 4 * WEEK
    train_model("bikes", as_of=START, overrides=Overrides(candidates=("baseline",), folds=3))
    better = train_model("bikes", as_of=later, overrides=QUICK)
    assert (better.verdict.outcome, better.champion) == ("promote", "2")
    assert better.verdict.low is not None
    assert better.verdict.low > 0
    back = roll_back(bikes, "1", later + WEEK)
    champion = find_champion(bikes)
    assert champion == back
    assert back.version == "1"
    history = champion_history(bikes)
    assert history.champion == "1"
    assert [(m.was, m.became, f"{m.at:%Y-%m-%d}") for m in history.moves] == [
        ("2", "1", "2011-08-05"),
        ("1", "2", "2011-07-29"),
        ("", "1", "2011-07-01"),
    ]
    reasons = [m.reason for m in history.moves]
    assert reasons == ["rolled back by hand", better.verdict.reason, "first version"]
    for move in history.moves:
        run = client().get_run(move.run_id)
        assert run.info.status == "FINISHED"
        assert {"accuracy/rmsle", "time/wall_s", "cost/money"} <= set(run.data.metrics)


@pytest.mark.parametrize(
    ("number", "words"), [("9", "there are: 1"), ("1", "champion already"), ("x", "there are: 1")]
)
def test_rollback_to_nowhere(home: Path, number: str, words: str) -> None:
    """A rollback to a version that is not there, or serves already, is refused; nothing moves."""
    train_model("bikes", as_of=START, overrides=QUICK)
    bikes = load_workload("bikes")
    with pytest.raises(RegistryError, match=words):
        roll_back(bikes, number, START + WEEK)
    champion = find_champion(bikes)
    assert champion is not None
    assert champion.version == "1"
    assert [v.version for v in versions(bikes)] == ["1"]
    assert len(champion_history(bikes).moves) == 1
