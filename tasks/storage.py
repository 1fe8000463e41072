"""Storage: files of the lake, written whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.errors import StorageError


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as one Parquet file with page checksums, synced to disk."""
    with pq.ParquetWriter(path, table.schema, write_page_checksum=True) as writer:
        writer.write_table(table)
    sync(path)


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file of the lake, its checksums verified.

    Raises
    ------
    StorageError
        If it is missing or damaged.
    """
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as err:
        raise StorageError(f"cannot read {str(path)!r}: {err}") from err


def sync(path: Path) -> None:
    """Make a file or folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses within a block into an error that names the path."""
    try:
        yield
    except OSError as err:
        raise StorageError(f"cannot write {str(path)!r}: {err}") from err


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Fill a folder aside and put it in place at the end; on any error nothing is left.

    Parameters
    ----------
    final
        Where it shall be. If it is there already, content-addressed, the new one is dropped.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    aside = final.parent / f".{final.name}.{uuid.uuid4().hex[:8]}"
    try:
        aside.mkdir(parents=True)
        yield aside
        put_in_place(aside, final)
    except OSError as err:
        raise StorageError(f"cannot write {str(final)!r}: {err}") from err
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(aside: Path, final: Path) -> None:
    """Rename a finished folder to its name, durably; keep what is there already."""
    sync(aside)
    try:
        aside.rename(final)
    except OSError:
        if not final.is_dir():
            raise
    sync(final.parent)


def write_text(path: Path, content: str) -> None:
    """Write a small file whole or not at all.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    aside = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(content, encoding="utf-8")
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    except OSError as err:
        raise StorageError(f"cannot write {str(path)!r}: {err}") from err
    finally:
        aside.unlink(missing_ok=True)
