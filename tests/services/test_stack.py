"""The stack as a person starts it: `twinloop up`, both pages, a schedule, drift, and `down`."""

import tempfile
import urllib.error
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.stacks import (
    ENDS,
    MLFLOW_ACCOUNT,
    PREFECT_ACCOUNT,
    Stack,
    bring_up,
    call,
    make_home,
    postgres,
    running,
    tags_of,
    until,
)

TEN = {"max_results": 10}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Run a stack for all tests of this module: as it comes, and on PostgreSQL with accounts."""
    home = tmp_path_factory.mktemp("home")
    if request.param == "sqlite":
        with running(make_home(home)) as found:
            yield found
        return
    user, _, password = MLFLOW_ACCOUNT.partition(":")
    folder = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents):
        if parent.is_relative_to(tempfile.gettempdir()) and parent != Path(tempfile.gettempdir()):
            parent.chmod(0o755)  # the server is another user than root
    with postgres(folder) as address:
        environment = make_home(
            home,
            PREFECT_SERVER_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://{address}/prefect",
            MLFLOW_BACKEND_STORE_URI=f"postgresql+psycopg2://{address}/mlflow",
            PREFECT_API_AUTH_STRING=PREFECT_ACCOUNT,
            MLFLOW_TRACKING_USERNAME=user,
            MLFLOW_TRACKING_PASSWORD=password,
        )
        with running(environment) as found:
            yield found


@pytest.fixture(scope="module")
def trained(stack: Stack) -> str:
    """Train the first version through its deployment; return the flow run's id."""
    run = stack.start("train-model/city", as_of="2026-02-20T00:00:00Z")
    assert stack.finished(run) == "COMPLETED"
    return run


def test_every_deployment_is_there_with_its_form(stack: Stack) -> None:
    """Each flow of a workload is deployed, described, tagged, and checks its parameters."""
    for flow in ("score-batch", "watch-drift", "train-model", "retrain-model", "prepare-data"):
        found = stack.deployment(f"{flow}/city")
        assert found["description"]
        assert found["tags"] == ["twinloop", "city"]
        assert found["enforce_parameter_schema"] is True
        assert found["parameter_openapi_schema"]["properties"]["workload"]["enum"] == ["city"]


