"""Databases of other versions: one clear error, nothing started, and a way out that works."""

import os
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stacks import call, make_home


def revisions(folder: Path) -> list[str]:
    """List the schemas of a folder of migrations, the newest first."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(folder))
    return [r.revision for r in ScriptDirectory.from_config(config).walk_revisions()]


@pytest.fixture
def older_mlflow(tmp_path: Path) -> Path:
    """Make the database that the MLflow before this one would have made."""
    import mlflow.store.db.utils as store
    import sqlalchemy
    from alembic import command
    from mlflow.store.tracking.dbmodels.initial_models import Base

    database = tmp_path / "mlflow" / "store" / "mlflow.db"
    database.parent.mkdir(parents=True)
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    config = store._get_alembic_config(f"sqlite:///{database}")  # type: ignore[no-untyped-call]
    before = revisions(Path(store.__file__).parents[1] / "db_migrations")[1]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, before)
    engine.dispose()
    return database


@pytest.fixture
def older_prefect(tmp_path: Path) -> Path:
    """Make the database that the Prefect before this one would have made."""
    import prefect

    folder = Path(prefect.__file__).parent / "server" / "database" / "_migrations"
    (tmp_path / ".prefect").mkdir()
    database = tmp_path / ".prefect" / "prefect.db"
    command = f"prefect server database upgrade -y --revision {revisions_of_sqlite(folder)[1]}"
    upgrade(command, {"PREFECT_HOME": str(database.parent)})
    return database


def revisions_of_sqlite(folder: Path) -> list[str]:
    """List Prefect's schemas for SQLite, the newest first: its files begin with their dates."""
    files = sorted((folder / "versions" / "sqlite").glob("*.py"), reverse=True)
    return [path.stem.split("_")[4] for path in files]


def upgrade(command: str, variables: dict[str, str]) -> None:
    """Run a command as a message gave it."""
    words = [str(Path(sys.executable).parent / shlex.split(command)[0]), *shlex.split(command)[1:]]
    subprocess.run(words, env=os.environ | variables, check=True, capture_output=True, timeout=120)


def version_of(database: Path) -> str:
    """Read which schema a database has."""
    connection = sqlite3.connect(database)
    found = str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    connection.close()
    return found


@pytest.mark.parametrize("words", [("up",), ("runs", "city"), ("train", "city")])
def test_an_older_mlflow_is_refused_until_it_is_upgraded(
    words: tuple[str, ...], tmp_path: Path, older_mlflow: Path
) -> None:
    """Each command says so, changes nothing, and names the command that mends it."""
    environment = make_home(tmp_path)
    before = version_of(older_mlflow)
    refused = call(environment, *words)
    assert refused.returncode == 1
    assert refused.stderr.count("error [TL") == 1
    assert "Traceback" not in refused.stderr
    assert f"has schema {before}, which is older" in refused.stderr
    assert version_of(older_mlflow) == before
    if words[0] == "runs":
        upgrade(refused.stderr.split("`")[1], {})
        assert call(environment, "runs", "city").returncode == 0


def test_an_older_prefect_is_refused_until_it_is_upgraded(
    tmp_path: Path, older_prefect: Path
) -> None:
    """The stack says so, changes nothing, and names the command that mends it."""
    environment = make_home(tmp_path)
    before = version_of(older_prefect)
    refused = call(environment, "up")
    assert refused.returncode == 1
    assert f"has schema {before}, which is older" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert version_of(older_prefect) == before
    variable, command = refused.stderr.split("`")[1].split(" ", 1)
    upgrade(f"{command} -y", dict([variable.split("=", 1)]))
    assert version_of(older_prefect) != before


def test_a_newer_database_is_refused(tmp_path: Path, migrated_store: Path) -> None:
    """A schema that the installed version does not know came from a newer one."""
    environment = make_home(tmp_path)
    database = tmp_path / "mlflow" / "store" / "mlflow.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(migrated_store.read_bytes())
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    connection.close()
    refused = call(environment, "up")
    assert refused.returncode == 1
    assert "a newer one has made it" in refused.stderr


def test_a_database_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    """A server that does not answer is named, without its password."""
    address = "postgresql+psycopg2://owner:secret@127.0.0.1:1/mlflow"
    refused = call(make_home(tmp_path, MLFLOW_BACKEND_STORE_URI=address), "up")
    assert refused.returncode == 1
    assert "cannot read the database postgresql+psycopg2://owner:***@127.0.0.1:1/" in refused.stderr
    assert "secret" not in refused.stderr
    assert "Traceback" not in refused.stderr
