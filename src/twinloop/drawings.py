"""Drawings: charts as SVG that take the colours of the page around them, light, dark or printed.

What is told apart by colour is told apart by pattern and by a word as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from twinloop.ticks import log_ticks, nice_between, nice_ticks, spell_ticks

_WIDTH = 860
# Rough, for places of labels: no text is measured here.
_LETTER = 6.6
_FIGURE = 7.8
# Of more points only those of the front are named.
_MOST_NAMED = 20
# An axis of tenfold steps reaches at least five per cent beyond its points.
_LEAST_DECADES = 0.02


@dataclass(frozen=True)
class Series:
    """One part of every bar: its name, its look (``s1`` to ``s4`` in the page's style)."""

    name: str
    look: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Dot:
    """A point of a scatter plot; `kind` is ``front``, ``beaten`` or ``star``."""

    name: str
    x: float
    y: float
    kind: str


def stacked_columns(
    names: Sequence[str], series: Sequence[Series], spell: Sequence[str], unit: str
) -> str:
    """Draw columns of stacked parts over time.

    Parameters
    ----------
    names
        Of the columns, in order.
    series
        The parts, from the ground up.
    spell
        The total of each column, for who points at it.
    unit
        Of the axis.
    """
    height, ground, top = 260, 218, 26
    totals = [sum(s.values[i] for s in series) for i in range(len(names))]
    ticks = nice_ticks(max(totals, default=0.0))
    most = ticks[-1] or 1.0
    labels = spell_ticks(ticks)
    left = math.ceil(max(76.0, 8 + max(map(len, labels)) * _FIGURE))
    step = (_WIDTH - left - 8) / max(len(names), 1)
    wide = min(step * 0.72, 56.0)
    parts = [f'<text class="soft" x="{left}" y="12">{escape(unit)}</text>']
    for tick, label in zip(ticks, labels, strict=True):
        y = ground - (ground - top) * tick / most
        parts.append(f'<line class="rule" x1="{left}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft end" x="{left - 8}" y="{y + 4:.1f}">{label}</text>')
    every = max(1, math.ceil(max(map(len, names), default=1) * _LETTER * 1.35 / step))
    for i, name in enumerate(names):
        x, y = left + step * i + (step - wide) / 2, float(ground)
        parts.append(f"<g><title>{escape(name)}: {escape(spell[i])}</title>")
        for s in series:
            tall = (ground - top) * s.values[i] / most
            if tall > 0:
                y -= tall
                parts.append(_bar(x, y, wide, tall, s.look))
        parts.append("</g>")
        if i % every == 0:
            middle = x + wide / 2
            parts.append(
                f'<text class="soft mid" x="{middle:.1f}" y="{ground + 20}">{escape(name)}</text>'
            )
    return _svg(height, parts, "Money over time")


def stacked_rows(
    names: Sequence[str],
    series: Sequence[Series],
    notes: Sequence[str],
    marked: Sequence[int] = (),
    scale: float | None = None,
) -> str:
    """Draw a lying bar of stacked parts for each row, its name before and a note behind it.

    Parameters
    ----------
    names, notes
        Of the rows.
    series
        The parts, from the left.
    marked
        Rows to point out.
    scale
        What the full width stands for; None: the largest row.
    """
    left = 20 + max(map(len, names), default=0) * _LETTER * 1.1
    # Notes are figures for the most part, and those are wide; bold they are wider still.
    right = 20 + max(map(len, notes), default=0) * _FIGURE * 1.06
    room, pitch = max(_WIDTH - left - right, 160.0), 30
    most = scale or max((sum(s.values[i] for s in series) for i in range(len(names))), default=0)
    parts = []
    for i, name in enumerate(names):
        y, x = 6 + pitch * i, left
        bold = " strong" if i in marked else ""
        parts.append(f'<text class="ink{bold}" x="0" y="{y + 15}">{escape(name)}</text>')
        parts.append(f'<rect class="track" x="{left}" y="{y + 3}" width="{room:.1f}" height="16"/>')
        for s in series:
            wide = room * s.values[i] / most if most else 0.0
            if wide > 0:
                parts.append(_bar(x, y + 3, min(wide, left + room - x), 16, s.look))
                x += wide
        at = left + room + 12
        parts.append(f'<text class="ink{bold}" x="{at:.1f}" y="{y + 15}">{escape(notes[i])}</text>')
    wide_all = math.ceil(left + room + right)
    return _svg(pitch * len(names) + 8, parts, "By row", width=wide_all)


def scatter(dots: Sequence[Dot], x_title: str, y_title: str, *, upward: bool) -> str:
    """Draw points, those of the front filled, and the front of the two axes as a dashed line.

    Parameters
    ----------
    dots
        The points; the axis of x is one of tenfold steps, where they lie that far apart.
    x_title, y_title
        Of the axes; less of x is better.
    upward
        Whether more of y is better.
    """
    width, height, ground, top = 420, 320, 268, 30
    known = [d for d in dots if d.x > 0 and math.isfinite(d.x) and math.isfinite(d.y)]
    if not known:
        return ""
    # What costs about the same is drawn so: a per cent of difference does not fill the axis.
    low, high = _padded([math.log10(d.x) for d in known], _LEAST_DECADES)
    bottom, peak = _padded([d.y for d in known])
    heights = nice_between(bottom, peak)
    labels = spell_ticks(heights)
    left = math.ceil(max(64.0, 6 + max(map(len, labels)) * _FIGURE))

    def place(d: Dot) -> tuple[float, float]:
        across = (math.log10(d.x) - low) / (high - low)
        return left + (width - left - 20) * across, ground - (ground - top) * (d.y - bottom) / (
            peak - bottom
        )

    parts = [
        f'<text class="soft" x="14" y="14">{escape(y_title)}, '
        f"{'up' if upward else 'down'} is better</text>",
        f'<text class="soft end" x="{width - 8}" y="{height - 8}">{escape(x_title)}, left is '
        "better</text>",
        f'<path class="axis" d="M{left} {top}V{ground}H{width - 8}"/>',
    ]
    for tick, label in zip(heights, labels, strict=True):
        y = ground - (ground - top) * (tick - bottom) / (peak - bottom)
        parts.append(f'<line class="rule" x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft end" x="{left - 6}" y="{y + 4:.1f}">{label}</text>')
    for value in log_ticks(low, high):
        x = left + (width - left - 20) * (math.log10(value) - low) / (high - low)
        label = spell_ticks([value])[0]
        parts.append(f'<text class="soft mid" x="{x:.1f}" y="{ground + 18}">{label}</text>')
    best = [d for d in known if not any(_beats(o, d, upward=upward) for o in known)]
    line = [place(d) for d in sorted(best, key=lambda d: d.x)]
    if len(line) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        parts.append(f'<polyline class="front" points="{path}"/>')
    taken: list[tuple[float, float]] = []
    points = [place(d) for d in known]
    for d in sorted(known, key=lambda d: ("star", "front", "beaten").index(d.kind)):
        x, y = place(d)
        parts.append(
            f"<g><title>{escape(d.name)}: {d.x:.4g}, {d.y:.4g}</title>{_dot(x, y, d.kind)}"
        )
        others = [p for p in points if p != (x, y)]
        named = d.kind != "beaten" or len(known) <= _MOST_NAMED
        spot = _free(x, y, d.name, taken, others, width) if named else None
        if spot is not None:
            taken.append(spot)
            bold = " strong" if d.kind == "star" else ""
            parts.append(
                f'<text class="ink{bold}" x="{spot[0]:.1f}" y="{spot[1]:.1f}">'
                f"{escape(d.name)}</text>"
            )
        parts.append("</g>")
    return _svg(height, parts, f"{y_title} by {x_title}", width=width)


def _beats(one: Dot, two: Dot, *, upward: bool) -> bool:
    better = one.y >= two.y if upward else one.y <= two.y
    return one.x <= two.x and better and (one.x, one.y) != (two.x, two.y)


def _free(
    x: float,
    y: float,
    name: str,
    taken: Sequence[tuple[float, float]],
    points: Sequence[tuple[float, float]],
    width: float,
) -> tuple[float, float] | None:
    """Return where a label hides no other and no point; None where there is no room."""
    wide = len(name) * _LETTER * 1.15
    spots = [(x + 12, y + 4), (x - wide - 12, y + 4)]
    spots += [(x - wide / 2, y - 13), (x - wide / 2, y + 22)]
    for spot in spots:
        inside = spot[0] >= 60 and spot[0] + wide <= width
        hides = any(abs(spot[0] - a) < wide + 6 and abs(spot[1] - b) < 13 for a, b in taken)
        hides = hides or any(
            spot[0] - 8 < a < spot[0] + wide + 8 and abs(spot[1] - 4 - b) < 12 for a, b in points
        )
        if inside and not hides:
            return spot
    return None


def _dot(x: float, y: float, kind: str) -> str:
    if kind == "star":
        points = [
            (x + r * math.sin(i * math.pi / 5), y - r * math.cos(i * math.pi / 5))
            for i, r in enumerate([10.0, 4.2] * 5)
        ]
        return f'<polygon class="star" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'
    if kind == "front":
        return f'<path class="on" d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"/>'
    return f'<circle class="off" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def _padded(values: Sequence[float], least: float = 0.0) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max((high - low) * 0.12, least) or abs(high) * 0.1 or 0.5
    return low - room, high + room


def _bar(x: float, y: float, wide: float, tall: float, look: str) -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{max(wide, 0.8):.1f}" height="{max(tall, 0.8):.1f}"'
    return f'<rect class="{look}" {size}/>'


def _svg(height: float, parts: Sequence[str], title: str, width: float = _WIDTH) -> str:
    return (
        f'<svg class="drawing" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
