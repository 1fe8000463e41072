"""Repeats: keys that occur more than once in a window, found in bounded memory beforehand."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import storage
from twinloop.contract import SCORED_ROLES, Contract, check_rows, key_rows
from twinloop.digest import row_hashes
from twinloop.inference import first_of_repeated

# Hashes in memory at a time: 8 MB, and as much again to sort them.
_AT_A_TIME = 1_000_000
_BYTES = 8


class Repeats:
    """Tells, batch after batch, which rows come after another one of the same key.

    Keys are known by hashes of 64 bits: among 30 million of them two are equal by accident once in
    40,000 windows, and a row would then be in quarantine for nothing.

    Parameters
    ----------
    contract, key
        Say what the key is.
    hashes : np.ndarray of uint64
        Those that occur more than once, sorted; see `find_repeated`.
    taken
        Of these, those whose row was scored in an earlier part.
    """

    def __init__(
        self, contract: Contract, key: tuple[str, ...], hashes: np.ndarray, taken: Iterable[int]
    ) -> None:
        self._contract = contract
        self._key = key
        self._hashes = hashes
        self._taken = np.isin(hashes, np.array(list(taken), np.uint64))

    def mark(self, table: pa.Table) -> tuple[np.ndarray | None, list[int]]:
        """Mark rows that come too late: bool, shape (n_rows,); None if there are none to look at.

        Returns also the hashes whose row is in this batch. Batches must come in their order.
        """
        if len(self._hashes) == 0:
            return None, []
        keys = key_rows(table, self._contract, self._key)
        hashes = row_hashes(keys.good, list(self._key))
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        again = self._hashes[places] == hashes
        if not again.any():
            return None, []
        rows, places = np.flatnonzero(keys.kept)[again], places[again]
        checked = check_rows(table.take(rows), self._contract, roles=SCORED_ROLES, lean=True)
        late = np.zeros(table.num_rows, bool)
        late[rows], took = first_of_repeated(checked.kept, places, self._taken)
        self._taken[took] = True
        return late, self._hashes[took].tolist()


def find_repeated(
    tables: Iterable[pa.Table], contract: Contract, key: tuple[str, ...]
) -> np.ndarray:
    """Find the hashes of keys that occur more than once: uint64, sorted.

    Memory does not grow with the rows: beyond some millions hashes lie in a file without a name,
    and are sorted in as many goes as it takes.

    Parameters
    ----------
    tables
        At least the columns of the key, as they came.
    contract, key
        Say what the key is.

    Raises
    ------
    StorageError
        If the disk of temporary files refuses.
    """
    with (
        storage.writing(Path(tempfile.gettempdir())),
        tempfile.SpooledTemporaryFile(max_size=_AT_A_TIME * _BYTES) as file,
    ):
        n = 0
        for table in tables:
            hashes = row_hashes(key_rows(table, contract, key).good, list(key))
            file.write(hashes.tobytes())
            n += len(hashes)
        goes = -(-n // _AT_A_TIME)
        found = [_repeated(_share(file, go, goes)) for go in range(goes)]
    return np.concatenate([np.empty(0, np.uint64), *found])


def _share(file: "tempfile.SpooledTemporaryFile[bytes]", go: int, goes: int) -> np.ndarray:
    """Read the hashes of one go: an equal span of all there can be."""
    first, last = (np.uint64(min(i * 2**64 // goes, 2**64 - 1)) for i in (go, go + 1))
    file.seek(0)
    found = []
    while content := file.read(max(_AT_A_TIME // 4, 1) * _BYTES):
        hashes = np.frombuffer(content, np.uint64)
        inside = (hashes >= first) & ((hashes < last) if go + 1 < goes else True)
        found.append(hashes[inside])
    return np.concatenate(found)


def _repeated(hashes: np.ndarray) -> np.ndarray:
    hashes.sort()
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
