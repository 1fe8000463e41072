"""The page on what a workload costs, and what it gives for that."""

import math
from collections.abc import Sequence

from twinloop.accounts import GREATER_IS_BETTER, Account, VersionAccount
from twinloop.amounts import count, decimals_for, money
from twinloop.budget import Amounts, Limit
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
    small_unit,
    standing_words,
)
from twinloop.drawings import Dot, Series, scatter, stacked_columns, stacked_rows
from twinloop.ledger import LOOPS, Loop
from twinloop.page import Block, Drawing, Facts, Grid, Page, Section, Words

_MOST_VERSIONS = 16
_MOST_DOTS = 100
_LOOKS: dict[Loop, str] = {"training": "s1", "inference": "s2", "watching": "s3", "other": "s4"}


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
        ("What a version costs over its life", _lives(found)),
        ("Accuracy, latency and cost", _front(found)),
        ("When a cheaper version has paid for itself", _paybacks(found)),
        ("What a point of the metric costs", _gains(found)),
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
        fullest = max(bounds, key=lambda b: b.used(Amounts()) / b.bound)
        share = fullest.used(Amounts()) / fullest.bound
        word = "spent" if share >= 1 else "used"
        name = fullest.key.removeprefix("budget.").replace(".", " ")
        tiles.append(("Budget", f"{share:.0%}", f"{word}: {name}"))
    return tuple(tiles)


def _legend(found: Account) -> tuple[tuple[str, str], ...]:
    """Return looks and names of the loops that cost anything, each with its sum and share."""
    total = found.money.total
    return tuple(
        (_LOOKS[loop], f"{loop} {money(part)} {found.currency}, {share_words(part, total)}")
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
    series = [Series(n, _LOOKS[n], tuple(p.money.of(n) for p in found.periods)) for n in used]
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
        Series(loop, _LOOKS[loop], tuple(part if at == i else 0.0 for at in range(len(used))))
        for i, (loop, part) in enumerate(zip(used, parts, strict=True))
    ]
    notes = [share_words(part, found.money.total) for part in parts]
    return stacked_rows(used, series, notes, scale=found.money.total)


def _budget(found: Account, bounds: Sequence[Limit]) -> tuple[Block, ...]:
    if not bounds:
        return ()
    used = [b.used(Amounts()) / b.bound for b in bounds]
    series = [
        Series("used", "s1", tuple(u if u < 1 else 0.0 for u in used)),
        Series("over", "over", tuple(1.0 if u >= 1 else 0.0 for u in used)),
    ]
    notes = [f"{u:.0%}{', spent' if u >= 1 else ''}" for u in used]
    svg = stacked_rows([b.key for b in bounds], series, notes, scale=1.0)
    rows = tuple((b.key, bound_words(b, found.currency)) for b in bounds)
    legend = (("s1", "used"), ("over", "all of it used: spent"))
    title = "Used of what the runs of this month may use"
    return (
        Drawing(title, (svg,), legend, Grid(("budget", "used"), rows)),
        Words(tuple(words for _, words in rows), points=True),
    )


def _shown(found: Account) -> tuple[VersionAccount, ...]:
    """Return the newest versions, and the one that serves, the newest first."""
    newest = found.versions[-_MOST_VERSIONS:]
    older = found.versions[: -_MOST_VERSIONS or None] if len(found.versions) > len(newest) else ()
    return (*reversed(newest), *(v for v in older if v.is_champion))


def _name(v: VersionAccount) -> str:
    return f"v{v.version} {v.winner}{' ★' if v.is_champion else ''}"


def _left_out(found: Account) -> str:
    hidden = len(found.versions) - len(_shown(found))
    return f" The newest of {len(found.versions):,}." if hidden else ""


def _lives(found: Account) -> tuple[Block, ...]:
    shown = _shown(found)
    if not shown:
        return ()
    digits = decimals_for(v.money.total for v in shown)
    fine = decimals_for(v.per_1000 for v in shown if v.predictions)
    loops = [loop for loop in LOOPS if any(v.money.of(loop) for v in shown)]
    series = [Series(n, _LOOKS[n], tuple(v.money.of(n) for v in shown)) for n in loops]
    notes = [f"{money(v.money.total, digits)}, {count(v.predictions)} predictions" for v in shown]
    marked = tuple(i for i, v in enumerate(shown) if v.is_champion)
    svg = stacked_rows([_name(v) for v in shown], series, notes, marked)
    heads = ("version", *loops, "life", "predictions", "a 1,000", "with all", "served", "standing")
    rows = tuple(
        (
            _name(v),
            *(money(v.money.of(n), digits) for n in loops),
            money(v.money.total, digits),
            f"{v.predictions:,}",
            money(v.per_1000, fine) if v.predictions else "",
            price_words(v.per_1000_in_all),
            _served(v),
            standing_words(v),
        )
        for v in shown
    )
    numbers = tuple(range(1, len(loops) + 5))
    title = (
        f"Its training, the inference it served and the watch over it, in {found.currency}; "
        f"★ serves.{_left_out(found)}"
    )
    grid = Grid(heads, rows, numbers=numbers, marked=marked)
    said = account_words(found)
    legend = tuple((_LOOKS[loop], str(loop)) for loop in loops)
    return (Drawing(title, (svg,), legend, grid), *((Words(said, points=True),) if said else ()))


