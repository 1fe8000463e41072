"""A page is one file that shows every word as it was written, in Markdown as in HTML."""

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.cost_words import many, small_unit
from twinloop.drawings import Dot, Series, scatter, stacked_columns, stacked_rows
from twinloop.page import (
    Command,
    Drawing,
    Facts,
    Grid,
    Page,
    Section,
    Shares,
    Spans,
    Words,
    plain,
    to_html,
    to_markdown,
)
from twinloop.ticks import log_ticks, nice_ticks, spell_ticks

EVIL = "<script>alert(1)</script> | `x` *y* [z](http://e.x) \"'>"
PAGE = Page(
    title=EVIL,
    lead=EVIL,
    tiles=((EVIL, EVIL, EVIL), ("a", "b", "")),
    sections=(
        Section(EVIL, (Words((EVIL, "two")), Words((EVIL,), points=True))),
        Section("facts", (Facts(((EVIL, EVIL),)), Command("twinloop reproduce w --version 1"))),
        Section("grid", (Grid((EVIL, "n"), ((EVIL, "1"), ("b", "2")), (1,), (1,)),)),
        Section(
            "spans",
            (
                Spans(EVIL, ((EVIL, 1.0, 0.5, 2.0), ("b", math.nan, math.nan, math.nan)), line=1.5),
                Spans("one", (("a", 1.0, math.nan, math.nan),), ("a note",), marked=(0,)),
                Spans("none", ()),
                Drawing(
                    EVIL,
                    (
                        stacked_rows([EVIL], [Series(EVIL, "s1", (1.0,))], [EVIL], (0,)),
                        stacked_columns([EVIL], [Series("a", "s2", (0.0,))], [EVIL], EVIL),
                        scatter([Dot(EVIL, 1.0, 2.0, "star")], EVIL, EVIL, upward=True),
                    ),
                    (("s1", EVIL), ("star", "serves"), ("on", "a"), ("off", "b"), ("front", "c")),
                    Grid((EVIL, "n"), ((EVIL, "1"),), (1,), (0,)),
                ),
                Shares(EVIL, ((EVIL, 0.25),)),
            ),
        ),
    ),
)


class Reader(HTMLParser):
    """Collects tags, attributes and text; sees that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """See that it closes the last one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


def test_html_is_text_and_nothing_from_elsewhere() -> None:
    """No script, no link but within the page, no event, no address; words stay words."""
    html = to_html(PAGE)
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(reader.tags)
    assert not [n for n, _ in reader.attributes if n.startswith("on") or n == "src"]
    assert all(v is None or v.startswith("#") for n, v in reader.attributes if n == "href")
    assert not re.search(r"url\((?!#)|@import|http-equiv", html)
    assert reader.text.count(EVIL) == 29
    assert "twinloop reproduce w --version 1" in reader.text
    assert "nan" not in html.replace("unknown", "")


def test_html_is_made_for_the_dark_and_for_paper() -> None:
    """It follows the reader's choice of colours and has rules for print."""
    html = to_html(PAGE)
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media print" in html


def test_markdown_shows_words_as_they_are() -> None:
    """Nothing of a user's words is markup: no tag, no link, no cell too many."""
    text = to_markdown(PAGE)
    assert "<script" not in text.replace("\\<script", "")
    assert not re.search(r"(?<!\\)\]\(", text)
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") - line.count("\\|") in (3, 5), line


@pytest.mark.parametrize("text", ["# big", "1. one", "- point", "+ point", "a\n\n# b"])
def test_a_line_is_no_heading_and_no_point(text: str) -> None:
    """What a person wrote into a description stands there as a sentence."""
    assert not re.match(r"(#|-|\+|\d+\.)\s", plain(text))
    assert "\n" not in plain(text)


def test_values_lie_on_one_scale() -> None:
    """The smallest end is at 0, the largest at 100, and what is not known in the middle."""
    spans = Spans("m", (("a", 2.0, 1.0, 3.0), ("b", 4.0, math.nan, math.nan)), line=5.0)
    assert [spans.place(v) for v in (1.0, 3.0, 5.0)] == [0.0, 50.0, 100.0]
    assert spans.place(math.nan) == Spans("m", (("a", 1.0, 1.0, 1.0),)).place(1.0) == 50.0


@given(st.floats(-6, 12), st.floats(0.005, 15))
def test_an_axis_of_steps_has_two_ticks_at_least(low: float, room: float) -> None:
    """However close together the values lie, two of the axis' numbers can be read, each within."""
    found = log_ticks(low, low + room)
    assert len(found) >= 2
    assert all(low - 1e-9 <= math.log10(v) <= low + room + 1e-9 for v in found)
    assert len({spell_ticks([v])[0] for v in found}) == len(found)


@given(st.floats(1e-9, 1e12))
def test_ticks_are_spelt_exactly_and_alike(most: float) -> None:
    """Words of an axis are its numbers, with as many decimals each."""
    ticks = nice_ticks(most)
    words = spell_ticks(ticks)
    assert [float(w.replace(",", "")) for w in words] == pytest.approx(ticks, rel=1e-5, abs=0)
    assert len({len(w.partition(".")[2]) for w in words}) == 1


@pytest.mark.parametrize("size", [4e-8, 4e-6, 0.3, 1.0, 4e6, 4e9])
def test_labels_of_an_axis_are_not_cut(size: float) -> None:
    """Before the axis there is room for the longest of them, as wide as a figure can be."""
    columns = stacked_columns(["a", "b"], [Series("s", "s1", (size, size / 3))], ["", ""], "EUR")
    dots = scatter(
        [Dot("v1", 1.0, size, "front"), Dot("v2", 1.0, size * 1.01, "front")], "x", "y", upward=True
    )
    for svg in (columns, dots):
        ends = re.findall(r'<text class="soft end" x="([\d.]+)" y="[\d.]+">([\d.,]+)</text>', svg)
        assert len(ends) >= 2
        assert all(float(x) - 7.7 * len(label) >= 0 for x, label in ends), ends


def test_what_costs_the_same_has_ticks_to_read_it_by() -> None:
    """Points one above the other stand over an axis with numbers."""
    dots = [Dot(f"v{i}", 57.3, float(i), "beaten") for i in (1, 2)]
    svg = scatter(dots, "millionths of EUR to train", "rmse", upward=False)
    assert len(re.findall(r'class="soft mid"', svg)) >= 2


@pytest.mark.parametrize(
    ("most", "factor", "name"),
    [
        (0.0, 1.0, "EUR"),
        (12.0, 1.0, "EUR"),
        (0.01, 1.0, "EUR"),
        (0.004, 1e3, "thousandths of EUR"),
        (0.0002, 1e6, "millionths of EUR"),
        (4e-8, 1e9, "billionths of EUR"),
        (4e-12, 1e9, "billionths of EUR"),
    ],
)
def test_small_money_is_counted_in_parts(most: float, factor: float, name: str) -> None:
    """The numbers of an axis stay short, and its title says of what they are."""
    assert small_unit(most, "EUR") == (factor, name)


def test_one_is_not_many() -> None:
    """One run, no runs, two runs."""
    assert [many(n, "run") for n in (0, 1, 2, 1200)] == ["0 runs", "1 run", "2 runs", "1,200 runs"]
