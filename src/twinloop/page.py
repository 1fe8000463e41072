"""Page: a small document of sections, as Markdown or as one self-contained HTML file."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from twinloop.amounts import brackets

# A bracket alone is an interval; with a parenthesis after it, a link.
_SPECIAL = re.compile(r"([\\`*<>|]|\](?=\())")
_LEADING = re.compile(r"^(\s*)([#+-]|\d+[.)])(?=\s)")


@dataclass(frozen=True)
class Words:
    """A paragraph, or a list of points where there are several."""

    lines: tuple[str, ...]
    points: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes
    ----------
    numbers
        Columns whose cells stand to the right.
    marked
        Rows to point out.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    marked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Spans:
    """Values with intervals on one scale: drawn in HTML, a table in Markdown.

    Attributes
    ----------
    rows
        Name, value, and both ends of its interval, NaN where unknown.
    notes
        A word on each row; none where empty.
    line
        Value to draw a line at; None for none.
    marked
        Rows to point out.
    """

    head: str
    rows: tuple[tuple[str, float, float, float], ...]
    notes: tuple[str, ...] = ()
    line: float | None = None
    marked: tuple[int, ...] = ()

    def place(self, value: float) -> float:
        """Return where a value lies between the smallest and the largest shown: 0 to 100."""
        known = [v for _, *values in self.rows for v in values if math.isfinite(v)]
        known += [self.line] if self.line is not None and math.isfinite(self.line) else []
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        if not math.isfinite(value) or high <= low:
            return 50.0
        return 100 * (value - low) / (high - low)


@dataclass(frozen=True)
class Shares:
    """Shares of a whole, from 0 to 1: bars in HTML, a table in Markdown."""

    head: str
    rows: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Command:
    """What to type."""

    line: str


@dataclass(frozen=True)
class Drawing:
    """A chart, as one SVG or as several side by side; its table in Markdown.

    Attributes
    ----------
    svgs
        Made by `twinloop.drawings`, which takes no text for markup.
    legend
        Looks and names of what is told apart.
    grid
        The same in numbers; folded up on the page.
    """

    title: str
    svgs: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]
    grid: Grid


Block = Words | Facts | Grid | Spans | Shares | Command | Drawing


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A document.

    Attributes
    ----------
    tiles
        Name, value and a remark of what is to be seen first.
    """

    title: str
    lead: str
    tiles: tuple[tuple[str, str, str], ...]
    sections: tuple[Section, ...]


def to_html(page: Page) -> str:
    """Write a page as HTML: no script, nothing from elsewhere, text never taken for markup."""
    from jinja2 import Environment, StrictUndefined

    place = resources.files("twinloop") / "page.html"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["brief"] = brief
    environment.globals["brackets"] = brackets
    environment.tests["finite"] = math.isfinite
    return environment.from_string(place.read_text(encoding="utf-8")).render(page=page)


def to_markdown(page: Page) -> str:
    """Write a page as Markdown; what users named or wrote is never taken for markup."""
    parts = [f"# {plain(page.title)}"]
    if page.lead:
        parts.append(plain(page.lead))
    parts.append(
        _facts([(name, f"{value} ({note})" if note else value) for name, value, note in page.tiles])
    )
    for section in page.sections:
        parts.append(f"## {plain(section.title)}")
        parts.extend(_block(block) for block in section.blocks)
    return "\n\n".join(part for part in parts if part) + "\n"


def brief(value: float) -> str:
    """Spell a number in four digits."""
    return "unknown" if math.isnan(value) else f"{value:.4g}"


def plain(text: str) -> str:
    """Return text on one line in which Markdown finds nothing to render."""
    flat = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _LEADING.sub(r"\1\\\2", flat)


def _block(block: Block) -> str:
    match block:
        case Words(lines, points):
            return "\n".join(f"- {plain(x)}" for x in lines) if points else _paragraphs(lines)
        case Facts(pairs):
            return _facts(pairs)
        case Grid(heads, cells, numbers):
            return _table(heads, cells, numbers)
        case Spans(head, spans, notes):
            said = notes or ("",) * len(spans)
            rows = tuple(
                (n, brief(v), brackets(a, b), note)
                for (n, v, a, b), note in zip(spans, said, strict=True)
            )
            return _table(("", head, "95 % interval", ""), rows, (1, 2))
        case Shares(head, shares):
            return _table((head, "share"), tuple((n, f"{s:.1%}") for n, s in shares), (1,))
        case Drawing(title, _, _, grid):
            return f"{plain(title)}\n\n{_table(grid.heads, grid.rows, grid.numbers)}"
        case Command(line):
            return f"```\n{line}\n```"


def _paragraphs(lines: tuple[str, ...]) -> str:
    return "\n\n".join(plain(line) for line in lines)


def _facts(pairs: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> str:
    return "\n".join(f"- **{plain(name)}**: {plain(value)}" for name, value in pairs)


def _table(
    heads: tuple[str, ...], rows: Iterable[tuple[str, ...]], numbers: tuple[int, ...]
) -> str:
    rule = tuple("---:" if i in numbers else "---" for i in range(len(heads)))
    lines = [tuple(plain(h) for h in heads), rule, *(tuple(plain(c) for c in r) for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
