"""The command that shows what a workload costs, and hands its ledger to other tools."""

from pathlib import Path
from typing import Annotated

import typer

from flows.arguments import read_workload_name
from flows.session import quiet, write_result


def costs(
    workload: Annotated[
        str | None,
        typer.Argument(metavar="[WORKLOAD]", help="Name, or path of a YAML file; default all."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the page to this file.", metavar="FILE")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write all runs as a table: .parquet or .csv.", metavar="FILE"),
    ] = None,
    var: Annotated[
        list[str] | None,
        typer.Option(help="Value for ${NAME} in the workload file.", metavar="NAME=VALUE"),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="Write the result to this file as JSON.", metavar="FILE"),
    ] = None,
) -> None:
    """Show what a workload costs, and what it gives for that; of all workloads, the sums."""
    name = read_workload_name(workload, var) if workload else None
    quiet()
    from flows import costs_report
    from tasks import bookkeeping
    from tasks.settings import load_workload
    from twinloop.errors import WorkloadError

    if export is not None:
        bookkeeping.refuse_other_formats(export)
    if name is None:
        if html is not None or json is not None:
            option = "--html" if html is not None else "--json"
            raise WorkloadError(f"{option} is the account of one workload, and none is named.")
        if export is not None:
            costs_report.exported(bookkeeping.export_runs(None, export))
            return
        costs_report.totals(bookkeeping.read_totals())
        return
    spec = load_workload(name)
    if export is not None:
        costs_report.exported(bookkeeping.export_runs([spec.experiment], export))
        return
    if html is not None:
        costs_report.written(bookkeeping.write_page(spec, html))
        return
    account = bookkeeping.read_account(spec)
    costs_report.costs(account, bookkeeping.read_bounds(spec))
    write_result(json, account)
