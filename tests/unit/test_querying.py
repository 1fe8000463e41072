"""Databases that are asked in SQL: what a crash left half done, and addresses that are none."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks import databases
from tasks.databases import _revision_of
from tasks.ledger_sql import _RUNS
from tasks.querying import asking, without_password
from twinloop.errors import ServiceError

# Killed in the midst of a change that has reached the file: little fits into the cache.
CRASH = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f"PRAGMA journal_mode = {sys.argv[2]}")
connection.execute("PRAGMA cache_size = 2")
connection.execute("BEGIN")
connection.execute("UPDATE runs SET note = 'torn' || substr(note, 5)")
os._exit(0)
"""


def store(path: Path) -> Path:
    """Make a database with a revision and a megabyte of runs."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('abc123')")
        connection.execute("CREATE TABLE runs (note)")
        connection.executemany("INSERT INTO runs VALUES (?)", [("x" * 1000,)] * 1000)
    return path


@pytest.mark.parametrize(("mode", "left"), [("delete", "-journal"), ("wal", "-wal")])
def test_a_store_whose_writer_was_killed_is_read(tmp_path: Path, mode: str, left: str) -> None:
    """What it had half done is taken back; only whoever may write can do that."""
    path = store(tmp_path / "mlflow.db")
    subprocess.run([sys.executable, "-c", CRASH, path, mode], check=True)
    assert path.with_name(f"{path.name}{left}").stat().st_size > 0
    address = f"sqlite:///{path}"
    assert _revision_of(address) == "abc123"
    with asking(address) as ask:
        assert ask is not None
        assert ask("SELECT count(*), max(note) FROM runs", {}) == [(1000, "x" * 1000)]


def test_a_file_that_is_no_database_is_one_error(tmp_path: Path) -> None:
    """It is not tried again, and not written to."""
    path = tmp_path / "mlflow.db"
    path.write_text("not a database, though long enough to be looked at as one\n" * 100)
    before = path.read_bytes()
    with pytest.raises(ServiceError, match="cannot read the database"):
        _revision_of(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_store_is_only_read(tmp_path: Path) -> None:
    """Whatever is asked: the connection cannot write."""
    path = store(tmp_path / "mlflow.db")
    refused = pytest.raises(ServiceError, match="readonly")
    with refused, asking(f"sqlite:///{path}") as ask:
        assert ask is not None
        ask("DELETE FROM runs", {})


@pytest.mark.parametrize(
    "address", ["./mlruns", "databricks", "file:///srv/me/mlruns", "postgresql://u:s3cret@h:x/d"]
)
def test_what_is_no_address_of_a_database_is_one_error(address: str) -> None:
    """Named, with one that would do; a password in it is not shown."""
    with pytest.raises(ServiceError, match="is no address of a database") as caught:
        _revision_of(address)
    assert "sqlite:////" in caught.value.hint
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in without_password(address)


def test_a_driver_that_is_missing_is_one_error() -> None:
    """What is to be installed is named, without the password."""
    address = "postgresql+pg8000://me:s3cret@localhost/mlflow"
    with pytest.raises(ServiceError, match="No module named 'pg8000'") as caught:
        _revision_of(address)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("dialect", ["postgresql", "postgresql+psycopg2", "mysql", "sqlite"])
def test_a_table_of_another_schema_is_not_taken_for_ones_own(
    dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL lists those of all schemas of a database; `alembic_version` is a common name."""
    asked: list[str] = []

    @contextmanager
    def listening(_: str) -> Iterator[Any]:
        def answer(sql: str, _: object) -> list[Any]:
            asked.append(sql)
            return []

        yield answer

    monkeypatch.setattr(databases, "asking", listening)
    assert _revision_of(f"{dialect}://host/mlflow") is None
    own = "table_schema = current_schema() AND table_name = 'alembic_version'"
    assert (own in asked[0]) == dialect.startswith("postgresql")


def test_no_two_columns_of_the_question_for_runs_share_a_name() -> None:
    """As a part of another question it is a table, whose columns need names of their own."""
    columns = _RUNS.partition("SELECT ")[2].partition("FROM")[0].split(",")
    names = [c.rpartition(" ")[2].rpartition(".")[2].strip() for c in map(str.strip, columns)]
    assert len(set(names)) == len(names) == 6
