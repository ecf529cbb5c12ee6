"""Turn an HTML page into texts and pictures in reading order; navigation, scripts, footers are left out."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from contextlib import suppress
from typing import Any

from dataset_builders.markdown import INLINE
from modeling_nyx.content_nyx import Content

LEFT_OUT = set(
    "script style noscript template nav footer aside dialog button select textarea svg math iframe object".split()
)
ROLES = ("navigation", "banner", "contentinfo", "search", "complementary")
NAMES = ("nav", "navbar", "navigation", "sidebar", "footer")
# In a table's cell these end no text: a row is one.
IN_CELL = ("p", "div", "br")
MAX_DEPTH = 512
CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
# What browsers read as Windows', which has letters where these have control characters.
LATIN = (b"iso-8859-1", b"latin1", b"us-ascii")
PIECE = 64 * 1024


def read_items(data: bytes) -> Content:
    """Return headings, paragraphs, list entries, table rows (cells between bars) as texts; an `image` is its address.

    Where the page marks its main part, nothing else is kept. Takes time and memory in proportion to `data`, however
    it is nested. Raises `ValueError` for a page nested more than 512 tags deep, `ImportError` without lxml.
    """
    try:
        from lxml import etree
    except ImportError as error:
        raise ImportError("HTML needs lxml: pip install 'nyx-retriever[data]'") from error
    page = _Page()
    # Events instead of a tree: a page of empty tags would be a hundred times its size in memory.
    parser = etree.HTMLParser(target=page, encoding=_encoding(data), no_network=True)
    # In pieces, because the parser finishes the one in which an event raises an error.
    for start in range(0, len(data) if data.strip() else 0, PIECE):
        parser.feed(data[start : start + PIECE])
    with suppress(etree.XMLSyntaxError):  # nothing but an unfinished comment
        parser.close()
    return page.finished()


def _encoding(data: bytes) -> str | None:
    """Name UTF-8 where the bytes are UTF-8; otherwise the page has to say, or it is Windows', as browsers have it."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        said = CHARSET.search(data[:PIECE])
        says = data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or (said and said[1].lower() not in LATIN)
        return None if says else "windows-1252"
    return "utf-8"


class _Page:
    """Collects what lxml's parser meets. Every start has its end, also where the page lacks it."""

    def __init__(self) -> None:
        self.items: list[tuple[bool, dict[str, Any]]] = []
        self.words: list[str] = []
        self.title: list[str] | None = None
        self.open: list[str] = []
        # How many tags were open where each began; 0: not inside one.
        self.hidden = self.main = self.article = self.pre = 0
        self.cells = 0
        self.has_heading = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.open.append(tag)
        if len(self.open) > MAX_DEPTH:
            raise ValueError(f"page nested more than {MAX_DEPTH} tags deep")
        if self.hidden:
            return
        depth = len(self.open)
        if _is_left_out(tag, attributes) or (tag == "header" and not (self.main or self.article)):
            self._end_text()
            self.hidden = depth
        elif tag == "title" and self.title is None:
            self.title = []
        elif tag == "img":
            self._picture(attributes)
        else:
            self._open(tag, attributes.get("role", ""), depth)

    def _open(self, tag: str, role: str, depth: int) -> None:
        if tag in ("td", "th"):
            self.words += [" | "] if self.cells else []
            self.cells += 1
            return
        self._between(tag)
        if tag == "main" or role == "main":
            self.main = self.main or depth
        elif tag == "article":
            self.article = self.article or depth
        elif tag == "pre":
            self.pre = self.pre or depth
        self.has_heading |= tag == "h1"

    def end(self, tag: str) -> None:
        depth = len(self.open)
        self.open.pop()
        if self.hidden:
            self.hidden = 0 if self.hidden == depth else self.hidden
            return
        if tag not in ("td", "th", "img", "title"):
            self._between(tag)
        self.main, self.article, self.pre = (
            0 if began == depth else began for began in (self.main, self.article, self.pre)
        )

    def data(self, data: str) -> None:
        if self.hidden:
            return
        if self.open and self.open[-1] == "title":
            self.title = [*(self.title or []), data]
        else:
            self.words.append(data)

    def comment(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass

    def finished(self) -> Content:
        self._end_text()
        only_main = any(main for main, _ in self.items)
        items = [item for main, item in self.items if main or not only_main]
        title = " ".join("".join(self.title or ()).split())
        if title and items and not self.has_heading:
            items.insert(0, {"type": "text", "text": title})
        return items

    def _picture(self, attributes: dict[str, str]) -> None:
        self._end_text()
        source = attributes.get("src", "")
        # What is loaded late stands beside a placeholder.
        if not source or source.startswith("data:"):
            source = attributes.get("data-src", source)
        self.items.append((bool(self.main), {"type": "image", "image": source}))

    def _between(self, tag: str) -> None:
        if tag == "br" or (self.cells and tag in IN_CELL):
            self.words.append("\n" if self.pre else " ")
        elif tag not in INLINE:
            self._end_text()

    def _end_text(self) -> None:
        words = "".join(self.words)
        text = words.strip("\n") if self.pre else " ".join(words.split())
        if text.strip(" |\n\t"):
            self.items.append((bool(self.main), {"type": "text", "text": text}))
        self.words, self.cells = [], 0


def _is_left_out(tag: str, attributes: dict[str, str]) -> bool:
    return (
        tag in LEFT_OUT
        or "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") in ROLES
        or attributes.get("id") in NAMES
        # The sign that Sphinx puts after every heading.
        or attributes.get("class") == "headerlink"
    )
