"""Sections of the page on costs that tell versions apart: lives, accuracy, what they gave."""

import math

from twinloop.accounts import GREATER_IS_BETTER, Account, VersionAccount
from twinloop.amounts import count, decimals_for, money
from twinloop.cost_words import (
    account_words,
    many,
    number,
    payback_words,
    price_words,
    signed,
    small_unit,
    standing_words,
)
from twinloop.drawings import Dot, Series, scatter, stacked_rows
from twinloop.ledger import LOOPS, Loop
from twinloop.page import Block, Drawing, Grid, Words

_MOST_VERSIONS = 16
_MOST_DOTS = 100
LOOKS: dict[Loop, str] = {"training": "s1", "inference": "s2", "watching": "s3", "other": "s4"}


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


def draw_lives(found: Account) -> tuple[Block, ...]:
    """Draw what the newest versions cost over their lives; nothing where there is none."""
    shown = _shown(found)
    if not shown:
        return ()
    digits = decimals_for(v.money.total for v in shown)
    fine = decimals_for(v.per_1000 for v in shown if v.predictions)
    loops = [loop for loop in LOOPS if any(v.money.of(loop) for v in shown)]
    series = [Series(n, LOOKS[n], tuple(v.money.of(n) for v in shown)) for n in loops]
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
    legend = tuple((LOOKS[loop], str(loop)) for loop in loops)
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


def draw_front(found: Account) -> tuple[Block, ...]:
    """Draw accuracy over latency and over the cost of training, where there are two or more."""
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


def draw_paybacks(found: Account) -> tuple[Block, ...]:
    """Draw how far versions are from having paid for their training."""
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
    shares = [min(v.payback.share, 1.0) for v in paying]  # type: ignore[union-attr]
    series = [Series("made", "s1", tuple(shares))]
    notes = [
        f"{count(v.payback.done)} of {count(v.payback.predictions)} predictions"  # type: ignore[union-attr, arg-type]
        for v in paying
    ]
    svg = stacked_rows([_name(v) for v in paying], series, notes, scale=1.0)
    title = "Predictions made of those after which its training is paid for"
    return (Drawing(title, (svg,), (), grid), words)


def list_gains(found: Account) -> tuple[Block, ...]:
    """List what a point of the metric cost to train."""
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
