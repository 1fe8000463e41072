"""Streaming: the batches of a window through all cores, and out again in their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice

import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks import sources
from tasks.repeats import Repeats, find_repeated
from tasks.settings import settings
from tasks.sources import SourceBatch, Unreadable
from twinloop.contract import SCORED_ROLES, Contract
from twinloop.inference import BatchScorer, Scored
from twinloop.tables import require_columns
from twinloop.window import Window
from twinloop.workload import Workload

Piece = SourceBatch | Unreadable
# Windows of fewer batches are read once; of larger ones the keys are read by themselves before.
_FEW_BATCHES = 8


class Stream:
    """The rows of a window on their way through a scorer, a few batches at a time.

    Parameters
    ----------
    workload, window
        Which rows.
    contract
        Of the version that scores.
    scorer
        What becomes of a batch.
    """

    def __init__(
        self, workload: Workload, window: Window | None, contract: Contract, scorer: BatchScorer
    ) -> None:
        self._workload = workload
        self._window = window
        self._contract = contract
        self._scorer = scorer
        self._rows = 0

    def scored(
        self, done: int, taken: Iterable[int]
    ) -> Iterator[tuple[Piece, list[int], Scored | None]]:
        """Yield pieces in their order.

        Parameters
        ----------
        done
            How many pieces to pass over.
        taken
            Hashes of keys whose row is in these.

        Yields
        ------
        tuple of SourceBatch or Unreadable, list of int, and Scored or None
            Each piece, the hashes whose row is in it, and what became of it; None of what could
            not be read.

        Raises
        ------
        ColumnError
            If a column that the model needs is missing.
        """
        # Files keep to the memory that is set when they are opened.
        with _lent_memory():
            yield from self._scored(done, taken)

    def _scored(
        self, done: int, taken: Iterable[int]
    ) -> Iterator[tuple[Piece, list[int], Scored | None]]:
        levels = [c.name for c in self._contract.select("feature") if c.kind == "category"]
        pieces = self._pieces(dictionary=levels)
        head = list(islice(pieces, _FEW_BATCHES))
        self._require_columns(head)
        repeats = self._repeats(head, taken)

        def jobs() -> Iterator[tuple[Piece, list[int], Callable[[], Scored] | None]]:
            for piece in islice(chain(_emptied(head), pieces), done, None):
                if isinstance(piece, Unreadable):
                    yield piece, [], None
                else:
                    late, took = repeats.mark(piece.table)
                    yield piece, took, partial(self._scorer.score, piece.table, late)

        most = 2 * settings().threads
        waiting: deque[tuple[Piece, list[int], Future[Scored] | None]] = deque()
        with _pool() as pool:
            for piece, took, work in jobs():
                waiting.append((piece, took, None if work is None else pool.submit(work)))
                if len(waiting) > most:
                    yield _wait(*waiting.popleft())
            while waiting:
                yield _wait(*waiting.popleft())

    def share(self, rows: int) -> float:
        """Tell which share of the window so many rows are; 0 while it is not known."""
        return min(rows / self._rows, 1.0) if self._rows else 0.0

    def _pieces(
        self, dictionary: Iterable[str] = (), columns: Iterable[str] | None = None
    ) -> Iterator[Piece]:
        return sources.read_pieces(
            self._workload,
            self._window,
            self._workload.inference.batch_rows,
            dictionary=tuple(dictionary),
            columns=None if columns is None else tuple(columns),
        )

    def _require_columns(self, head: list[Piece]) -> None:
        wanted = self._contract.select(*SCORED_ROLES)
        needed = {c.name: f"a {c.role} of the model" for c in wanted}
        for piece in head:
            if isinstance(piece, SourceBatch):
                require_columns(piece.table, needed, sources.origin(self._workload))

    def _repeats(self, head: list[Piece], taken: Iterable[int]) -> Repeats:
        """Look the keys of all rows through, before any row is scored, and count the rows."""
        key = self._workload.key
        whole = iter(head) if len(head) < _FEW_BATCHES else self._pieces(columns=key)
        hashes = find_repeated(self._counted(whole) if key else (), self._contract, key)
        return Repeats(self._contract, key, hashes, taken)

    def _counted(self, pieces: Iterator[Piece]) -> Iterator[pa.Table]:
        for piece in pieces:
            if isinstance(piece, SourceBatch):
                self._rows += piece.table.num_rows
                yield piece.table


def _emptied(head: list[Piece]) -> Iterator[Piece]:
    """Yield pieces and let go of them: they are not small."""
    while head:
        yield head.pop(0)


def _wait(
    piece: Piece, took: list[int], future: Future[Scored] | None
) -> tuple[Piece, list[int], Scored | None]:
    return piece, took, None if future is None else future.result()


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Provide a thread a core, each of which leaves the other cores to the others."""
    with threadpool_limits(1, "blas"):
        # OpenMP has a limit for each thread that uses it.
        limit = partial(threadpool_limits, 1, "openmp")
        pool = ThreadPoolExecutor(settings().threads, "score", limit)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _lent_memory() -> Iterator[None]:
    """Have Arrow take memory from the system, and give it back.

    Its own pool keeps what it was given: with it the peak was a seventh higher, and grew.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
