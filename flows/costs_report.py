"""Reports of the ledger: what `twinloop runs` and `twinloop costs` print."""

import sys

from rich.console import Console

from flows.printing import make_table
from tasks.recent import Runs

# Into a file or a pipe nothing is cut: there is no window to fit.
_console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def runs(found: Runs) -> None:
    """Print runs with accuracy, time and cost."""
    currency = found.currency
    table = make_table(
        f"{found.experiment}: the newest {len(found.runs)} runs",
        "started",
        "run",
        "state",
        "accuracy",
        "wall s",
        "CPU s",
        "rows/s",
        "MB",
        currency,
        right=f"wall s,CPU s,rows/s,MB,{currency}",
    )
    for r in found.runs:
        speed = "" if r.rows_per_s is None else f"{r.rows_per_s:,.0f}"
        table.add_row(
            f"{r.started:%m-%d %H:%M:%S}",
            r.name,
            r.status.lower(),
            r.accuracy,
            f"{r.wall_s:.2f}",
            f"{r.cpu_s:.2f}",
            speed,
            f"{r.peak_mb:.0f}",
            f"{r.money:.6f}",
        )
    _console.print(table)
