"""Querying: databases of MLflow and Prefect asked in SQL, and never written to.

SQLite's own driver does for a file: SQLAlchemy, which others need, takes a third of a second to
import, as long as it takes to read ten thousand runs.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twinloop.errors import ServiceError

if TYPE_CHECKING:
    from sqlalchemy import Engine

# Takes SQL with parameters like `:name`, and returns rows.
Ask = Callable[[str, Mapping[str, Any]], Sequence[tuple[Any, ...]]]

_SQLITE = re.compile(r"^sqlite(?:\+\w+)?:///([^?]*)")
_SECRET = re.compile(r"//[^/]*@")
# What a connection that may only read says where a writer was killed in the midst of its work.
_UNFINISHED = frozenset(
    {
        "SQLITE_READONLY_ROLLBACK",
        "SQLITE_READONLY_RECOVERY",
        "SQLITE_READONLY_CANTINIT",
        "SQLITE_CANTOPEN",
    }
)


def sqlite_file(address: str) -> Path | None:
    """Return the file of a SQLite database by its address; None for one of another kind."""
    found = _SQLITE.match(address)
    return Path(found[1]) if found else None


@contextmanager
def asking(address: str) -> Iterator[Ask | None]:
    """Open a database for questions; None where it is a file that is not there yet.

    Parameters
    ----------
    address
        As SQLAlchemy reads it.

    Raises
    ------
    ServiceError
        If it cannot be read.
    """
    path = sqlite_file(address)
    if path is None:
        yield from _asking_server(address)
    elif not path.is_file():
        yield None
    else:
        yield from _asking_file(path, address)


def _asking_file(path: Path, address: str) -> Iterator[Ask]:
    try:
        with closing(_open_file(path)) as connection:
            yield lambda sql, given: connection.execute(sql, given).fetchall()
    except sqlite3.Error as err:
        raise _unreadable(address, err) from err


def _open_file(path: Path) -> sqlite3.Connection:
    """Open a file to read from.

    What a killed writer left half done SQLite takes back, or brings to its end, before anything
    is read. It must write for that, so it is given one question on a connection that may.
    """
    try:
        return _tried(path, "ro")
    except sqlite3.OperationalError as err:
        if err.sqlite_errorname not in _UNFINISHED:
            raise
    _tried(path, "rw").close()
    return _tried(path, "ro")


def _tried(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file, and see that it can be read."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _asking_server(address: str) -> Iterator[Ask]:
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    engine = _engine(address)
    try:
        with engine.connect() as connection:

            def ask(sql: str, given: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
                cursor = connection.execute(sqlalchemy.text(sql), given).cursor
                # As the driver gives them: hundreds of thousands of rows need no names.
                return list(cursor.fetchall())

            yield ask
    except SQLAlchemyError as err:
        raise _unreadable(address, getattr(err, "orig", err)) from err
    finally:
        engine.dispose()


def _engine(address: str) -> "Engine":
    """Make what connects to a server of databases; nothing is connected yet.

    Raises
    ------
    ServiceError
        If the address is of no database, or the driver for it is not installed.
    """
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError

    try:
        url = sqlalchemy.make_url(address)
        options = {"postgresql_readonly": True} if url.get_backend_name() == "postgresql" else {}
        return sqlalchemy.create_engine(url, execution_options=options)
    # A port that is no number is a ValueError.
    except (ArgumentError, ValueError) as err:
        raise ServiceError(
            f"{without_password(address)!r} is no address of a database.",
            "Expected one like sqlite:////srv/me/mlflow.db or postgresql://user@host/mlflow; see "
            "MLFLOW_BACKEND_STORE_URI and MLFLOW_TRACKING_URI.",
        ) from err
    except ImportError as err:
        raise ServiceError(
            f"cannot open the database {without_password(address)}: {err}.",
            "Install the driver, or name one that is installed, like postgresql+psycopg2://.",
        ) from err


def _unreadable(address: str, err: object) -> ServiceError:
    reason = str(err).strip()
    return ServiceError(f"cannot read the database {without_password(address)}: {reason}.")


def without_password(address: str) -> str:
    """Spell the address of a database so that it can be shown."""
    if sqlite_file(address) is not None:
        return address
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError

    try:
        return sqlalchemy.make_url(address).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        # Of no form that is known; what stands where a password would is left out.
        return _SECRET.sub("//***@", address)
