"""`twinloop costs`: what a workload costs, or would at other prices, and its runs as a table.

The command shows costs unless it is told to do something else.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer._click.core import Context
from typer._click.formatting import HelpFormatter

from flows.arguments import Json, Var, read_experiment
from flows.session import quiet, write_result

if TYPE_CHECKING:
    from twinloop.errors import WorkloadError
    from twinloop.workload import Workload

_SHOW = "show"

Replays = Annotated[bool, typer.Option("--replays", help="Runs of replays instead.")]


class _ShowsCosts(typer.core.TyperGroup):
    """Commands of which one need not be named."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Take what is neither a command nor a call for help for what is to be shown."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [_SHOW, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Show below the group's help that of the command that need not be named."""
        super().format_help(ctx, formatter)
        shown = self.commands[_SHOW]
        inner = shown.context_class(shown, info_name=_SHOW, parent=ctx)
        shown.format_help(inner, formatter)


app = typer.Typer(
    cls=_ShowsCosts,
    help="Show what a workload costs, or would at other prices.",
    epilog="`show` need not be said: `twinloop costs [WORKLOAD]` is the command below.",
)


@app.command(name=_SHOW)
def show(
    workload: Annotated[
        str | None,
        typer.Argument(metavar="WORKLOAD", help="Name, or path of a YAML file; default all."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the page to this file.", metavar="FILE")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write all runs as a table: .parquet or .csv.", metavar="FILE"),
    ] = None,
    replays: Replays = False,
    var: Var = None,
    json: Json = None,
) -> None:
    """Show what a workload costs, and what it gives for that; of all workloads, the sums."""
    if workload is None:
        if replays:
            raise _unnamed("--replays is about")
        _show_all(html, export, json)
        return
    spec = read_experiment(workload, var, replays=replays)
    quiet()
    from flows import costs_report
    from tasks import bookkeeping

    if export is not None:
        bookkeeping.refuse_other_formats(export)
    asked = _replays_of(spec, one=html is not None or json is not None) if replays else [spec]
    if export is not None:
        costs_report.exported(bookkeeping.export_runs([spec.experiment], export))
    if html is not None:
        costs_report.written(bookkeeping.write_page(asked[0], html))
    printed = export is None and html is None
    if not printed and json is None:
        return
    accounts = [bookkeeping.read_account(one) for one in asked]
    if printed:
        for account, one in zip(accounts, asked, strict=True):
            costs_report.costs(account, bookkeeping.read_bounds(one))
    write_result(json, accounts[0])


@app.command()
def reprice(
    workload: Annotated[str, typer.Argument(metavar="WORKLOAD", help="Name, or path of a file.")],
    prices: Annotated[
        Path, typer.Option(help="YAML with keys of a workload's prices.", metavar="FILE")
    ],
    replays: Replays = False,
    var: Var = None,
    json: Json = None,
) -> None:
    """Price all runs again, by what they used, and set it beside what they cost; writes nothing."""
    spec = read_experiment(workload, var, replays=replays)
    quiet()
    from flows import costs_report
    from tasks.pricing import reprice as price_again

    found = price_again(spec, prices.expanduser())
    costs_report.repriced(found)
    write_result(json, found)


def _show_all(html: Path | None, export: Path | None, json: Path | None) -> None:
    """Show the sums of all workloads, or export the runs of all."""
    quiet()
    from flows import costs_report
    from tasks import bookkeeping

    for option, path in (("--html", html), ("--json", json)):
        if path is not None:
            raise _unnamed(f"{option} is the account of")
    if export is not None:
        costs_report.exported(bookkeeping.export_runs(None, export))
        return
    costs_report.totals(bookkeeping.read_totals())


def _replays_of(spec: "Workload", *, one: bool) -> "list[Workload]":
    """Find what replays of a workload ran in: the replay, and each policy run as flows.

    Versions are numbered anew in each: an account that mixed them would be nobody's.
    """
    from tasks.bookkeeping import read_totals
    from tasks.settings import load_workload
    from twinloop.budget_keys import Budgets
    from twinloop.errors import WorkloadError

    found = sorted(
        {
            total.workload
            for total in read_totals()
            if total.workload == spec.id or total.workload.startswith(f"{spec.id}-")
        }
    ) or [spec.id]
    if one and len(found) > 1:
        raise WorkloadError(
            f"--html and --json hold one account, and replays of {spec.name!r} have "
            f"{len(found)}: {', '.join(found)}.",
            f"`twinloop costs {spec.name} --replays` prints them all, and --export has all runs.",
        )
    # A month's budget is for production: in a replay nothing is held to it.
    free = {"budget": Budgets()}
    return [load_workload(name).model_copy(update=free) for name in found]


def _unnamed(what: str) -> "WorkloadError":
    from twinloop.errors import WorkloadError

    return WorkloadError(
        f"{what} one workload, and none is named.", "`twinloop costs WORKLOAD` names it."
    )
