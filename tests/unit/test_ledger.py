"""The ledger of a small store: read both ways alike, added up as by hand, exported, on a page."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from flows import costs_report
from tasks.bookkeeping import export_runs, read_account, read_bounds, read_totals, write_page
from tasks.ledger import database_address, read_by_client, read_ledger
from tasks.ledger_sql import read_by_sql
from tasks.pricing import reprice
from tasks.querying import asking
from tasks.recent import recent_runs
from tasks.settings import load_workload
from tasks.tracking import client
from twinloop.accounts import Account
from twinloop.budget import Amounts
from twinloop.budget_keys import Allowance, Budgets
from twinloop.costs_page import write_costs_page
from twinloop.errors import ServiceError, WorkloadError
from twinloop.ledger import Asked, Record
from twinloop.ledger_table import to_export, to_table, unit_of
from twinloop.page import to_html

ROOT = Path(__file__).parents[2]
HOUR = 3_600_000
FIRST = 1_760_000_000_000  # 2025-10-09T08:53:20Z
QUESTIONS = (
    Asked(),
    Asked(experiments=("bikes",), exact=("accuracy/rmsle",), beginnings=("cost/",)),
    Asked(kind="inference", limit=2),
    Asked(but="candidate", limit=3),
    Asked(since=FIRST + 3 * HOUR),
    Asked(experiments=("nothing",)),
    Asked(exact=("cost/money",), beginnings=()),
)


class Store:
    """A store that runs are written to by MLflow's own client."""

    def __init__(self, experiment: str = "bikes") -> None:
        self.client = client()
        self.experiment = self.client.create_experiment(experiment)
        self.hours = 0

    def add(self, kind: str, money: float, parent: str = "", **more: Any) -> str:
        """Write a run that began an hour after the one before; return its id."""
        tags = {"kind": kind, "workload": "bikes", "currency": "EUR", "as_of": "2025-10-01"}
        tags |= {n: v for n, v in more.items() if isinstance(v, str) and n != "param"}
        named = {f"twinloop.{n}": v for n, v in tags.items()}
        if parent:
            named["mlflow.parentRunId"] = parent
        run = self.client.create_run(
            self.experiment, FIRST + self.hours * HOUR, named, f"{kind} {self.hours}"
        )
        self.hours += 1
        run_id = str(run.info.run_id)
        numbers = {"cost/money": money, "time/wall_s": 60.0, "cost/energy_kwh": 0.5 * money}
        for name, value in (numbers | more.get("metrics", {})).items():
            self.client.log_metric(run_id, name, value)
        if "param" in more:
            name, _, value = more["param"].partition("=")
            self.client.log_param(run_id, name, value)
        self.client.set_terminated(run_id)
        return run_id


