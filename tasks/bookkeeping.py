"""Bookkeeping: what a workload costs, read from the ledger; shown, and handed to other tools."""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tasks.ledger import read_entries, read_ledger
from twinloop.accounts import Account, Shares, needed
from twinloop.bookkeeping import make_account, predictions_of, shares_of
from twinloop.budget import OWN, Limit, billed_runs, month_limits, month_of
from twinloop.costs import bill
from twinloop.errors import WorkloadError
from twinloop.ledger import Entry, Loop
from twinloop.vocabulary import Frozen
from twinloop.workload import Workload

_FORMATS = (".parquet", ".csv")
# Metrics by run.
Bills = Mapping[str, Mapping[str, float]]


class Total(Frozen):
    """What one workload has cost, in one currency."""

    workload: str
    currency: str
    runs: int
    money: Shares
    this_month: float
    predictions: int


class Exported(Frozen):
    """A table that was written."""

    path: Path
    runs: int
    columns: int


def read_account(workload: Workload, so_far: Bills | None = None) -> Account:
    """Read what a workload costs, and what it gives for that.

    Parameters
    ----------
    workload
        Whose runs.
    so_far
        Bills until now of runs that are open: on the account they have ended.
    """
    runs = _with_open(read_entries([workload.experiment], metrics=needed(workload.metric)), so_far)
    prices = workload.prices
    second = bill(0.0, 1.0, 0, prices).money
    return make_account(runs, workload.id, workload.metric, prices.currency, second)


def _with_open(runs: Sequence[Entry], so_far: Bills | None) -> list[Entry]:
    """Take open runs, whose bills until now are given, for ended ones."""
    bills = so_far or {}
    return [_ended(e, bills[e.run_id]) if e.run_id in bills else e for e in runs]


def _ended(run: Entry, bill: Mapping[str, float]) -> Entry:
    # What stands for an accuracy that nobody could measure is written when a run ends.
    meaning = run.meaning or "none: nothing was measured"
    return replace(run, status="FINISHED", meaning=meaning, metrics={**run.metrics, **bill})


def read_bounds(workload: Workload, *loops: Loop, so_far: Bills | None = None) -> tuple[Limit, ...]:
    """Return the budgets of this month (UTC), with what was used of them; of all loops if none."""
    asked = loops or ("training", "inference")
    if not month_limits(workload.budget, (), asked):
        return ()
    found = month_limits(workload.budget, read_month(workload, so_far), asked)
    return tuple(limit for limit, _ in found)


def read_month(workload: Workload, so_far: Bills | None = None) -> tuple[Entry, ...]:
    """Return the runs of this month (UTC), by when they began, that have a bill."""
    runs = read_entries([workload.experiment], metrics=OWN, since=month_of(datetime.now(UTC)))
    return billed_runs(_with_open(runs, so_far), workload.id, workload.prices.currency)


def read_totals() -> tuple[Total, ...]:
    """Return what each workload has cost, those of replays too, the dearest first."""
    month = month_of(datetime.now(UTC))
    those: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
    for e in read_entries(None, metrics=(*OWN, "rows/scored")):
        if e.workload:
            those[e.workload, e.currency].append(e)
    found = [
        Total(
            workload=name,
            currency=currency,
            runs=len(runs),
            money=shares_of(runs),
            this_month=sum(e.money for e in runs if e.started >= month),
            predictions=predictions_of(runs),
        )
        for (name, currency), runs in those.items()
    ]
    return tuple(sorted(found, key=lambda t: (t.currency, -t.money.total, t.workload)))


def write_page(workload: Workload, path: Path) -> Path:
    """Write the page on a workload's costs as one HTML file."""
    from tasks.storage import write_text
    from twinloop.costs_page import write_costs_page
    from twinloop.page import to_html

    place = path.expanduser().resolve()
    page = write_costs_page(read_account(workload), read_bounds(workload))
    write_text(place, to_html(page))
    return place


def refuse_other_formats(path: Path) -> None:
    """Refuse a file of no known kind, before anything is read.

    Raises
    ------
    WorkloadError
        If its name ends otherwise than in .parquet or .csv.
    """
    if path.suffix.lower() not in _FORMATS:
        raise WorkloadError(
            f"--export {str(path)!r}: what kind of table is that?",
            f"Name a file that ends in {' or '.join(_FORMATS)}.",
        )


def export_runs(experiments: Sequence[str] | None, path: Path) -> Exported:
    """Write all runs of some experiments, or of all, as one table.

    Raises
    ------
    WorkloadError
        If the file's name ends otherwise than in .parquet or .csv.
    """
    refuse_other_formats(path)
    from tasks.storage import put_bytes
    from twinloop.ledger_table import to_export, to_table

    table = to_export(to_table(read_ledger(experiments)))
    place = path.expanduser().resolve()
    sink = io.BytesIO()
    if place.suffix.lower() == ".csv":
        from pyarrow import csv

        csv.write_csv(table, sink)
    else:
        from pyarrow import parquet

        parquet.write_table(table, sink)
    put_bytes(sink.getvalue(), place)
    return Exported(path=place, runs=table.num_rows, columns=table.num_columns)