@pytest.mark.parametrize(
    "parameters", [{"workload": "other"}, {"overrides": {"folds": 900}}, {"nonsense": 1}]
)
def test_wrong_parameters_are_refused_before_a_run_starts(
    stack: Stack, parameters: dict[str, Any]
) -> None:
    """A parameter that does not fit is refused by the server; no flow run is made."""
    before = len(stack.runs("train-model/city"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        stack.start("train-model/city", **parameters)
    with refused.value as answer:
        assert 400 <= answer.code < 500
    assert len(stack.runs("train-model/city")) == before


def test_pages_link_to_each_other(stack: Stack, trained: str) -> None:
    """A flow run shows its tables and a link to its MLflow run, which links back."""
    body = {"artifacts": {"flow_run_id": {"any_": [trained]}}}
    found = {a["key"]: a for a in stack.ask("/artifacts/filter", body)}
    tables = {"leaderboard-city", "verdict-city", "bill-city"}
    assert tables <= set(found)
    link = found[None]["data"]
    run = stack.mlflow_run(trained)
    assert f"{stack.mlflow}/" in link
    assert f"/{run['info']['run_id']}" in link
    assert tags_of(run)["twinloop.prefect_url"].endswith(trained)
    assert trained in tags_of(run)["mlflow.note.content"]
    assert run["info"]["run_name"] == "train city 2026-02-20"


def test_without_credentials_there_is_no_access(stack: Stack) -> None:
    """Where accounts are asked for, both servers refuse those who have none; else nobody is."""
    asked = [(stack.ask, "/flow_runs/count", {}), (stack.ask_mlflow, "/experiments/search", TEN)]
    for ask, path, body in asked:
        ask(path, body)
        if "PREFECT_API_AUTH_STRING" in stack.environment:
            with pytest.raises(urllib.error.HTTPError, match="401"):
                ask(path, body, known=False)
        else:
            ask(path, body, known=False)


def test_command_without_credentials_is_told_so(stack: Stack) -> None:
    """The command joins the stack that runs; without its accounts it says what is missing."""
    if "PREFECT_API_AUTH_STRING" not in stack.environment:
        assert call(stack.environment, "deploy").returncode == 0
        return
    nobody = {k: v for k, v in stack.environment.items() if k != "PREFECT_API_AUTH_STRING"}
    refused = call(nobody, "deploy")
    assert refused.returncode == 1
    assert "PREFECT_API_AUTH_STRING" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_data_is_where_it_was_said_to_be(stack: Stack, trained: str) -> None:
    """With PostgreSQL named, both servers keep everything there and make no SQLite file."""
    database = stack.environment.get("MLFLOW_BACKEND_STORE_URI")
    local = [stack.home / "mlflow" / "store" / "mlflow.db", stack.home / ".prefect" / "prefect.db"]
    assert [p.exists() for p in local] == [database is None] * 2
    if database is None:
        return
    place = database.replace("+psycopg2", "").rpartition("/")[0]
    for name, table in (("prefect", "flow_run"), ("mlflow", "runs")):
        connection = psycopg2.connect(f"{place}/{name}")
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - two names of ours
            assert cursor.fetchone()[0] > 0
        connection.close()


def test_schedule_fires_and_scores_the_window_of_its_scheduled_time(
    stack: Stack, trained: str
) -> None:
    """A scheduled run starts by itself, and its window is that of its scheduled time."""

    def done() -> list[Any]:
        ended = [r for r in stack.runs("score-batch/city") if r["state_type"] in ENDS]
        # The first ones may have come before the training.
        return [r for r in ended if "no champion" not in (r["state"]["message"] or "")]

    run = until(done, 120)[0]
    # The simulated city ends long before today: the run says so, and names the day before its own.
    assert run["auto_scheduled"] is True
    day = datetime.fromisoformat(run["expected_start_time"]).date()
    assert f"/{day:%Y-%m-%d}" in run["state"]["message"]


def test_a_late_run_makes_up_for_missed_windows(stack: Stack, trained: str) -> None:
    """A run scores the window of its scheduled time, and then those that earlier ones missed."""
    for scheduled in ("2026-02-21T05:00:00Z", "2026-02-24T05:00:00Z"):
        assert stack.finished(stack.start("score-batch/city", scheduled)) == "COMPLETED"
    assert stack.windows() == ["20260220", "20260221", "20260222", "20260223"]


def test_drift_starts_one_retraining_for_one_cause(stack: Stack, trained: str) -> None:
    """The event starts a retraining by itself; told again, the same cause starts no training."""
    before = stack.champion()
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": "twinloop.drift.detected",
        "resource": {"prefect.resource.id": "twinloop.workload.city"},
        "payload": {"as_of": "2026-02-25T00:00:00Z", "reason": "test", "cause": "check-1"},
    }
    for number, identity in enumerate(("11" * 16, "22" * 16), 1):
        told = event | {"id": str(uuid.UUID(identity))}
        stack.ask("/events", [told])
        until(partial(stack.has_runs, "retrain-model/city", number), 60)
        for run in stack.runs("retrain-model/city"):
            assert stack.finished(run["id"]) == "COMPLETED"
    kinds = [tags_of(r)["twinloop.kind"] for r in stack.mlflow_runs("tags.`twinloop.as_of` != ''")]
    assert (kinds.count("retraining"), kinds.count("training")) == (2, 2)
    # The alias moved or stayed as the verdict of that one training says.
    where = "tags.`twinloop.kind` = 'training' and tags.`twinloop.as_of` = '2026-02-25'"
    (training,) = stack.mlflow_runs(where)
    promoted = tags_of(training)["twinloop.verdict"] == "promote"
    assert stack.champion() == (str(int(before) + 1) if promoted else before)


def test_what_a_person_changed_survives_the_next_up(tmp_path: Path) -> None:
    """A pause and a schedule set by hand are still there after `down` and `up`."""
    environment = make_home(tmp_path)
    first = bring_up(environment)
    found = first.deployment("score-batch/city")
    first.ask(f"/deployments/{found['id']}/pause_deployment", {})
    schedule = first.deployment("watch-drift/city")
    changed = {"schedule": {"cron": "7 7 * * *", "timezone": "UTC"}}
    at = f"/deployments/{schedule['id']}/schedules/{schedule['schedules'][0]['id']}"
    first.ask(at, changed, "PATCH")
    assert call(environment, "down").returncode == 0
    assert first.process.wait(5) == 143
    second = bring_up(environment)
    assert second.deployment("score-batch/city")["paused"] is True
    kept = second.deployment("watch-drift/city")["schedules"]
    assert [s["schedule"]["cron"] for s in kept] == ["7 7 * * *"]
    assert call(environment, "down").returncode == 0
    assert second.process.wait(5) == 143
    assert "nothing runs here" in call(environment, "down").stdout


def test_second_stack_and_taken_ports_are_refused(stack: Stack, tmp_path: Path) -> None:
    """A stack that runs already, or a taken port, is one clear error, and nothing starts."""
    second = call(stack.environment, "up")
    assert second.returncode == 1
    assert "has a stack already" in second.stderr
    taken = stack.prefect.rsplit(":", 1)[1]
    other = stack.environment | {"TWINLOOP_HOME": str(tmp_path)}
    refused = call(other, "up", "--prefect-port", taken)
    assert refused.returncode == 1
    assert f"port {taken}" in refused.stderr
    assert "Traceback" not in refused.stderr