@pytest.fixture(scope="module")
def store(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Provide a store for all tests here, none of which writes to it."""
    home = tmp_path_factory.mktemp("ledger")
    (home / "mlflow" / "store").mkdir(parents=True)
    shutil.copy(migrated_store, home / "mlflow" / "store" / "mlflow.db")
    shutil.copytree(ROOT / "data" / "workloads", home / "data" / "workloads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", str(home))
        yield filled()


@pytest.fixture
def replayed(migrated_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide a store of a replay with one policy run as flows, and of a run that cost little."""
    (tmp_path / "mlflow" / "store").mkdir(parents=True)
    shutil.copy(migrated_store, tmp_path / "mlflow" / "store" / "mlflow.db")
    shutil.copytree(ROOT / "data" / "workloads", tmp_path / "data" / "workloads")
    monkeypatch.setenv("TWINLOOP_HOME", str(tmp_path))
    replay = Store("bikes-replay")
    replay.add("replay", 3.0, workload="bikes-replay")
    policy = {"workload": "bikes-replay-drift", "version": "7", "param": "winner=linear"}
    replay.add("training", 2.0, **policy, metrics={"accuracy/rmsle": 0.5})
    Store().add("training", 1.0, version="2", param="winner=linear")
    little = {"cost/money_total": 1.2e-8, "cost/storage_money_per_month": 3e-9}
    Store("digits").add("inference", 1.2e-8, workload="digits", metrics=little)


def filled() -> Store:
    """Write two versions, what they scored, a check, a failure and a bill in another currency."""
    made = Store()
    one = made.add(
        "training",
        4.0,
        version="1",
        param="winner=forest",
        verdict="promote",
        metrics={"accuracy/rmsle": 0.5, "accuracy/cv_rmsle": 0.5, "time/predict_1000_rows_s": 0.02},
    )
    baseline = {"accuracy/rmsle": 2.0, "accuracy/fold_rmsle": math.nan}
    made.add("candidate", 1.0, one, param="candidate=baseline", metrics=baseline)
    made.add("promotion", 0.5, one, to="1", **{"from": ""})
    for window, digest in (("a", "x"), ("a", "x"), ("b", "y")):
        scored = {"rows/scored": 1000.0}
        made.add("inference", 0.3, version="1", window=window, data_digest=digest, metrics=scored)
    made.add("monitoring", 0.25)
    again = made.add("retraining", 0.5)
    two = made.add(
        "training",
        2.0,
        again,
        version="2",
        param="winner=linear",
        verdict="promote",
        metrics={
            "accuracy/rmsle": 0.6,
            "accuracy/cv_rmsle": 0.6,
            "time/predict_1000_rows_s": 0.01,
            "verdict/champion": 0.5,
            "verdict/challenger": 0.4,
        },
    )
    made.add("promotion", 0.5, two, to="2", **{"from": "1"})
    made.add("inference", 0.1, version="2", window="c", metrics={"rows/scored": 1000.0})
    made.add("training", 0.7)
    made.add("inference", 99.0, version="2", currency="USD", metrics={"rows/scored": 1000.0})
    gone = made.add("training", 50.0, version="9")
    made.client.delete_run(gone)
    return made


def account() -> Account:
    """Read the bikes' account."""
    return read_account(load_workload("bikes"))


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: repr(asked)[6:60])
def test_both_ways_to_the_ledger_give_the_same_table(store: Store, asked: Asked) -> None:
    """SQL on MLflow's database, and MLflow's client: equal to the last cell, NaN and order too."""
    found, other = read_by_sql(asked, database_address()), read_by_client(asked)
    # As text: a NaN, which equals nothing, is told from what is missing.
    assert str(to_table(found).to_pylist()) == str(to_table(other).to_pylist())
    assert to_table(found).schema == to_table(other).schema
    assert bool(found) == (asked.experiments != ("nothing",))


def test_a_question_for_a_few_runs_of_many_is_answered_alike(store: Store) -> None:
    """Few of many runs are read by a join, most by whole tables: what comes is the same."""
    few = read_by_sql(Asked(limit=3), database_address())
    most = read_by_sql(Asked(), database_address())
    assert str(to_table(few).to_pylist()) == str(to_table(most[:3]).to_pylist())


def test_a_deleted_run_is_not_in_the_ledger(store: Store) -> None:
    """As MLflow's page shows it."""
    assert "9" not in {r.words.get("twinloop.version") for r in read_ledger(["bikes"])}


def test_the_ledger_is_not_written_to(store: Store) -> None:
    """The database is opened for reading alone."""
    refused = pytest.raises(ServiceError, match=r"cannot read the database .*readonly")
    with refused, asking(database_address()) as ask:
        assert ask is not None
        ask("DELETE FROM runs", {})


