"""Databases: those of Prefect and MLflow, held to the versions that are installed.

Both servers change the schema of an older database when they start, unasked. What was there should
be copied first, so nothing is started on one.
"""

import importlib.util
import os
import re
from pathlib import Path

from tasks.querying import asking, sqlite_file, without_password
from tasks.settings import settings
from twinloop.errors import ServiceError

PREFECT_DATABASE_VARIABLES = (
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
)
_REVISION = re.compile(r"^(down_)?revision\b[^=\n]*= *[\"'](\w+)[\"']", re.MULTILINE)
# Where a database lists its tables.
_FILE_TABLES = "sqlite_master WHERE name"
_TABLES = "information_schema.tables WHERE table_name"
# Those of other schemas of the same database are another's.
_OWN_TABLES = "information_schema.tables WHERE table_schema = current_schema() AND table_name"


def check_databases() -> None:
    """Refuse databases that another version of MLflow or Prefect has made.

    Raises
    ------
    ServiceError
        Naming the database, and the command that brings an older one up to date.
    """
    check_mlflow_database(mlflow_database())
    home = settings().prefect_home
    address = prefect_database()
    dialect = "postgresql" if address.startswith("postgresql") else "sqlite"
    versions = _package("prefect") / "server" / "database" / "_migrations" / "versions" / dialect
    upgrade = f"PREFECT_HOME={home} prefect server database upgrade"
    _check("Prefect", address.replace("+aiosqlite", "").replace("+asyncpg", ""), versions, upgrade)


def check_mlflow_database(address: str) -> None:
    """Refuse a database that another version of MLflow has made.

    Parameters
    ----------
    address
        As SQLAlchemy reads it.

    Raises
    ------
    ServiceError
        Naming the database, and the command that brings an older one up to date.
    """
    versions = _package("mlflow") / "store" / "db_migrations" / "versions"
    _check("MLflow", address, versions, f"mlflow db upgrade {without_password(address)}")


def mlflow_database() -> str:
    """Return the address of the database that a MLflow server of ours keeps its runs in."""
    return os.environ.get("MLFLOW_BACKEND_STORE_URI") or embedded_database()


def embedded_database() -> str:
    """Return the address of the database under this home."""
    return f"sqlite:///{settings().store / 'mlflow.db'}"


def prefect_database() -> str:
    """Return the address of the database that a Prefect server of ours keeps its records in."""
    given = (os.environ.get(name) for name in PREFECT_DATABASE_VARIABLES)
    local = f"sqlite+aiosqlite:///{settings().prefect_home / 'prefect.db'}"
    return next(filter(None, given), local)


def _check(server: str, address: str, versions: Path, upgrade: str) -> None:
    found = _revision_of(address)
    if found is None:
        return
    texts = [path.read_text(encoding="utf-8") for path in versions.glob("*.py")]
    pairs = [pair for text in texts for pair in _REVISION.findall(text)]
    known = {revision for down, revision in pairs if not down}
    heads = known - {revision for down, revision in pairs if down}
    if found in heads:
        return
    where = f"{server}'s database {without_password(address)} has schema {found}"
    if found in known:
        raise ServiceError(
            f"{where}, which is older than that of the installed {server}, {min(heads)}.",
            f"Copy it, and bring it up to date with `{upgrade}`.",
        )
    raise ServiceError(
        f"{where}, which the installed {server} does not know: a newer one has made it.",
        "Install the versions of requirements.lock that go with it, or name another database.",
    )


def _revision_of(address: str) -> str | None:
    """Read the revision a database says it has; None where there is none yet."""
    with asking(address) as ask:
        if ask is None:
            return None
        tables = _tables_of(address)
        if not ask(f"SELECT 1 FROM {tables} = 'alembic_version'", {}):  # noqa: S608 - ours
            return None
        found = ask("SELECT version_num FROM alembic_version", {})
        return str(found[0][0]) if found else None


def _tables_of(address: str) -> str:
    """Return where a database lists the tables that an unqualified name means."""
    if sqlite_file(address):
        return _FILE_TABLES
    return _OWN_TABLES if address.startswith("postgresql") else _TABLES


def _package(name: str) -> Path:
    """Find an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None  # noqa: S101 - it is a dependency
    assert spec.origin is not None  # noqa: S101 - it is no namespace
    return Path(spec.origin).parent
