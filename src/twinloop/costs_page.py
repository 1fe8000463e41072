"""The page on what a workload costs, and what it gives for that."""

from collections.abc import Sequence

from twinloop.accounts import Account
from twinloop.amounts import count, decimals_for, money
from twinloop.budget import Limit
from twinloop.cost_words import (
    bound_words,
    many,
    period_name,
    share_used,
    share_words,
    small_unit,
    used_words,
)
from twinloop.costs_versions import LOOKS, draw_front, draw_lives, draw_paybacks, list_gains
from twinloop.drawings import Series, stacked_columns, stacked_rows
from twinloop.ledger import LOOPS, Loop
from twinloop.page import Block, Drawing, Facts, Grid, Page, Section, Words


def write_costs_page(found: Account, bounds: Sequence[Limit] = ()) -> Page:
    """Write the page.

    Parameters
    ----------
    found
        The account of the workload.
    bounds
        Budgets of this month, with what was used of them.
    """
    sections = [
        ("Over time", _over_time(found)),
        ("This month's budget", _budget(found, bounds)),
        ("What a version costs over its life", draw_lives(found)),
        ("Accuracy, latency and cost", draw_front(found)),
        ("When a cheaper version has paid for itself", draw_paybacks(found)),
        ("What a point of the metric costs", list_gains(found)),
        ("By kind of run", _kinds(found)),
    ]
    return Page(
        title=f"What {found.workload} costs",
        lead=_lead(found),
        tiles=_tiles(found, bounds),
        sections=tuple(Section(title, blocks) for title, blocks in sections if blocks),
    )


def _lead(found: Account) -> str:
    champion = next((v for v in found.versions if v.is_champion), None)
    serves = "" if champion is None else f" Version {champion.version}, {champion.winner}, serves."
    return (
        f"{many(found.runs, 'run')} up to {found.until:%Y-%m-%d %H:%M} UTC, "
        f"money in {found.currency}.{serves}"
    )


def _tiles(found: Account, bounds: Sequence[Limit]) -> tuple[tuple[str, str, str], ...]:
    spent, currency = found.money, found.currency
    training = share_words(spent.training, spent.total)
    tiles = [
        ("Spent in all", money(spent.total), f"{currency}, {training} of it on training"),
        (
            "1,000 predictions",
            money(found.per_1000) if found.predictions else "none yet",
            f"{currency}, with all; {count(found.predictions)} made",
        ),
    ]
    champion = next((v for v in found.versions if v.is_champion), None)
    if champion is not None:
        rate = f"{money(champion.per_1000)} a 1,000 to score with" if champion.predictions else ""
        name = f"v{champion.version}, {champion.winner}"
        tiles.append(("Champion", name, rate or "has scored nothing yet"))
    if found.kwh:
        tiles.append(("Energy", f"{found.kwh:.3g}", f"kWh, {found.co2_g:.3g} g of CO2"))
    if bounds:
        fullest = max(bounds, key=share_used)
        word = "spent" if share_used(fullest) >= 1 else "used"
        name = fullest.key.removeprefix("budget.").replace(".", " ")
        tiles.append(("Budget", used_words(fullest), f"{word}: {name}"))
    return tuple(tiles)


def _legend(found: Account) -> tuple[tuple[str, str], ...]:
    """Return looks and names of the loops that cost anything, each with its sum and share."""
    total = found.money.total
    return tuple(
        (LOOKS[loop], f"{loop} {money(part)} {found.currency}, {share_words(part, total)}")
        for loop in LOOPS
        if (part := found.money.of(loop))
    )


def _over_time(found: Account) -> tuple[Block, ...]:
    if not found.periods:
        missing = f"bills in {found.currency}" if found.left_out else "runs"
        return (Words((f"There are no {missing} yet.",)),)
    names = [period_name(p.start, found.unit) for p in found.periods]
    digits = decimals_for(p.money.total for p in found.periods)
    used = [loop for loop in LOOPS if found.money.of(loop)]
    series = [Series(n, LOOKS[n], tuple(p.money.of(n) for p in found.periods)) for n in used]
    totals = [f"{money(p.money.total, digits)} {found.currency}" for p in found.periods]
    grid = Grid(
        (found.unit, *used, "all"),
        tuple(
            (name, *(money(p.money.of(n), digits) for n in used), money(p.money.total, digits))
            for name, p in zip(names, found.periods, strict=True)
        ),
        numbers=tuple(range(1, len(used) + 2)),
    )
    if len(names) == 1:
        # A lone column says nothing on time; bars beside each other say what took the money.
        svg, title = _shares(found, used), f"All in the {found.unit} of {names[0]} (UTC)"
    else:
        factor, unit = small_unit(max(p.money.total for p in found.periods), found.currency)
        scaled = [Series(n.name, n.look, tuple(factor * v for v in n.values)) for n in series]
        article = "an" if found.unit == "hour" else "a"
        svg = stacked_columns(names, scaled, totals, f"{unit} {article} {found.unit}")
        title = f"Training against inference, by {found.unit} (UTC) in which runs began"
    return (Drawing(title, (svg,), _legend(found), grid),)


def _shares(found: Account, used: Sequence[Loop]) -> str:
    """Draw a bar for each loop that cost anything."""
    parts = [found.money.of(loop) for loop in used]
    series = [
        Series(loop, LOOKS[loop], tuple(part if at == i else 0.0 for at in range(len(used))))
        for i, (loop, part) in enumerate(zip(used, parts, strict=True))
    ]
    notes = [share_words(part, found.money.total) for part in parts]
    return stacked_rows(used, series, notes, scale=found.money.total)


def _budget(found: Account, bounds: Sequence[Limit]) -> tuple[Block, ...]:
    if not bounds:
        return ()
    used = [share_used(b) for b in bounds]
    series = [
        Series("used", "s1", tuple(u if u < 1 else 0.0 for u in used)),
        Series("over", "over", tuple(1.0 if u >= 1 else 0.0 for u in used)),
    ]
    notes = [f"{used_words(b)}{', spent' if share_used(b) >= 1 else ''}" for b in bounds]
    svg = stacked_rows([b.key for b in bounds], series, notes, scale=1.0)
    rows = tuple((b.key, bound_words(b, found.currency)) for b in bounds)
    legend = (("s1", "used"), ("over", "all of it used: spent"))
    title = "Used of what the runs of this month may use"
    return (
        Drawing(title, (svg,), legend, Grid(("budget", "used"), rows)),
        Words(tuple(words for _, words in rows), points=True),
    )


def _kinds(found: Account) -> tuple[Block, ...]:
    digits = decimals_for(s.money for s in found.spenders)
    rows = tuple(
        (
            s.kind,
            f"{s.runs:,}",
            money(s.money, digits),
            share_words(s.money, found.money.total),
            f"{s.kwh:.3g}",
            f"{s.co2_g:.3g}",
            f"{s.cpu_s:,.1f}",
        )
        for s in found.spenders
    )
    heads = ("kind", "runs", found.currency, "share", "kWh", "g CO2", "CPU seconds")
    left = Facts((("Bills in another currency", f"{many(found.left_out, 'run')}, left out"),))
    table = Grid(heads, rows, numbers=(1, 2, 3, 4, 5, 6))
    return (table, left) if found.left_out else (table,)