@pytest.mark.parametrize("asked", QUESTIONS)
def test_servers_are_asked_as_files_are(
    store: Store, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same questions go through SQLAlchemy, as to PostgreSQL, and have the same answers."""
    address = database_address()
    plain = to_table(read_by_sql(asked, address))
    for module in ("querying", "ledger_sql", "databases"):
        monkeypatch.setattr(f"tasks.{module}.sqlite_file", lambda _: None)
    monkeypatch.setattr("tasks.databases._revision_of", lambda _: None)
    found = to_table(read_by_sql(asked, address))
    assert str(found.to_pylist()) == str(plain.to_pylist())  # NaN is not itself


def test_a_store_that_is_not_there_yet_has_no_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking makes no database."""
    monkeypatch.setenv("TWINLOOP_HOME", str(tmp_path))
    assert read_ledger(["bikes"]) == []
    assert not (tmp_path / "mlflow").exists()


def test_a_database_of_another_release_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables may be others."""
    monkeypatch.setattr("tasks.databases._revision_of", lambda _: "abc")
    with pytest.raises(ServiceError, match="does not know"):
        read_ledger(["bikes"])


def test_versions_cost_what_their_runs_add_up_to(store: Store) -> None:
    """Training with all it holds, inference, and the watch over who served at the time."""
    found = account()
    one, two = found.versions
    assert (one.money.training, one.money.watching) == (5.5, 0.25)
    assert one.money.inference == pytest.approx(0.9)
    assert one.predictions == 2000  # one window was scored twice
    assert one.per_1000 == pytest.approx(0.45)
    assert one.per_1000_in_all == pytest.approx(6.65 / 2)
    # A thousand more were billed in another currency: they are its predictions, at no price here.
    assert (two.money.training, two.money.inference) == (3.0, 0.1)
    assert (two.predictions, two.billed) == (2000, 1000)
    assert two.per_1000 == pytest.approx(0.1)
    assert two.is_champion
    assert not one.is_champion
    assert found.unversioned == pytest.approx(0.7)
    assert found.left_out == 1
    assert found.money.total == pytest.approx(5.5 + 0.9 + 0.25 + 3.0 + 0.1 + 0.7)
    assert sum(p.money.total for p in found.periods) == pytest.approx(found.money.total)
    parts = sum(v.money.total for v in found.versions) + found.unversioned
    assert parts == pytest.approx(found.money.total)


def test_points_and_their_price(store: Store) -> None:
    """An error of 2 that becomes 0.5 is 75 points; one of 0.5 that becomes 0.4 is 20."""
    one, two = account().versions
    assert one.gain_on_baseline == pytest.approx(75)
    assert one.per_point(one.gain_on_baseline) == pytest.approx(5.5 / 75)
    assert math.isnan(one.gain_on_champion)
    assert two.gain_on_champion == pytest.approx(20)
    assert two.per_point(two.gain_on_champion) == pytest.approx(3.0 / 20)


def test_a_cheaper_version_pays_back_its_training(store: Store) -> None:
    """0.35 EUR are saved with 1,000 predictions: 3 EUR of training are back after 8,571."""
    one, two = account().versions
    assert one.payback is None
    assert two.payback is not None
    assert two.payback.measured
    assert two.payback.predictions == pytest.approx(3.0 / 0.35 * 1000)
    assert (two.payback.against, two.payback.done) == ("1", 2000)


def test_the_front_holds_what_nothing_beats(store: Store) -> None:
    """The first is more accurate, the second faster and cheaper."""
    assert [v.on_front for v in account().versions] == [True, True]


def test_the_page_shows_the_numbers(store: Store, tmp_path: Path) -> None:
    """Of each version its sum, of the second its payback; no script, nothing from elsewhere."""
    text = write_page(load_workload("bikes"), tmp_path / "costs.html").read_text()
    assert "v2 linear ★" in text
    assert "v1 forest" in text
    for figure in ("6.65", "3.10", "8,571", "+75.00", "+20.00", "0.700 EUR"):
        assert figure in text, figure
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=\"(?!#)", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_an_export_is_one_table_of_all_runs(store: Store, tmp_path: Path, kind: str) -> None:
    """A row a run, of any currency; a column a metric, its unit with it."""
    path = tmp_path / f"runs.{kind}"
    done = export_runs(["bikes"], path)
    table = pq.read_table(path) if kind == "parquet" else pa.csv.read_csv(path)
    assert (table.num_rows, table.num_columns) == (done.runs, done.columns) == (13, 37)
    rows = table.to_pylist()
    assert sum(r["cost_money"] for r in rows if r["currency"] == "EUR") == pytest.approx(10.45)
    assert {r["winner"] for r in rows if r["winner"]} == {"forest", "linear"}
    if kind == "parquet":
        metadata = table.schema.field("cost_energy_kwh").metadata
        assert metadata == {b"mlflow_name": b"cost/energy_kwh", b"unit": b"kWh"}
        assert table.schema.field("time_wall_s").metadata[b"unit"] == b"s"


def test_metrics_that_are_called_like_columns_do_not_replace_them() -> None:
    """Each has a column of its own, and is known by its name in MLflow."""
    numbers = {"name": 1.0, "run_id": 2.0, "name_": 3.0, "cost/money": 4.0, "cost_money": 5.0}
    record = Record("r", "n", "bikes", "FINISHED", 0, None, {}, numbers)
    table = to_export(to_table([record]))
    (row,) = table.to_pylist()
    assert (row["run_id"], row["name"]) == ("r", "n")
    named = {f.metadata[b"mlflow_name"].decode(): f.name for f in table.schema if f.metadata}
    assert {name: row[column] for name, column in named.items()} == numbers
    assert len(set(table.schema.names)) == table.num_columns


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("cost/memory_gb_s", "GB s"),
        ("time/rows_per_s", "rows/s"),
        ("time/task/fit_cpu_s", "s"),
        ("cost/energy_total_kwh", "kWh"),
        ("cost/co2_g", "g"),
        ("cost/stored_mb", "MB"),
        ("cost/estimated_money", "currency of the row"),
        ("cost/storage_money_per_month", "currency of the row a month"),
        ("cost/estimate_error", "share"),
        ("accuracy/rmsle", ""),
        ("shadow/wind_s", ""),
    ],
)
def test_units_are_those_of_the_numbers(metric: str, unit: str) -> None:
    """Memory over time is no time, and what ends so by chance has no unit."""
    assert unit_of(metric) == unit


def test_an_export_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(WorkloadError, match=r"\.parquet or \.csv"):
        export_runs(None, tmp_path / "runs.xlsx")


def test_totals_keep_currencies_apart(store: Store) -> None:
    """Nothing is added up that is of two currencies."""
    found = {t.currency: t for t in read_totals()}
    assert found["EUR"].money.total == pytest.approx(10.45)
    assert found["USD"].money.total == pytest.approx(99)
    assert found["EUR"].predictions == 3000
    assert sum(t.predictions for t in found.values()) == account().predictions == 4000


def test_after_a_change_of_currency_there_are_versions_and_no_money(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is told that nothing ran; page and tables show what is known without money."""
    bikes = load_workload("bikes")
    prices = bikes.prices.model_copy(update={"currency": "SEK"})
    found = read_account(bikes.model_copy(update={"prices": prices}))
    assert (found.runs, found.left_out, found.predictions) == (0, 13, 4000)
    costs_report.costs(found, ())
    said = capsys.readouterr().out
    assert "no runs yet" not in said
    assert "v2 linear" in said
    assert "Money of 13 runs is left out" in said
    text = to_html(write_costs_page(found, ()))
    assert "There are no bills in SEK yet." in text
    assert "v2 linear" in text


def test_old_bills_are_priced_again_by_the_ledger_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without MLflow's client, which makes what is missing: no store is made."""
    (tmp_path / "prices.yaml").write_text("kwh: 2\n")
    bikes = load_workload("bikes")
    monkeypatch.setattr("tasks.tracking.client", lambda: pytest.fail("the client was asked"))
    found = reprice(bikes, tmp_path / "prices.yaml")
    assert {t.currency: t.runs for t in found.totals} == {"EUR": 12, "USD": 1}
    assert {t.currency: t.money_then for t in found.totals}["EUR"] == pytest.approx(10.45)
    monkeypatch.setenv("TWINLOOP_HOME", str(tmp_path))
    assert reprice(bikes, tmp_path / "prices.yaml").kinds == ()
    assert not (tmp_path / "mlflow").exists()


def test_months_that_are_over_are_on_no_budget(store: Store) -> None:
    """What is bounded is the month that is now; runs of other months have had theirs."""
    budgets = Budgets(month=Allowance(money=5))
    (bound,) = read_bounds(load_workload("bikes").model_copy(update={"budget": budgets}))
    assert (bound.key, bound.used(Amounts())) == ("budget.month.money", 0)


def test_the_newest_runs_are_listed_first(store: Store) -> None:
    """With trials left out, and of one kind if asked."""
    found = recent_runs(load_workload("bikes"), 3, None).runs
    assert [r.kind for r in found] == ["inference", "training", "inference"]
    assert [r.currency for r in found] == ["USD", "EUR", "EUR"]
    (only,) = recent_runs(load_workload("bikes"), 5, "monitoring").runs
    assert only.name == "monitoring 6"


def test_money_is_headed_by_the_currency_it_is_in(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the workload's is today; where there are several, each amount says its own."""
    bikes = load_workload("bikes")
    kronor = bikes.model_copy(
        update={"prices": bikes.prices.model_copy(update={"currency": "SEK"})}
    )
    assert [recent_runs(kronor, n, None).currency for n in (1, 3)] == ["USD", ""]
    costs_report.runs(recent_runs(kronor, 3, None))
    said = capsys.readouterr().out
    assert "money" in said
    assert re.search(r"\d EUR", said)
    assert "SEK" not in said


def test_the_command_shows_writes_and_exports(store: Store, tmp_path: Path) -> None:
    """As a person types it: tables, the page, a table for other tools, the sums of all."""
    page, table = tmp_path / "costs.html", tmp_path / "runs.csv"
    for arguments, said in (
        (["costs", "bikes"], "v2 linear"),
        (["costs", "bikes", "--html", str(page)], "the page:"),
        (["costs", "--export", str(table)], "13 runs, 37 columns"),
        (["costs"], "What workloads cost"),
        (["runs", "bikes", "--limit", "3"], "the newest 3 runs"),
    ):
        assert said in typed(*arguments)
    assert page.is_file()
    assert table.is_file()
    refused("--html is the account of one workload", "costs", "--html", str(page))
    refused("--replays is about one workload", "costs", "--replays")


def test_the_command_writes_everything_it_is_asked_for(store: Store, tmp_path: Path) -> None:
    """One call may ask for the page, the table and the account; none of them is forgotten."""
    page, table, kept = (tmp_path / name for name in ("c.html", "r.csv", "a.json"))
    said = typed(
        *("costs", "bikes", "--html", str(page), "--export", str(table), "--json", str(kept))
    )
    assert page.is_file()
    assert len(table.read_text(encoding="utf-8").splitlines()) == 14
    written = json.loads(kept.read_text(encoding="utf-8"))
    assert written["money"] == account().money.model_dump()
    assert "by kind" not in said


def test_the_copy_a_replay_works_in_is_no_workload(replayed: None) -> None:
    """Its name, found among the sums, is refused and the way to its bill is told."""
    assert "bikes-replay" in typed("costs")
    for command in ("costs", "runs", "champion"):
        refused(r"'bikes-replay' is no workload.*--replays", command, "bikes-replay")
    refused(r"no workload 'bikes-real'\. Did you mean 'bikes_real'", "runs", "bikes-real")


def test_replays_have_an_account_for_each_of_their_sandboxes(
    replayed: None, tmp_path: Path
) -> None:
    """Versions of two policies are not mixed: both accounts are printed, and one file refused."""
    said = typed("costs", "bikes", "--replays")
    assert "bikes-replay: what 1 run cost" in said
    assert "bikes-replay-drift: what 1 run cost" in said
    assert "v7" in said
    assert "v2 linear" not in said
    refused("replays of 'bikes' have 2", "costs", "bikes", "--replays", "--json", str(tmp_path))
    assert "digits-replay has no runs yet: twinloop replay digits" in typed(
        "costs", "digits", "--replays"
    )


def test_the_page_of_little_money_in_one_hour_can_be_read(replayed: None, tmp_path: Path) -> None:
    """One hour is no column but a bar for each loop, and one run is no runs."""
    page = tmp_path / "costs.html"
    typed("costs", "digits", "--html", str(page))
    text = page.read_text(encoding="utf-8")
    assert "All in the hour of 09 Oct 08:00 (UTC)" in text
    assert "1 run up to" in text
    assert "0.000000012" in text


def test_a_kind_of_run_that_is_none_is_refused(store: Store) -> None:
    """A misspelt kind is an error that names the nearest, no empty table."""
    assert "the newest 1 run " in typed("runs", "bikes", "--kind", "monitoring")
    refused("'trainig' is no kind.*'training'", "runs", "bikes", "--kind", "trainig")


def test_small_money_is_not_nothing(replayed: None, tmp_path: Path) -> None:
    """A column shows three digits of its largest amount, however small that is."""
    rows = typed("runs", "digits").splitlines()
    assert any("0.000000012" in row for row in rows), rows
    prices = tmp_path / "prices.yaml"
    prices.write_text("kwh: 1", encoding="utf-8")
    said = typed("costs", "reprice", "digits", "--prices", str(prices))
    assert "0.000000012" in said
    assert "0.000000003" in said
    assert "storage a month then" in said


def test_help_of_costs_shows_what_it_takes() -> None:
    """What need not be named is explained with the group: its argument and its options."""
    said = typed("costs", "--help")
    for word in ("reprice", "WORKLOAD", "--html", "--export", "--replays", "--json"):
        assert word in said
    assert "[[" not in said


def typed(*arguments: str) -> str:
    """Run the command in a wide terminal as a person types it; return what it printed."""
    from typer.testing import CliRunner

    from flows.cli import app

    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(words: str, *arguments: str) -> None:
    """See that the command refuses, in words of a pattern."""
    from typer.testing import CliRunner

    from flows.cli import app

    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, WorkloadError), result.output
    assert re.search(words, str(result.exception)), result.exception
