"""The page's functions for programs: named endpoints that take and give JSON, for `gradio_client` and plain HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

import cards
from desk import DOCUMENTS, Desk
from library import Library
from nyx.index import Hit
from query import OWN, Query, chosen, find, local_only, told
from questions import read_question
from tabs import ASKING, MOST_DOCUMENTS, READING, SEARCHING
from uploads import read_pages

RESULTS = 5  # unless told otherwise


@dataclass(frozen=True)
class Endpoints:
    """What programs may call: a desk's, searching in the library of that name unless they ask for their own pages."""

    desk: Desk
    name: str

    def search(
        self,
        text: str | None,
        pictures: list[str] | None,
        k: int | None,
        dim: int | None,
        own_pages: bool | None,
        own: Library | None,
    ) -> list[dict[str, Any]]:
        """Find the best k pages for a question of words, pictures (files), or both.

        `[1]` in the text is where the first picture stands; pictures that are not named so come first. `dim`: how many
        of the embedding's values to use. `own_pages`: search what `/read_pages` read in this session. Returns a list
        of {rank, id, score, source, content}; content is texts and pictures (as data: addresses) in reading order.
        """
        with told():
            library = chosen(OWN if own_pages else self.name, own, self.desk.library)
            question = read_question(text or "", pictures or [])
            return records(find(library, question, given(k, RESULTS), given(dim, library.dims[0])).hits)

    def ask(
        self,
        text: str | None,
        pictures: list[str] | None,
        documents: int | None,
        own_pages: bool | None,
        own: Library | None,
    ) -> dict[str, Any]:
        """Find pages as `/search` does, and let the reader answer from the first `documents` of them.

        Returns {answer, documents}: the reader's words, and what it was given, in the order given.
        """
        with told():
            if self.desk.reader is None:
                raise ValueError(self.desk.reader_error or "No reader is set.")
            library = chosen(OWN if own_pages else self.name, own, self.desk.library)
            question = read_question(text or "", pictures or [])
            most = max(1, min(given(documents, DOCUMENTS), MOST_DOCUMENTS))
            hits = find(library, question, most, library.dims[0]).hits
            return {"answer": self.desk.answer(question, hits)[0], "documents": records(hits)}

    def read(self, files: list[str] | None) -> tuple[dict[str, Any], Any]:
        """Read pages (Markdown, HTML, PDF, pictures) for this session alone: a client's session is its own.

        They take the place of earlier ones, unless none can be read.

        Returns {pages, left_out: [{source, reason}]}; `/search` and `/ask` find them with `own_pages`.
        """
        with told():
            pages = read_pages(files or [], lambda *_: None)
            own = self.desk.library.retriever.read(pages.chunks, lambda *_: None) if pages.chunks else gr.skip()
        left_out = [{"source": source, "reason": reason} for source, reason in pages.left_out]
        return {"pages": len(pages.chunks), "left_out": left_out}, own


def add_endpoints(desk: Desk, query: Query) -> None:
    """Add `/search`, `/ask` and `/read_pages`, which have no place on the page."""
    offered = Endpoints(desk, str(query.where.value))
    text = gr.Textbox("", label="text", visible=False)
    own_pages = gr.Checkbox(False, label="own_pages", visible=False)
    pictures = local_only(gr.File([], file_count="multiple", file_types=["image"], label="pictures", visible=False))
    files = local_only(gr.File(file_count="multiple", label="files", visible=False))
    k = gr.Number(RESULTS, label="k", precision=0, visible=False)
    dim = gr.Number(desk.library.dims[0], label="dim", precision=0, visible=False)
    documents = gr.Number(DOCUMENTS, label="documents", precision=0, visible=False)
    result = gr.JSON(visible=False)
    for label, function, inputs, outputs, turn in (
        ("search", offered.search, [text, pictures, k, dim, own_pages, query.own], [result], SEARCHING),
        ("ask", offered.ask, [text, pictures, documents, own_pages, query.own], [result], ASKING),
        ("read_pages", offered.read, [files], [result, query.own], READING),
    ):
        public = turn | {"api_visibility": "public"}
        gr.Button(visible=False).click(function, inputs, outputs, api_name=label, **public)


def given(number: int | None, default: int) -> int:
    """Return what a program sent, or the default in place of a null."""
    return default if number is None else int(number)


def records(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Write results as JSON; a content is again one that Nyx takes."""
    return [
        {
            "rank": rank,
            "id": hit.id,
            "score": hit.score,
            "source": hit.source,
            "content": list(map(_item, hit.content)),
        }
        for rank, hit in enumerate(hits, 1)
    ]


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return item if item["type"] == "text" else {"type": "image", "url": cards.data_uri(item["image"])}
