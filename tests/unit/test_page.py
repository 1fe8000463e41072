"""A page is one file that shows every word as it was written, in Markdown as in HTML."""

import math
import re
from html.parser import HTMLParser

import pytest

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
