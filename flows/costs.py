"""`twinloop costs`: what a workload costs, or would at other prices, and its runs as a table.

The command shows costs unless it is told to do something else.
"""

from pathlib import Path
from typing import Annotated

import typer
from typer._click.core import Context

from flows.arguments import read_workload_name
from flows.session import quiet, write_result

_SHOW = "show"

Var = Annotated[
    list[str] | None,
    typer.Option(help="Value for ${NAME} in the workload file.", metavar="NAME=VALUE"),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write the result to this file as JSON.", metavar="FILE"),
]


class _ShowsCosts(typer.core.TyperGroup):
    """Commands of which one need not be named."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Take what is neither a command nor a call for help for what is to be shown."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [_SHOW, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ShowsCosts, help="Show what a workload costs, or would at other prices.")


@app.command(name=_SHOW)
def show(
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
    var: Var = None,
    json: Json = None,
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


@app.command()
def reprice(
    workload: Annotated[str, typer.Argument(metavar="WORKLOAD", help="Name, or path of a file.")],
    prices: Annotated[
        Path, typer.Option(help="YAML with keys of a workload's prices.", metavar="FILE")
    ],
    replays: Annotated[bool, typer.Option("--replays", help="Runs of replays instead.")] = False,
    var: Var = None,
    json: Json = None,
) -> None:
    """Price all runs again, by what they used, and set it beside what they cost; writes nothing."""
    name = read_workload_name(workload, var)
    quiet()
    from flows import costs_report
    from tasks.pricing import reprice as price_again
    from tasks.settings import load_workload

    spec = load_workload(f"{name}-replay" if replays else name)
    found = price_again(spec, prices.expanduser())
    costs_report.repriced(found)
    write_result(json, found)
