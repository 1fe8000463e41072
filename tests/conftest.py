"""Real things to test against: a Prefect server, and a SQLite MLflow store migrated once."""

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tasks.servers import set_environment

ROOT = Path(__file__).parent.parent

settings.register_profile(
    "twinloop", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("twinloop")


def pytest_configure() -> None:
    """Keep Prefect and OpenMP as the command does, before anything imports them."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "TWINLOOP_WORKLOAD_FILE"):
        os.environ.pop(name, None)
    place = ROOT / ".prefect" / os.environ.get("PYTEST_XDIST_WORKER", "tests")
    place.mkdir(parents=True, exist_ok=True)  # Prefect makes one folder, not two
    set_environment(place)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that several processes end at about the same time."""
    items.sort(key=lambda item: not {"services", "browser"} & set(item.path.parts))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a picture of what a browser showed where a test failed."""
    report = yield
    values = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "page" in values:
        picture = values["tmp_path"] / "page.png"
        values["page"].screenshot(path=picture)
        report.sections.append(("the page", f"{values['page'].url}\n{picture}"))
    return report


@pytest.fixture(autouse=True)
def _import_path() -> Iterator[None]:
    """Take back what loading a version puts before the core on the path, which children inherit."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """Run one real Prefect server on a temporary database, for all tests that run flows."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    from tasks.metering import exclude

    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        # As with the command's own server: its time and memory are on no run's bill.
        for server in psutil.Process().children(recursive=True):
            exclude(server.pid)
        yield


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a MLflow database once; every test works on a copy."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("store")
    database = folder / "mlflow.db"
    store: Any = SqlAlchemyStore(f"sqlite:///{database}", folder.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()
    return database


@pytest.fixture
def home(tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a home folder with the shipped workloads and an empty MLflow store."""
    store = tmp_path / "mlflow" / "store"
    store.mkdir(parents=True)
    shutil.copy(migrated_store, store / "mlflow.db")
    shutil.copytree(ROOT / "data" / "workloads", tmp_path / "data" / "workloads")
    monkeypatch.setenv("TWINLOOP_HOME", str(tmp_path))
    return tmp_path
