"""Storage: files of the lake, written whole or not at all."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from twinloop.errors import StorageError
from twinloop.vocabulary import Frozen


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as one Parquet file with page checksums, synced to disk."""
    with pq.ParquetWriter(path, table.schema, write_page_checksum=True) as writer:
        writer.write_table(table)
    sync(path)


class Stored(Frozen):
    """A file as it was written: what to hold it to when it is read again."""

    name: str
    rows: int
    size: int
    sha256: str

    def is_at(self, folder: Path) -> bool:
        """Tell whether it lies in a folder, byte for byte."""
        return not self.fault(folder)

    def fault(self, folder: Path) -> str:
        """Say what is wrong with it in a folder; empty if nothing is."""
        try:
            content = (folder / self.name).read_bytes()
        except OSError as err:
            return "is missing" if isinstance(err, FileNotFoundError) else f"cannot be read: {err}"
        if len(content) != self.size:
            return f"has {len(content)} bytes, {self.size} were written"
        found = hashlib.sha256(content).hexdigest()
        if found == self.sha256:
            return ""
        return f"is damaged: SHA-256 {found[:16]}, {self.sha256[:16]} was written"


def put_parquet(table: pa.Table, path: Path) -> Stored:
    """Write a table as one Parquet file, whole or not at all, and tell what was written.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, table.schema, write_page_checksum=True) as writer:
        writer.write_table(table)
    content = buffer.getvalue()
    put_bytes(content, path)
    digest = hashlib.sha256(content).hexdigest()
    return Stored(name=path.name, rows=table.num_rows, size=len(content), sha256=digest)


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
    put_bytes(content.encode(), path)


def put_bytes(content: bytes | pa.Buffer, path: Path) -> None:
    """Write a file aside, make it durable, and give it its name; on any error nothing is left.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    aside = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    except OSError as err:
        raise StorageError(f"cannot write {str(path)!r}: {err}") from err
    finally:
        # On a disk that takes no writes any more it stays; the first error is the one to hear of.
        with suppress(OSError):
            aside.unlink(missing_ok=True)
