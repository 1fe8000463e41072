"""`twinloop costs reprice`: what all runs would have cost at other prices."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.arguments import read_workload_name

if TYPE_CHECKING:
    from tasks.pricing import Repriced, Repricing

app = typer.Typer(no_args_is_help=True, help="What runs cost.")


@app.callback()
def costs() -> None:
    """Say what runs cost."""


@app.command()
def reprice(
    workload: Annotated[str, typer.Argument(metavar="WORKLOAD", help="Name, or path of a file.")],
    prices: Annotated[
        Path, typer.Option(help="YAML with keys of a workload's prices.", metavar="FILE")
    ],
    replays: Annotated[bool, typer.Option("--replays", help="Runs of replays instead.")] = False,
    var: Annotated[
        list[str] | None,
        typer.Option(help="Value for ${NAME} in the files.", metavar="NAME=VALUE"),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON.", metavar="FILE")
    ] = None,
) -> None:
    """Price all runs again, by what they used, and set it beside what they cost; writes nothing."""
    from flows.cli import _quiet, _write

    name = read_workload_name(workload, var)
    _quiet()
    from tasks.pricing import reprice as price_again
    from tasks.settings import load_workload

    spec = load_workload(f"{name}-replay" if replays else name)
    found = price_again(spec, prices.expanduser())
    _show(found)
    _write(json, found)


def _show(found: "Repricing") -> None:
    from flows.report import print_table, say

    heads = (
        "runs of kind",
        "currency then",
        "runs",
        "money then",
        "money now",
        "CO2 g then",
        "CO2 g now",
        "storage then",
        "storage now",
    )
    lines = [*found.kinds, *found.totals]
    print_table(
        f"{found.experiment}: what runs cost, and what they would have cost",
        heads,
        [_cells(line) for line in lines],
    )
    say(
        f"Now: money in {found.prices.currency}; nothing is converted. Runs without a bill: "
        f"{found.without_bill}."
    )


def _cells(line: "Repriced") -> tuple[str, ...]:
    figures = (line.money_then, line.money_now, line.co2_then, line.co2_now)
    stored = (line.storage_then, line.storage_now)
    return (line.kind, line.currency, str(line.runs), *(f"{v:.6f}" for v in (*figures, *stored)))
