"""Turn Markdown, and the HTML that stands in it, into texts and pictures in reading order."""

import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Any

from modeling_nyx.content_nyx import Content

# May be empty; a page that begins with a blank line, or another rule, after the first one has none.
FRONT_MATTER = re.compile(r"\A---[^\S\n]*\n(?:(?=\S)(?!---).*?\n)?---[^\S\n]*(?:\n|\Z)", re.DOTALL)
# Tags inside a sentence; any other one ends a text.
INLINE = set(
    "a abbr b bdi bdo big br cite code data del dfn em font i ins kbd mark q s samp small span strike strong sub sup "
    "time tt u var wbr".split()
)
HIDDEN = ("script", "style")


def read_items(markdown: str) -> Iterator[Content]:
    """Yield each block's items: headings, paragraphs, table rows (cells between bars), code as texts.

    A picture's `image` is what it points to.

    Raises `ImportError` without markdown-it-py.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise ImportError("Markdown needs markdown-it-py: pip install 'nyx-retriever[data]'") from error
    parser = MarkdownIt().enable("table")
    # Nothing is rendered, so no target is dangerous; one that is refused would stay in the text as it is spelt.
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    yield from map(_read, _rows(parser.parse(FRONT_MATTER.sub("", markdown))))


def _rows(blocks: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the cells of a table's row together, any other block alone."""
    cells: list[Any] | None = None
    for block in blocks:
        if block.type == "tr_open":
            cells = []
        elif block.type == "tr_close":
            yield cells or []
            cells = None
        elif cells is None:
            yield [block]
        else:
            cells.append(block)


def _read(blocks: list[Any]) -> Content:
    reader = _Reader()
    for block in blocks:
        if block.type in ("fence", "code_block"):
            return [{"type": "text", "text": block.content}]
        if block.type == "html_block":
            reader.feed(block.content)
        elif block.type == "inline":
            reader.begin_cell()
            _read_inline(reader, block.children)
    return reader.finished()


def _read_inline(reader: "_Reader", tokens: Iterable[Any]) -> None:
    for token in tokens:
        if token.type == "image":
            reader.picture(str(token.attrs["src"]))
        elif token.type == "html_inline":
            reader.feed(token.content)
        else:
            reader.handle_data(" " if token.type in ("softbreak", "hardbreak") else token.content)


class _Reader(HTMLParser):
    """Collects the texts and pictures of one block; scripts and styles are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.items: Content = []
        self.words = self.code = self.hidden = ""

    def finished(self) -> Content:
        self.close()
        if self.hidden:
            # Without an end it was no script, but a sentence about one.
            self.words += self.code
        self._end_text()
        return self.items

    def begin_cell(self) -> None:
        """Part a cell from the one before it, if a picture doesn't."""
        self.words += " | " if self.words else ""

    def picture(self, target: str) -> None:
        self._end_text()
        self.items.append({"type": "image", "image": target})

    def handle_data(self, data: str) -> None:
        if self.hidden:
            self.code += data
        else:
            self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in HIDDEN:
            self.hidden = tag
        elif tag == "img":
            self.picture(dict(attrs).get("src") or "")
        elif tag == "br":
            self.words += " "
        elif tag not in INLINE:
            self._end_text()

    def handle_endtag(self, tag: str) -> None:
        if tag == self.hidden:
            self.hidden = self.code = ""
        elif tag not in INLINE:
            self._end_text()

    def parse_marked_section(self, i: int, report: int = 0) -> int:
        # Pythons before 3.11.14 fail on a `<![` that they don't know.
        return self.parse_bogus_comment(i)

    def _end_text(self) -> None:
        if words := " ".join(self.words.split()):
            self.items.append({"type": "text", "text": words})
        self.words = ""
