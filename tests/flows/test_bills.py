"""A bill for every run: the failed, the killed, the retried and the reused; and at other prices."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copy
from typing import Any, NamedTuple

import pytest
from prefect import flow

from flows.prepare_data import prepare_data
from flows.score_batch import score_batch
from flows.train_model import train_model
from tasks.bookkeeping import read_account
from tasks.orphans import close_orphans
from tasks.pricing import reprice
from tasks.recent import recent_runs
from tasks.settings import load_workload
from tasks.tracking import client, tracked_run
from twinloop.accounts import Account
from twinloop.cost_words import account_words
from twinloop.errors import EmptyWindowError, WorkloadError
from twinloop.logplan import Metric, Tag
from twinloop.loop_keys import Prices
from twinloop.window import Window

AS_OF = datetime(2011, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WORKLOAD = """
name: city
task: regression
source: {kind: simulated, hours: 2000}
time: timestamp
key: [timestamp]
target: rentals
metric: rmsle
training: {window: 30d, folds: 3, holdout: 7d, candidates: [baseline, linear]}
prices: {currency: SEK, core_hour: 1.0}
"""
KILLED = """
import os, signal, time
from datetime import UTC, datetime
from tasks.settings import load_workload
from tasks.tracking import tracked_run
city, now = load_workload("city"), datetime(2011, 3, 2, tzinfo=UTC)
with tracked_run(city, "training", window=None, as_of=now):
    with tracked_run(city, "candidate", window=None, as_of=now, what="first"):
        pass
    with tracked_run(city, "candidate", window=None, as_of=now, what="second"):
        start, end = time.monotonic(), time.thread_time() + {seconds}
        while time.thread_time() < end:
            pass
        while time.monotonic() - start < {seconds}:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
"""

pytestmark = pytest.mark.usefixtures("prefect")


def burn(seconds: float) -> None:
    """Use this much CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@flow(name="flaky", retries=2)
def flaky() -> None:
    """Fail twice with a part of the work done, then end well."""
    from prefect.runtime import flow_run

    city = load_workload("city")
    with tracked_run(city, "monitoring", window=None, as_of=AS_OF) as run:
        with tracked_run(city, "candidate", window=None, as_of=AS_OF, what="part"):
            burn(0.1)
        burn(0.1)
        if flow_run.run_count < 3:
            raise ConnectionError
        run.log([Metric("accuracy/rmsle", 1.0), Tag("twinloop.accuracy", "realised")])


@flow(name="around")
def around() -> None:
    """Hold the retried one."""
    with tracked_run(load_workload("city"), "replay", window=None, as_of=AS_OF):
        flaky()


def all_runs() -> list[Any]:
    """Return all runs, the oldest first."""
    found = client().get_experiment_by_name("city")
    assert found is not None
    runs = client().search_runs([found.experiment_id], max_results=1000)
    return sorted(runs, key=lambda r: r.info.start_time)


def account() -> Account:
    """Read the city's account."""
    return read_account(load_workload("city"))


def without_bill() -> int:
    """Count the runs that have ended without a whole bill."""
    return account().without_bill


def kill_a_run(home: Path, seconds: float) -> list[Any]:
    """Start a training in a process that kills itself; return its runs, closed by the next."""
    known = {r.info.run_id for r in all_runs()}
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(seconds=seconds)],
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    assert close_orphans() == 2
    return [r for r in all_runs() if r.info.run_id not in known]


class Store(NamedTuple):
    """What was run, and the folder it was run in."""

    home: Path
    runs: list[Any]

    def of(self, *kinds: str) -> list[Any]:
        """Return the runs of some kinds."""
        return [r for r in self.runs if r.data.tags["twinloop.kind"] in kinds]


