"""Querying: databases of MLflow and Prefect asked in SQL, and never written to.

SQLite's own driver does for a file: SQLAlchemy, which others need, takes a third of a second to
import, as long as it takes to read ten thousand runs.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twinloop.errors import ServiceError

# Takes SQL with parameters like `:name`, and returns rows.
Ask = Callable[[str, Mapping[str, Any]], Sequence[tuple[Any, ...]]]

_SQLITE = re.compile(r"^sqlite(?:\+\w+)?:///([^?]*)")


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
        place = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(place, uri=True)) as connection:
            yield lambda sql, given: connection.execute(sql, given).fetchall()
    except sqlite3.Error as err:
        raise _unreadable(address, err) from err


def _asking_server(address: str) -> Iterator[Ask]:
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    url = sqlalchemy.make_url(address)
    options = {"postgresql_readonly": True} if url.get_backend_name() == "postgresql" else {}
    engine = sqlalchemy.create_engine(url, execution_options=options)
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


def _unreadable(address: str, err: object) -> ServiceError:
    reason = str(err).strip()
    return ServiceError(f"cannot read the database {without_password(address)}: {reason}.")


def without_password(address: str) -> str:
    """Spell the address of a database so that it can be shown."""
    if sqlite_file(address) is not None:
        return address
    import sqlalchemy

    return sqlalchemy.make_url(address).render_as_string(hide_password=True)
