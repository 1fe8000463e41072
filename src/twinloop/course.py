"""Course: drawings in SVG of a metric over past watches, and of columns by how far they moved.

Colours are those of the page around, so that they hold by day and by night.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape

from twinloop.drift import FeatureDrift
from twinloop.profile import PREDICTION
from twinloop.watches import Watch

_WIDTH, _HEIGHT = 900.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 16.0, 30.0, 66.0
_TICKS = 5
_MOST_COLUMNS = 20
_ROW = 26.0
_NAME = 210.0


class _Frame:
    """From moments and values to places in the drawing."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self.first, self.last = watches[0].as_of, watches[-1].as_of
        self.low, self.high = _range(watches)

    def x(self, moment: datetime) -> float:
        span = (self.last - self.first).total_seconds()
        share = 0.5 if span <= 0 else (moment - self.first).total_seconds() / span
        return _LEFT + 12 + share * (_WIDTH - _LEFT - _RIGHT - 24)

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _range(watches: Sequence[Watch]) -> tuple[float, float]:
    """Return what the scale shows: all lines, and of wide intervals as much as does not hide them.

    Round numbers are at both ends.
    """
    lines = [v for w in watches for v in (w.estimated, w.realised, w.promised) if v is not None]
    ends = [v for w in watches for v in (w.low, w.high) if v is not None and math.isfinite(v)]
    if not lines:
        return 0.0, 1.0
    low, high = min(lines), max(lines)
    room = max(high - low, 0.1 * abs(high), 1e-9)
    low = max(min([low, *ends]), low - room)
    high = min(max([high, *ends]), high + room)
    step = round_step((high - low) / _TICKS)
    return step * math.floor(low / step), step * math.ceil(high / step)


def round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below a number."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-12)))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= least * (1 - 1e-9))


def draw_course(watches: Sequence[Watch], metric: str) -> str:
    """Draw the metric over time: estimate with interval, truth, promise, decisions, champions.

    Parameters
    ----------
    watches
        In order of time; at least one.
    metric
        Its name.

    Returns
    -------
    str
        An SVG element.
    """
    frame = _Frame(watches)
    parts = [*_grid(frame, watches), *_champions(frame, watches), *_lines(frame, watches)]
    parts += [*_decisions(frame, watches), *_legend(metric)]
    label = escape(f"{metric} over {len(watches)} checks, estimated and realised")
    return (
        f'<svg class="drawing" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, *, anchor: str = "middle", colour: str = "soft") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--{colour})" '
        f'font-size="12">{escape(words)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _grid(frame: _Frame, watches: Sequence[Watch]) -> Iterator[str]:
    step = round_step((frame.high - frame.low) / _TICKS)
    for i in range(round((frame.high - frame.low) / step) + 1):
        value = frame.low + i * step
        y = frame.y(value)
        yield _line(_LEFT, y, _WIDTH - _RIGHT, y, 'stroke="var(--line)"')
        yield _text(_LEFT - 8, y + 4, f"{value:.4g}", anchor="end")
    wanted = min(len(watches), 6)
    shown = {round(i * (len(watches) - 1) / max(wanted - 1, 1)) for i in range(wanted)}
    for i in sorted(shown):
        moment = watches[i].as_of
        place = min(frame.x(moment), _WIDTH - 36)
        yield _text(place, _HEIGHT - _BOTTOM + 32, f"{moment:%Y-%m-%d}")


def _champions(frame: _Frame, watches: Sequence[Watch]) -> Iterator[str]:
    before = watches[0].version
    last = -math.inf
    for watch in watches[1:]:
        if watch.version and watch.version != before:
            x = frame.x(watch.as_of)
            style = 'stroke="var(--soft)" stroke-dasharray="2 4"'
            yield _line(x, _TOP, x, _HEIGHT - _BOTTOM, style)
            if x - last > 26:
                yield _text(x, _TOP - 6, f"v{watch.version}")
                last = x
            before = watch.version


def _lines(frame: _Frame, watches: Sequence[Watch]) -> Iterator[str]:
    for run in _runs(watches, "estimated"):
        ends = [(frame.x(w.as_of), w.low, w.high) for w in run]
        tops = [f"{x:.1f},{frame.y(h):.1f}" for x, _, h in ends if h is not None]
        lows = [f"{x:.1f},{frame.y(low):.1f}" for x, low, _ in ends if low is not None]
        points = " ".join(tops + lows[::-1])
        yield f'<polygon points="{points}" fill="var(--accent)" opacity=".16"/>'
        yield _path(frame, run, "estimated", 'stroke="var(--accent)" stroke-width="2"')
    for run in _runs(watches, "promised"):
        yield _steps(frame, run)
    for run in _runs(watches, "realised"):
        yield _path(frame, run, "realised", 'stroke="var(--ink)" stroke-width="1.4"')
    for watch in watches:
        if watch.realised is not None:
            x, y = frame.x(watch.as_of), frame.y(watch.realised)
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--ink)"/>'


