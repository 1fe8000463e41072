"""Checking: what a workload and its data come to, before anything runs or is written."""

import time
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from tasks import sources
from tasks.estimators import check_estimators, own_estimators
from tasks.preparing import count_reasons, refuse_too_many_bad, training_window
from tasks.settings import settings
from tasks.validating import split_table
from twinloop.cleaning import clean
from twinloop.contract import ColumnContract, Contract, check_rows, infer_contract
from twinloop.leakage import Finding, find_leaks
from twinloop.scorer import learn_target
from twinloop.splitting import Split
from twinloop.validation import fit_scorer
from twinloop.vocabulary import ENSEMBLE, AnyCandidate, Frozen, Task
from twinloop.window import Window
from twinloop.workload import Workload

_SAMPLE = 1000


class ColumnLine(Frozen):
    """What was understood of a column."""

    name: str
    role: str
    kind: str
    null_rate: float
    domain: str


class CheckResult(Frozen):
    """What was understood of a workload and its data."""

    workload: str
    task: Task
    target: str
    metric: str
    window: str
    read: int
    quarantined: int
    rows: int
    columns: tuple[ColumnLine, ...]
    split: str
    findings: tuple[Finding, ...]
    candidates: tuple[AnyCandidate, ...]
    expected_seconds: float
    estimate: str


def check_workload(workload: Workload, window: Window | None, as_of: datetime) -> CheckResult:
    """Read the data of a training, as training would, and write nothing.

    Without a window, the newest training window that has rows is taken: of a table that ended long
    ago, its last part.
    """
    check_estimators(workload)
    origin = sources.origin(workload)
    span = window or _newest(workload, as_of)
    raw = sources.read_window(workload, span)
    contract = infer_contract(raw, workload, origin)
    checked = check_rows(raw, contract)
    bad = checked.bad
    refuse_too_many_bad(bad.num_rows, raw.num_rows, *count_reasons(bad), workload, origin)
    table = clean(checked.good, contract, workload, origin).table
    target = learn_target(table, workload)
    split = split_table(table, target, workload)
    return CheckResult(
        workload=workload.name,
        task=workload.task,
        target=workload.target,
        metric=workload.metric,
        window=str(span or "all rows"),
        read=raw.num_rows,
        quarantined=checked.bad.num_rows,
        rows=table.num_rows,
        columns=tuple(_describe(c, table) for c in contract.columns),
        split=split.description,
        findings=find_leaks(table, contract, target, split, workload),
        candidates=workload.training.candidates,
        expected_seconds=_expected_seconds(table, contract, workload, split),
        estimate=f"each candidate timed on {min(_SAMPLE, table.num_rows)} rows"
        + (", tuning not counted" if workload.tuned else ""),
    )


def _newest(workload: Workload, as_of: datetime) -> Window | None:
    if workload.time is None:
        return None
    ends = sources.time_span(workload)
    last = ends[1] + timedelta(days=1) if ends else as_of
    moment = min(as_of, last + workload.monitoring.labels_after)
    return training_window(workload, moment)


def _describe(column: ColumnContract, table: pa.Table) -> ColumnLine:
    values = table.column(column.name)
    if column.kind in ("number", "timestamp"):
        ends = pc.min_max(values).as_py()
        domain = f"{_brief(ends['min'])} to {_brief(ends['max'])}"
    else:
        levels = [str(v) for v in pc.unique(values.drop_null()).to_pylist()]
        domain = (
            f"{len(levels)}: {', '.join(sorted(levels)[:6])}{', ...' if len(levels) > 6 else ''}"
        )
    return ColumnLine(
        name=column.name,
        role=column.role,
        kind=column.kind,
        null_rate=column.null_rate,
        domain=domain,
    )


def _brief(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _expected_seconds(
    table: pa.Table, contract: Contract, workload: Workload, split: Split
) -> float:
    """Time each candidate on a sample and scale by rows: rough, and on the high side for trees."""
    sample = table.take(pa.array(split.folds[-1][0][-_SAMPLE:]))
    target = learn_target(table, workload)
    fitted = sum(len(train) for train, _ in split.folds)
    own = own_estimators(workload)
    start = time.perf_counter()
    names = [name for name in workload.training.candidates if name != ENSEMBLE]
    for name in names:
        fit_scorer(sample, name, target, contract, workload, threads=settings().threads, own=own)
    each = (time.perf_counter() - start) / sample.num_rows
    # Twice more for the winner: judged, then fitted to serve.
    return each * (fitted + 2 * table.num_rows / len(names)) + 2.0