@pytest.fixture(scope="module")
def store(
    prefect: None, migrated_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """Prepare, train, score, score again, score what is not there, and retry what is flaky."""
    home = tmp_path_factory.mktemp("bills")
    (home / "mlflow" / "store").mkdir(parents=True)
    (home / "data" / "workloads").mkdir(parents=True)
    copy(migrated_store, home / "mlflow" / "store" / "mlflow.db")
    (home / "data" / "workloads" / "city.yaml").write_text(WORKLOAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", str(home))
        for _ in range(2):
            prepare_data("city", as_of=AS_OF)
        train_model("city", as_of=AS_OF)
        span = Window(start=AS_OF, end=AS_OF + DAY)
        assert [score_batch("city", span).reused for _ in range(2)] == [False, True]
        with pytest.raises(EmptyWindowError):
            score_batch("city", Window(start=AS_OF + 999 * DAY, end=AS_OF + 1000 * DAY))
        around()
        yield Store(home, all_runs())


def test_every_run_has_a_bill(store: Store) -> None:
    """Whatever became of it: a query over the store finds none without."""
    assert {r.info.status for r in store.runs} == {"FINISHED", "FAILED"}
    assert without_bill() == 0
    names = {n for n in store.runs[0].data.metrics if n.startswith(("time/", "cost/"))}
    always = {n for n in names if not n.startswith(("time/task/", "time/rows"))}
    for run in store.runs:
        assert always <= set(run.data.metrics), run.info.run_name
        assert run.data.metrics["cost/money"] > 0
        assert run.data.tags["twinloop.currency"] == "SEK"


def test_costs_say_that_a_run_is_without(store: Store) -> None:
    """One whose bill was never written, and one that has ended without an accuracy."""
    known = {"twinloop.workload": "city", "twinloop.kind": "monitoring"}
    made = client().create_run(store.runs[0].info.experiment_id, run_name="without", tags=known)
    run_id = made.info.run_id
    assert without_bill() == 0  # it runs still
    client().set_terminated(run_id)
    assert without_bill() == 1
    assert any(w.startswith("1 run ended without a whole bill") for w in account_words(account()))
    client().log_metric(run_id, "time/wall_s", 1.0)
    client().log_metric(run_id, "cost/money", 1.0)
    assert without_bill() == 1
    client().delete_run(run_id)
    assert without_bill() == 0
    assert not any("whole bill" in words for words in account_words(account()))


def test_a_failed_run_has_a_bill_and_no_accuracy(store: Store) -> None:
    """Its state, its error and what it cost are there; of its accuracy it is said there is none."""
    (failed,) = [r for r in store.of("inference") if r.info.status == "FAILED"]
    assert failed.data.metrics["accuracy/known"] == 0
    assert failed.data.tags["twinloop.accuracy"] == "none: failed"
    assert "no rows in the window" in failed.data.tags["twinloop.error"]
    assert failed.data.metrics["time/cpu_s"] > 0
    lines = {r.run_id: r.accuracy for r in recent_runs(load_workload("city"), 100, None).runs}
    assert lines[failed.info.run_id] == "none: failed"
    assert lines[store.of("training")[0].info.run_id].startswith("rmsle ")


def test_what_was_there_already_leaves_nothing_behind(store: Store) -> None:
    """A reused window or snapshot has a bill as any other, and leaves nothing behind."""
    first, again, _ = store.of("inference")
    assert first.data.metrics["cost/stored_mb"] > 0 == again.data.metrics["cost/stored_mb"]
    assert again.data.metrics["cost/money"] > 0
    assert again.data.metrics["accuracy/known"] == 1
    # It scored nothing: no speed of scoring is told, and no estimate is made from it.
    assert again.data.tags["twinloop.reused"] == "yes"
    assert "time/rows_per_s" in first.data.metrics
    assert "time/rows_per_s" not in again.data.metrics
    first, again = store.of("preparation")
    assert first.data.metrics["cost/stored_mb"] > 0 == again.data.metrics["cost/stored_mb"]


def test_what_stays_behind_costs_by_the_month(store: Store) -> None:
    """The files themselves say how many bytes it is; one-off money knows nothing of it."""
    first, prices = store.of("preparation")[0].data.metrics, load_workload("city").prices
    files = (store.home / "data" / "lake" / "city" / "prepared").glob("*/*.parquet")
    size = sum(f.stat().st_size for f in files)
    assert first["cost/stored_mb"] == pytest.approx(size / 1e6)
    assert first["cost/storage_money_per_month"] == pytest.approx(
        size / 1e9 * prices.storage_gb_month
    )


def test_retries_are_one_run_with_one_whole_bill(store: Store) -> None:
    """Each attempt keeps its bill and state; the last one owns them, and they are counted once."""
    flow_run = "twinloop.prefect_flow_run_id"
    owners = Counter(r.data.tags[flow_run] for r in store.runs if flow_run in r.data.tags)
    assert set(owners.values()) == {1}
    assert len(owners) == len(store.runs) - len(store.of("candidate", "promotion")) - 2
    attempts = store.of("monitoring")
    assert [a.info.status for a in attempts] == ["FAILED", "FAILED", "FINISHED"]
    last = attempts[-1]
    assert last.data.tags["twinloop.attempt"] == "3"
    for before in attempts[:2]:
        assert before.data.tags["twinloop.attempt_of"] == last.data.tags[flow_run]
    parts = [*attempts, *(r for r in store.of("candidate") if "part" in r.info.run_name)]
    assert len(parts) == 6
    for part in parts:
        assert 0.09 < part.data.metrics["time/cpu_s"] < 0.6
    (whole,) = store.of("replay")
    own = sum(p.data.metrics["cost/money"] for p in parts)
    assert own == pytest.approx(last.data.metrics["cost/money_total"], rel=1e-4)
    assert own + whole.data.metrics["cost/money"] == pytest.approx(
        whole.data.metrics["cost/money_total"], rel=1e-4
    )


def test_a_killed_run_has_the_bill_of_its_last_sign(store: Store) -> None:
    """What its meter wrote down each second is on the bill; what came after nobody knows."""
    training, first, second = kill_a_run(store.home, 2.6)
    assert [r.info.status for r in (training, first, second)] == ["FAILED", "FINISHED", "FAILED"]
    for run in (training, second):
        assert run.data.tags["twinloop.accuracy"] == "none: killed"
        assert run.data.tags["twinloop.bill"].startswith("until its last sign of life, ")
        assert run.data.metrics["accuracy/known"] == 0
    assert second.data.metrics["time/wall_s"] > 1.0
    assert 0.1 < second.data.metrics["time/cpu_s"] < 2.8
    # Its parts add up as those of any other.
    own = sum(r.data.metrics["cost/money"] for r in (training, first, second))
    assert own == pytest.approx(training.data.metrics["cost/money_total"], rel=0.02)
    assert not (store.home / "data" / "lake" / "city" / "meters").exists()
    assert without_bill() == 0


def test_a_run_killed_at_once_is_billed_what_is_known(store: Store) -> None:
    """It left no sign: it did not last a second, whenever it is found."""
    for run in kill_a_run(store.home, 0.1):
        assert 0 <= run.data.metrics["time/wall_s"] < 1.0
    assert without_bill() == 0


def test_old_bills_at_other_prices(store: Store, tmp_path: Path) -> None:
    """Twice the price of everything is twice the bill; history stays as it was."""
    city = load_workload("city")
    same, twice = tmp_path / "same.yaml", tmp_path / "twice.yaml"
    same.write_text("currency: SEK\n")
    prices = city.prices
    names = ("core_hour", "gb_hour", "gpu_hour", "kwh", "storage_gb_month")
    twice.write_text("\n".join(f"{n}: {2 * getattr(prices, n)}" for n in names))
    before = {r.info.run_id: r.data for r in all_runs()}
    found, doubled = reprice(city, same), reprice(city, twice)
    assert {r.info.run_id: r.data.metrics for r in all_runs()} == {
        run_id: data.metrics for run_id, data in before.items()
    }
    (total,), (twofold,) = found.totals, doubled.totals
    billed = [d.metrics["cost/money"] for d in before.values()]
    assert total.runs == len(billed) == sum(k.runs for k in found.kinds)
    assert {"training", "inference", "preparation"} < {k.kind for k in found.kinds}
    assert total.money_then == pytest.approx(sum(billed))
    assert total.money_now == pytest.approx(total.money_then)
    assert total.storage_now == pytest.approx(total.storage_then)
    assert twofold.money_now == pytest.approx(2 * total.money_then)
    assert twofold.storage_now == pytest.approx(2 * total.storage_then)
    assert twofold.co2_now == pytest.approx(total.co2_then)
    greener = tmp_path / "greener.yaml"
    greener.write_text("watts_per_core: 5\n")
    assert reprice(city, greener).totals[0].co2_now == pytest.approx(total.co2_then / 2)


def test_prices_of_a_file_are_checked(store: Store, tmp_path: Path) -> None:
    """A key that is none is refused, and the nearest is named."""
    (tmp_path / "other.yaml").write_text("core_hours: 1\n")
    with pytest.raises(WorkloadError, match=r"unknown key 'core_hours'.*core_hour"):
        reprice(load_workload("city"), tmp_path / "other.yaml")


def test_an_old_bill_stays_true(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prices it was made at are kept with it, whatever the workload says today."""
    training = store.of("training")[0]
    kept = Prices.model_validate_json(training.data.tags["twinloop.prices"])
    assert (kept.currency, kept.core_hour) == ("SEK", 1.0)
    place = store.home / "data" / "workloads" / "city.yaml"
    text = place.read_text()
    place.write_text(text.replace("core_hour: 1.0", "core_hour: 9.0"))
    try:
        found = reprice(load_workload("city"), place.with_name("none.yaml"))
    except WorkloadError:
        (store.home / "none.yaml").write_text("{}\n")
        found = reprice(load_workload("city"), store.home / "none.yaml")
    finally:
        place.write_text(text)
    assert found.prices.core_hour == 9.0
    assert found.totals[0].money_now > 5 * found.totals[0].money_then