def _served(v: VersionAccount) -> str:
    if v.served_from is None:
        return ""
    until = "" if v.served_until is None else f"{v.served_until:%Y-%m-%d}"
    return (
        f"{v.served_from:%Y-%m-%d} to {until}".strip()
        if until
        else (f"since {v.served_from:%Y-%m-%d}")
    )


def _front(found: Account) -> tuple[Block, ...]:
    known = [v for v in found.versions if not math.isnan(v.score)]
    timed = [v for v in known if v.trained_here and not math.isnan(v.latency_ms)]
    everything = len(timed)
    # Of hundreds the front and the newest are drawn; the others would be one grey cloud.
    old = len(timed) - _MOST_DOTS
    timed = [v for i, v in enumerate(timed) if i >= old or v.on_front or v.is_champion]
    if len(timed) < 2:
        return ()
    upward = found.metric in GREATER_IS_BETTER
    factor, unit = small_unit(max(v.money.training for v in timed), found.currency)
    axes = (
        ("ms to predict 1,000 rows", [v.latency_ms for v in timed]),
        (f"{unit} to train", [factor * v.money.training for v in timed]),
    )
    svgs = tuple(
        scatter(
            [Dot(f"v{v.version}", x, v.score, _kind(v)) for v, x in zip(timed, xs, strict=True)],
            title,
            found.metric,
            upward=upward,
        )
        for title, xs in axes
    )
    legend = (
        ("star", "serves"),
        ("on", "beaten by no other in accuracy, latency and cost at once"),
        ("off", "beaten"),
        ("front", "front of the two axes alone"),
    )
    digits = decimals_for(v.money.training for v in timed)
    front = [v for v in reversed(timed) if v.on_front]
    rows = tuple(
        (
            _name(v),
            number(v.score),
            number(v.latency_ms),
            money(v.money.training, digits),
            price_words(v.per_1000) if v.predictions else "",
        )
        for v in front
    )
    heads = ("version", found.metric, "ms per 1,000 rows", "to train", "a 1,000 predictions")
    note = Words(
        (
            "Scores are those of the holdout of each training: versions of other times were judged "
            "on other rows. What tells them apart on the same rows is the verdict, below.",
        )
    )
    title = f"{many(everything, 'version')}: what accuracy takes"
    return (Drawing(title, svgs, legend, Grid(heads, rows, numbers=(1, 2, 3, 4))), note)


def _kind(v: VersionAccount) -> str:
    if v.is_champion:
        return "star"
    return "front" if v.on_front else "beaten"


def _paybacks(found: Account) -> tuple[Block, ...]:
    shown = [v for v in _shown(found) if v.payback is not None]
    if not shown:
        return ()
    rows = tuple((_name(v), payback_words(v.payback, found.currency)) for v in shown)
    grid = Grid(("version", "pays back its training"), rows)
    paying = [v for v in shown if v.payback and v.payback.predictions is not None]
    words = Words(
        (
            "Saved with each prediction is what the version's scoring runs cost less than those of "
            "the version before; where one of them never scored, what its timings say.",
        )
    )
    if not paying:
        return (words, grid)
    shares = [min(v.payback.done / v.payback.predictions, 1.0) for v in paying]  # type: ignore[union-attr, operator]
    series = [Series("made", "s1", tuple(shares))]
    notes = [
        f"{count(v.payback.done)} of {count(v.payback.predictions)} predictions"  # type: ignore[union-attr, arg-type]
        for v in paying
    ]
    svg = stacked_rows([_name(v) for v in paying], series, notes, scale=1.0)
    title = "Predictions made of those after which its training is paid for"
    return (Drawing(title, (svg,), (), grid), words)


def _gains(found: Account) -> tuple[Block, ...]:
    shown = [
        v
        for v in _shown(found)
        if not (math.isnan(v.gain_on_baseline) and math.isnan(v.gain_on_champion))
    ]
    if not shown:
        return ()
    per = f"{found.currency} a point"
    heads = ("version", "points on the baseline", per, "points on the champion", per, "verdict")
    rows = tuple(
        (
            _name(v),
            signed(v.gain_on_baseline),
            price_words(v.per_point(v.gain_on_baseline)),
            signed(v.gain_on_champion),
            price_words(v.per_point(v.gain_on_champion)),
            v.verdict,
        )
        for v in shown
    )
    point = (
        f"A point is 0.01 of {found.metric}"
        if found.metric in GREATER_IS_BETTER
        else f"A point is 1 % of the {found.metric} it is compared with"
    )
    words = Words(
        (
            f"{point}. Over the baseline it is gained on the same folds, over the champion of its "
            "day on the same fresh rows; its price is what the training cost.",
        )
    )
    marked = tuple(i for i, v in enumerate(shown) if v.is_champion)
    return (Grid(heads, rows, numbers=(1, 2, 3, 4), marked=marked), words)


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
