"""The question's part of the page, which every tab below it uses; and how errors reach a visitor."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import numpy as np

import cards
from library import Library
from modeling_nyx.content_nyx import Content
from nyx.index import Hit
from questions import read_question

HOUR = 3600
MOST_RESULTS = 20
OWN = "Your pages"
NO_PAGES = f"There are no pages of yours yet. Upload some under “{OWN}”."


@dataclass(frozen=True)
class Query:
    """Components that hold what is asked, of which library (`own`: the visitor's, None so far), and how."""

    question: gr.MultimodalTextbox
    where: gr.Radio
    count: gr.Slider
    dim: gr.Slider
    own: gr.State

    @property
    def inputs(self) -> list[Any]:
        return [self.question, self.where, self.count, self.dim, self.own]


@dataclass(frozen=True)
class Found:
    """What a search gave: the question as it was read, results, and what to say of the time it took."""

    question: Content
    hits: list[Hit]
    timing: str


def lay_out(library: Library, name: str) -> Query:
    """Place the question box with its preview, and what can be set about a search."""
    own = gr.State(None, time_to_live=HOUR)
    question = local_only(
        gr.MultimodalTextbox(
            label="Question",
            placeholder="Words, pictures, or both. [1] and [2] in the words say where pictures stand.",
            file_types=["image"],
            file_count="multiple",
            max_plain_text_length=10_000,
            elem_id="question",
        )
    )
    preview = gr.HTML(elem_id="preview")
    with gr.Row():
        where = gr.Radio([name, OWN], value=name, label="Search in", elem_id="where")
        count = gr.Slider(1, MOST_RESULTS, value=5, step=1, label="Results", elem_id="count")
        smallest, whole = library.dims[-1], library.dims[0]
        dim = gr.Slider(
            smallest if smallest < whole else 1,
            whole,
            value=whole,
            step=smallest if smallest < whole else 1,
            label="Dimensions",
            elem_id="dim",
        )
    question.change(
        show,
        question,
        preview,
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=4,
        api_visibility="private",
    )
    return Query(question, where, count, dim, own)


def show(question: dict[str, Any]) -> str:
    """Preview a question while it is written."""
    if not question["text"].strip() and not question["files"]:
        return ""
    try:
        return cards.preview(read_question(question["text"], question["files"]))
    except ValueError as error:
        return cards.notice(str(error), "wrong")


def find(library: Library, question: Content, count: int, dim: int) -> Found:
    """Search, and measure every dimension that the retriever was trained for with the same question."""
    count, dim = max(1, min(int(count), MOST_RESULTS)), int(dim)
    vector, reading = library.embed(question)
    rows = [(each, library.size(each), _fastest(library, vector, count, each)) for each in {*library.dims, dim}]
    hits, _ = library.search(vector, count, dim)
    rows.sort(reverse=True)
    return Found(question, hits, cards.timing(len(hits), len(library), reading, rows, dim))


def _fastest(library: Library, vector: np.ndarray, count: int, dim: int) -> float:
    """Return a search's seconds, the least of a few, because the page's other visitors have their part in each."""
    return min(library.search(vector, count, dim)[1] for _ in range(3))


def chosen(where: str, own: Library | None, library: Library) -> Library:
    """Return the library that a visitor means. Raises `ValueError` if they have none of their own."""
    if where != OWN:
        return library
    if own is None:
        raise ValueError(NO_PAGES)
    return own


@contextmanager
def told() -> Iterator[None]:
    """Show a visitor what they can put right. Their file's names come back escaped: the page shows it as HTML."""
    try:
        yield
    except (ValueError, ConnectionError) as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from error


def local_only(component: Any) -> Any:
    """Let a component take uploads alone: Gradio would fetch a web address that stands in a file's place."""
    keep: Callable[[str], Awaitable[str | None]] = component.async_move_resource_to_block_cache

    async def refuse(place: str) -> str | None:
        if str(place).lower().startswith(("http://", "https://")):
            raise gr.Error("No address is fetched. Upload the file itself.", print_exception=False)
        return await keep(place)

    component.async_move_resource_to_block_cache = refuse
    return component
