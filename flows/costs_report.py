"""Reports of the ledger: what `twinloop runs` and `twinloop costs` print."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.printing import make_table
from tasks.bookkeeping import Exported, Total
from tasks.recent import Runs
from twinloop.accounts import Account
from twinloop.amounts import decimals_for, money
from twinloop.budget import Limit
from twinloop.cost_words import (
    account_words,
    bound_words,
    many,
    number,
    payback_words,
    period_name,
    price_words,
    share_words,
    signed,
    standing_words,
)
from twinloop.ledger import LOOPS

if TYPE_CHECKING:  # it takes MLflow along
    from tasks.pricing import Repricing

_MOST_PERIODS = 12
_MOST_VERSIONS = 20
# What `reprice` sets side by side.
_PAIRS = (
    ("money_then", "money_now"),
    ("co2_then", "co2_now"),
    ("storage_then", "storage_now"),
)

# Into a file or a pipe nothing is cut: there is no window to fit.
_console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def runs(found: Runs) -> None:
    """Print runs with accuracy, time and cost."""
    currency = found.currency or "money"
    table = make_table(
        f"{found.experiment}: the newest {many(len(found.runs), 'run')}",
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
    digits = decimals_for(r.money for r in found.runs)
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
            money(r.money, digits) if found.currency else f"{money(r.money, digits)} {r.currency}",
        )
    _console.print(table)


def costs(found: Account, bounds: Sequence[Limit]) -> None:
    """Print what a workload costs: over time, by kind of run, and by version."""
    if not found.runs and not found.left_out:
        name, _, sandbox = found.workload.partition("-")
        mended = "replay" if sandbox else "train"
        _console.print(f"{found.workload} has no runs yet: twinloop {mended} {name}")
        return
    for table in (_spenders(found), _periods(found), _versions(found), _gains(found)):
        if table.row_count:
            _console.print(table)
    for text in (*account_words(found), *(bound_words(b, found.currency) for b in bounds)):
        _console.print(escape(text))


def _spenders(found: Account) -> Table:
    heads = ("runs", found.currency, "share", "kWh", "g CO2", "CPU s")
    title = f"{found.workload}: what {many(found.runs, 'run')} cost, by kind"
    table = make_table(title, "kind", *heads, right=",".join(heads))
    digits = decimals_for(s.money for s in found.spenders)
    for s in found.spenders:
        table.add_row(
            s.kind,
            f"{s.runs:,}",
            money(s.money, digits),
            share_words(s.money, found.money.total),
            f"{s.kwh:.3g}",
            f"{s.co2_g:.3g}",
            f"{s.cpu_s:,.1f}",
        )
    table.add_section()
    total = money(found.money.total, digits)
    table.add_row("all", f"{found.runs:,}", total, "", f"{found.kwh:.3g}", f"{found.co2_g:.3g}", "")
    return table


def _periods(found: Account) -> Table:
    heads = (*LOOPS, "all")
    title = f"{found.currency} by {found.unit} (UTC)"
    table = make_table(title, found.unit, *heads, right=",".join(heads))
    spent = [p for p in found.periods if p.money.total][-_MOST_PERIODS:]
    digits = decimals_for(p.money.total for p in spent)
    for p in spent:
        parts = [money(p.money.of(loop), digits) for loop in LOOPS]
        table.add_row(period_name(p.start, found.unit), *parts, money(p.money.total, digits))
    return table


def _versions(found: Account) -> Table:
    currency, metric = found.currency, found.metric
    heads = (metric, "ms/1,000 rows", "training", "inference", "watching", "life", "predictions")
    rates = ("per 1,000", "with all")
    table = make_table(
        f"What each version cost over its life, in {currency}",
        "version",
        *heads,
        *rates,
        "standing",
        right=",".join((*heads, *rates)),
    )
    shown = found.versions[-_MOST_VERSIONS:]
    digits = decimals_for(v.money.total for v in shown)
    fine = decimals_for(v.per_1000_in_all for v in shown)
    for v in shown:
        table.add_row(
            f"v{v.version} {v.winner}",
            number(v.score),
            number(v.latency_ms),
            *(money(v.money.of(loop), digits) for loop in LOOPS[:3]),
            money(v.money.total, digits),
            f"{v.predictions:,}",
            money(v.per_1000, fine) if v.predictions else "",
            money(v.per_1000_in_all, fine) if v.predictions else "",
            standing_words(v),
        )
    return table


def _gains(found: Account) -> Table:
    per = f"{found.currency} a point"
    table = make_table(
        f"What a point of {found.metric} cost, and when a cheaper version has paid for itself",
        "version",
        "points on baseline",
        per,
        "points on champion",
        f"{per} ",
        "pays back",
        right=f"points on baseline,{per},points on champion,{per} ",
    )
    for v in found.versions[-_MOST_VERSIONS:]:
        table.add_row(
            f"v{v.version}",
            signed(v.gain_on_baseline),
            price_words(v.per_point(v.gain_on_baseline)),
            signed(v.gain_on_champion),
            price_words(v.per_point(v.gain_on_champion)),
            payback_words(v.payback, found.currency),
        )
    return table


def totals(found: Sequence[Total]) -> None:
    """Print what each workload has cost."""
    if not found:
        _console.print("There are no runs yet.")
        return
    heads = ("runs", *LOOPS, "all", "this month", "predictions")
    table = make_table("What workloads cost", "workload", *heads, "", right=",".join(heads))
    digits = decimals_for(t.money.total for t in found)
    for t in found:
        table.add_row(
            t.workload,
            f"{t.runs:,}",
            *(money(t.money.of(loop), digits) for loop in LOOPS),
            money(t.money.total, digits),
            money(t.this_month, digits),
            f"{t.predictions:,}",
            t.currency,
        )
    _console.print(table)


def exported(found: Exported) -> None:
    """Print what was written."""
    _console.print(f"{many(found.runs, 'run')}, {many(found.columns, 'column')}: {found.path}")


def written(path: Path) -> None:
    """Print where the page is."""
    _console.print(f"the page: {path}")


def repriced(found: "Repricing") -> None:
    """Print what runs cost, and what they would have cost at other prices."""
    heads = (
        "runs",
        "money then",
        "money now",
        "CO2 g then",
        "CO2 g now",
        "storage a month then",
        "storage a month now",
    )
    title = f"{found.experiment}: what runs cost, and what they would have cost"
    table = make_table(title, "runs of kind", "currency then", *heads, right=",".join(heads))
    # Then and now are to be compared: both columns have as many decimals, those of the kinds.
    digits = tuple(
        decimals_for(v for line in found.kinds for v in (getattr(line, then), getattr(line, now)))
        for then, now in _PAIRS
    )
    for line in (*found.kinds, *found.totals):
        cells = (
            money(getattr(line, name), places)
            for pair, places in zip(_PAIRS, digits, strict=True)
            for name in pair
        )
        table.add_row(line.kind, line.currency, f"{line.runs:,}", *cells)
    _console.print(table)
    _console.print(
        f"Now: money in {found.prices.currency}; nothing is converted. Runs without a bill: "
        f"{found.without_bill}."
    )
