"""Preparing: from a source's rows to a snapshot named by its content."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from tasks import sources, storage
from tasks.metering import leave_behind, step
from tasks.settings import settings
from twinloop.cleaning import clean
from twinloop.contract import REASON, Contract, check_rows, infer_contract
from twinloop.digest import content_digest
from twinloop.errors import QuarantineError, StorageError
from twinloop.tables import convert
from twinloop.vocabulary import Frozen
from twinloop.window import Window, window_before
from twinloop.workload import Workload

# Raise when the same source would now give another snapshot.
_FORMAT = 1
_ROWS = "rows.parquet"
_LONGEST_EXAMPLE = 100
_DAY = 86_400_000_000  # microseconds
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


class Snapshot(Frozen):
    """A handle to a prepared dataset.

    Attributes
    ----------
    path
        Its folder, absolute.
    digest
        SHA-256 of its full content; the folder's name.
    read, rows
        Rows that were read, and rows that are left.
    quarantined
        Rows that broke the contract, kept in ``bad.parquet`` beside.
    dropped
        Rows left out in cleaning, by reason.
    bad_days
        Quarantined rows by the day of their time, in days since 1970, where that can be read.
    reused
        Whether it was there already.
    """

    path: Path
    digest: str
    read: int
    rows: int
    quarantined: int
    dropped: dict[str, int]
    contract: Contract
    bad_days: dict[int, int] = Field(default_factory=dict)
    reused: bool = False

    def table(self) -> pa.Table:
        """Read its rows."""
        return storage.read_parquet(self.path / _ROWS)


def training_window(workload: Workload, as_of: datetime) -> Window | None:
    """Return the newest rows with labels that a training at a time would take; None for all."""
    if workload.time is None:
        return None
    lag = workload.monitoring.labels_after
    if workload.training.window is None:
        return Window(start=_BEGINNING, end=as_of - lag)
    return window_before(as_of, workload.training.window, lag)


@step
def prepare_snapshot(workload: Workload, window: Window | None) -> Snapshot:
    """Ingest, check and clean a window, and write what is left as a snapshot.

    Raises
    ------
    QuarantineError
        If more rows break the contract than the workload allows.
    """
    folder = settings().lake(workload) / "prepared"
    index = folder / "index" / f"{_recipe(workload, window)}.json"
    known = _look_up(index)
    if known is not None:
        return known
    origin = sources.origin(workload)
    raw = sources.read_window(workload, window)
    contract = infer_contract(raw, workload, origin)
    checked = check_rows(raw, contract)
    bad = checked.bad
    refuse_too_many_bad(bad.num_rows, raw.num_rows, *count_reasons(bad), workload, origin)
    cleaned = clean(checked.good, contract, workload, origin)
    digest = content_digest(cleaned.table)
    snapshot = Snapshot(
        path=folder / digest,
        digest=digest,
        read=raw.num_rows,
        rows=cleaned.table.num_rows,
        quarantined=checked.bad.num_rows,
        dropped=cleaned.dropped,
        contract=contract,
        bad_days=_days(bad, workload),
    )
    # Another process may put the same in place meanwhile; only what lay there broken is removed.
    there = snapshot.path.exists()
    if not _is_whole(snapshot):
        if there:
            shutil.rmtree(snapshot.path, ignore_errors=True)
        with storage.new_folder(snapshot.path) as aside:
            storage.write_parquet(cleaned.table, aside / _ROWS)
            if checked.bad.num_rows:
                storage.write_parquet(checked.bad, aside / "bad.parquet")
        leave_behind(sum(f.stat().st_size for f in snapshot.path.iterdir()))
    storage.write_text(index, snapshot.model_dump_json(indent=1))
    return snapshot


def _days(bad: pa.Table, workload: Workload) -> dict[int, int]:
    """Count rows by the day of their time: those whose time can be read."""
    if workload.time is None or bad.num_rows == 0:
        return {}
    times = convert(bad.column(workload.time), "timestamp").values.drop_null().cast(pa.int64())
    days, counts = np.unique(times.to_numpy() // _DAY, return_counts=True)
    return dict(zip(days.tolist(), counts.tolist(), strict=True))


def _recipe(workload: Workload, window: Window | None) -> str:
    """Name everything the snapshot hangs on: source, window, and the rules of its preparation."""
    parts = workload.model_dump(
        mode="json",
        include={
            "key",
            "time",
            "target",
            "group",
            "ignore",
            "columns",
            "slices",
            "cleaning",
            "task",
            "metric",
        },
    )
    parts["inference"] = workload.inference.quarantine_limit
    text = json.dumps([_FORMAT, sources.fingerprint(workload), str(window), parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _look_up(index: Path) -> Snapshot | None:
    try:
        snapshot = Snapshot.model_validate_json(index.read_bytes())
    except (OSError, ValueError):
        return None  # not there, or damaged: it is made again
    return snapshot.model_copy(update={"reused": True}) if _is_whole(snapshot) else None


def _is_whole(snapshot: Snapshot) -> bool:
    """Read the rows through, checksums and all: what is damaged is made again."""
    try:
        return snapshot.table().num_rows == snapshot.rows
    except StorageError:
        return False


def refuse_too_many_bad(
    bad: int,
    read: int,
    reasons: Mapping[str, int],
    examples: Mapping[str, str],
    workload: Workload,
    origin: str,
) -> None:
    """Stop where more rows are bad than the workload allows.

    Parameters
    ----------
    bad, read
        Rows.
    reasons, examples
        Bad rows by reason, like ``out_of_range:price``, and a value of each, spelled out.
    workload, origin
        Whose rows, and where from.

    Raises
    ------
    QuarantineError
        With the share, the reasons and one of the values.
    """
    limit = workload.inference.quarantine_limit
    if bad <= limit * read:
        return
    common = max(reasons, key=lambda reason: reasons[reason])
    code, _, column = common.partition(":")
    where = f" in column {column!r}" if column else ""
    raise QuarantineError(
        f"{origin}: {bad} of {read} rows ({bad / read:.1%}) break the contract, "
        f"{limit:.1%} allowed; most often {code}{where} ({reasons[common]} rows), "
        f"like {examples[common]}.",
        "Mend the source, describe the column under 'columns', or raise "
        "inference.quarantine_limit.",
    )


def count_reasons(bad: pa.Table) -> tuple[Counter[str], dict[str, str]]:
    """Count bad rows by reason, and spell a value of each; a row may have several reasons.

    Parameters
    ----------
    bad
        Quarantined rows; ``quarantine_rows``, where it is, says how many each stands for.
    """
    texts = bad.column(REASON).to_pylist()
    many = "quarantine_rows" in bad.schema.names
    rows = bad.column("quarantine_rows").to_pylist() if many else [1] * len(texts)
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for i, (text, n) in enumerate(zip(texts, rows, strict=True)):
        for reason in text.split(";"):
            reasons[reason] += n
            if reason not in examples:
                column = reason.partition(":")[2].partition("+")[0]
                name = column if column in bad.schema.names else "quarantine_text"
                value = bad.column(name)[i] if name in bad.schema.names else None
                examples[reason] = _spell(value)[:_LONGEST_EXAMPLE]
    return reasons, examples


def _spell(value: pa.Scalar | None) -> str:
    try:
        return repr(None if value is None else value.as_py())
    except (ValueError, OverflowError, pa.ArrowException):
        # Times and dates that Arrow knows, and Python does not.
        return pa.array([value], value.type).to_string(skip_new_lines=True) if value else ""