def _runs(watches: Sequence[Watch], field: str) -> Iterator[list[Watch]]:
    """Yield stretches of watches that have a value, one after the other."""
    run: list[Watch] = []
    for watch in watches:
        if getattr(watch, field) is not None:
            run.append(watch)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _path(frame: _Frame, run: Sequence[Watch], field: str, style: str) -> str:
    points = " ".join(f"{frame.x(w.as_of):.1f},{frame.y(getattr(w, field)):.1f}" for w in run)
    return f'<polyline points="{points}" fill="none" {style}/>'


def _steps(frame: _Frame, run: Sequence[Watch]) -> str:
    """Draw the promise: that of a champion holds until the next one's."""
    points, y = [], 0.0
    for i, watch in enumerate(run):
        x = frame.x(watch.as_of)
        points += [f"{x:.1f},{y:.1f}"] if i else []
        y = frame.y(watch.promised or 0.0)
        points.append(f"{x:.1f},{y:.1f}")
    style = 'stroke="var(--soft)" stroke-dasharray="7 4"'
    return f'<polyline points="{" ".join(points)}" fill="none" {style}/>'


def _decisions(frame: _Frame, watches: Sequence[Watch]) -> Iterator[str]:
    y = _HEIGHT - _BOTTOM + 12
    for watch in watches:
        x = frame.x(watch.as_of)
        title = f"{watch.as_of:%Y-%m-%d}: {watch.action}"
        title += f" ({watch.cause})" if watch.cause else ""
        title += f", {watch.held}" if watch.held else ""
        yield f"<g><title>{escape(title)}</title>{_mark(x, y, watch.action)}</g>"


def _mark(x: float, y: float, action: str) -> str:
    if action == "retrain":
        return f'<path d="M{x:.1f} {y - 7:.1f}l6 11h-12z" fill="var(--warn)" stroke="var(--card)"/>'
    if action == "watch":
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="var(--warn)" '
            'stroke-width="1.8"/>'
        )
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="var(--soft)"/>'


def _legend(metric: str) -> Iterator[str]:
    y, x = _HEIGHT - 6, _LEFT
    lines = (
        (f"{metric}, estimated", 'stroke="var(--accent)" stroke-width="2"', 150),
        ("realised", 'stroke="var(--ink)" stroke-width="1.4"', 95),
        ("promised", 'stroke="var(--soft)" stroke-dasharray="7 4"', 100),
    )
    for words, style, room in lines:
        yield _line(x, y - 4, x + 22, y - 4, style)
        yield _text(x + 28, y, words, anchor="start")
        x += room + 28
    for action, room in (("fine", 50), ("watch", 60), ("retrain", 70)):
        yield _mark(x + 6, y - 4, action)
        yield _text(x + 17, y, action, anchor="start")
        x += room + 17
    style = 'stroke="var(--soft)" stroke-dasharray="2 4"'
    yield _line(x + 4, y - 12, x + 4, y + 3, style)
    yield _text(x + 12, y, "another champion", anchor="start")


def by_effect(features: Sequence[FeatureDrift]) -> list[FeatureDrift]:
    """Sort columns: those that drifted first, by how far and how much the model uses them."""
    return sorted(features, key=lambda f: (not f.drifted, -f.distance * f.importance, -f.distance))


def draw_columns(features: Sequence[FeatureDrift]) -> str:
    """Draw how far each column moved beside how much the model uses it, as an SVG element."""
    shown = by_effect(features)[:_MOST_COLUMNS]
    height = _ROW * (len(shown) + 1) + 8
    half = (_WIDTH - _NAME - 210) / 2
    at = (_NAME, _NAME + half + 110)
    widest = max([f.distance for f in shown], default=0.0) or 1.0
    uses = max([f.importance for f in shown if f.column != PREDICTION], default=0.0) or 1.0
    parts = [
        _text(at[0], 14, "moved by", anchor="start"),
        _text(at[1], 14, "share of the model", anchor="start"),
    ]
    for i, f in enumerate(shown):
        y = _ROW * (i + 1)
        name = "(predictions)" if f.column == PREDICTION else f.column
        name = name if len(name) <= 28 else name[:27] + "…"
        parts.append(_text(_NAME - 12, y + 13, name, anchor="end", colour="ink"))
        colour = "warn" if f.drifted else "accent"
        parts.append(_bar(at[0], y, half * f.distance / widest, colour))
        word = f"{f.distance:.2f} drifted" if f.drifted else f"{f.distance:.2f}"
        end = at[0] + half * f.distance / widest + 8
        parts.append(_text(end, y + 13, word, anchor="start", colour=colour))
        if f.column != PREDICTION:
            parts.append(_bar(at[1], y, half * f.importance / uses, "soft"))
            end = at[1] + half * f.importance / uses + 8
            parts.append(_text(end, y + 13, f"{f.importance:.1%}", anchor="start"))
    return (
        f'<svg class="drawing" viewBox="0 0 {_WIDTH:g} {height:g}" role="img" '
        f'aria-label="columns by how far they moved">{"".join(parts)}</svg>'
    )


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y + 2:.1f}" width="{max(width, 1):.1f}" height="14" rx="3" '
        f'fill="var(--{colour})"/>'
    )
