"""The tabs below the question: results, comparison, answer, the visitor's pages, about."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

import cards
from desk import DOCUMENTS, Desk
from library import Library
from modeling_nyx.content_nyx import Content
from nyx.index import Hit
from query import HOUR, OWN, Query, chosen, find, local_only, told
from questions import read_question
from uploads import KINDS, MOST_BYTES, MOST_FILES, read_pages

MOST_DOCUMENTS = 5
NO_READER = (
    "No reader is set, so nothing answers yet. Name one with --reader (or NYX_READER): the folder of a "
    "vision-language model, or the address of an OpenAI-compatible server, as http://localhost:8000/v1#MODEL."
)
# Events of one name take turns, so that no visitor's work is held up by many of another kind.
SEARCHING: dict[str, Any] = {"concurrency_id": "search", "concurrency_limit": 2, "api_visibility": "private"}
ASKING: dict[str, Any] = {"concurrency_id": "ask", "concurrency_limit": 1, "api_visibility": "private"}
READING: dict[str, Any] = {"concurrency_id": "read", "concurrency_limit": 1, "api_visibility": "private"}


def results_tab(desk: Desk, query: Query, tabs: gr.Tabs, examples: Any | None) -> None:
    def search(question: dict[str, Any], where: str, count: int, dim: int, own: Library | None) -> tuple[str, str]:
        with told():
            content = read_question(question["text"], question["files"])
            found = find(chosen(where, own, desk.library), content, count, dim)
        return cards.results(found.hits), found.timing

    def again(question: dict[str, Any], *settings: Any) -> tuple[Any, Any]:
        """Follow a setting; without a question there is nothing to search yet."""
        asked = question["text"].strip() or question["files"]
        return search(question, *settings) if asked else (gr.skip(), gr.skip())

    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            shown = gr.HTML(cards.notice("Ask above, or choose an example."), elem_id="results")
        with gr.Column(scale=1, min_width=220):
            timing = gr.HTML(elem_id="timing")
    outputs = [shown, timing]
    query.question.submit(lambda: gr.Tabs(selected="results"), None, tabs, api_visibility="private")
    query.question.submit(search, query.inputs, outputs, **SEARCHING)
    for setting in (query.where, query.count, query.dim):
        setting.change(again, query.inputs, outputs, trigger_mode="always_last", **SEARCHING)
    if examples is not None:
        examples.load_input_event.then(lambda: gr.Tabs(selected="results"), None, tabs, api_visibility="private")
        examples.load_input_event.then(search, query.inputs, outputs, **SEARCHING)


def compare_tab(desk: Desk, query: Query) -> None:
    """Put the same question two ways: other dimensions, or the other retriever."""
    names = told_apart([each.name for each in (desk.library.retriever, desk.rival) if each])
    sides = {f"{name} · {dim}": (bool(other), dim) for other, name in enumerate(names) for dim in desk.library.dims}
    labels = list(sides)

    def compare(
        question: dict[str, Any],
        where: str,
        count: int,
        _: int,
        own: Library | None,
        left: str,
        right: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, str, str, str]:
        with told():
            content = read_question(question["text"], question["files"])
            library = chosen(where, own, desk.library)
            found = []
            for other, dim in (sides[left], sides[right]):
                if not other:
                    searched = library
                elif library is desk.library:
                    searched = desk.other(progress)
                else:
                    assert desk.rival is not None
                    searched = desk.rival.read(library.index.chunks, progress)
                found.append(find(searched, content, count, dim))
        first, second = found
        return (
            cards.results(first.hits, second.hits),
            first.timing,
            cards.results(second.hits, first.hits),
            second.timing,
        )

    with gr.Row():
        left = gr.Dropdown(labels, value=labels[0], label="Left", elem_id="left")
        right = gr.Dropdown(labels, value=labels[len(desk.library.dims) - 1], label="Right", elem_id="right")
    button = gr.Button("Compare", variant="primary", elem_id="compare")
    outputs = []
    with gr.Row():
        for side in ("left", "right"):
            with gr.Column(min_width=300):
                outputs += [gr.HTML(elem_id=f"{side}-results"), gr.HTML(elem_id=f"{side}-timing")]
    button.click(compare, [*query.inputs, left, right], outputs, **SEARCHING)


def told_apart(names: Sequence[str]) -> list[str]:
    """Shorten one or two retrievers' names to their last parts, if these differ."""
    shown = [Path(name).name for name in names]
    if len(set(shown)) == len(names):
        return shown
    first, second = names
    return [first, second if second != first else f"{second} (second)"]


def answer_tab(desk: Desk, query: Query) -> None:
    """Let the reader answer from the first documents; each can be dropped, to see what the answer hangs on."""
    if desk.reader is None:
        gr.HTML(cards.notice(desk.reader_error or NO_READER, "missing"), elem_id="answer")
        return

    def ask(
        question: dict[str, Any], where: str, _: int, dim: int, own: Library | None, documents: int
    ) -> tuple[Any, ...]:
        with told():
            content = read_question(question["text"], question["files"])
            most = max(1, min(int(documents), MOST_DOCUMENTS))
            hits = find(chosen(where, own, desk.library), content, most, dim).hits
            ranks = list(range(1, len(hits) + 1))
            answer, _seconds = desk.answer(content, hits)
        said = [(ranks, answer)]
        choices = gr.CheckboxGroup([(_label(rank, hits), rank) for rank in ranks], value=ranks, visible=True)
        return cards.answers(said), choices, gr.Button(visible=True), cards.results(hits), (content, hits, said)

    def ask_again(kept: list[int], asked: tuple[Content, list[Hit], list] | None) -> tuple[str, Any]:
        with told():
            if asked is None:
                raise ValueError("Ask first.")
            content, hits, said = asked
            ranks = [rank for rank in sorted(kept) if 1 <= rank <= len(hits)]
            answer, _ = desk.answer(content, [hits[rank - 1] for rank in ranks])
        said = [*said, (ranks, answer)]
        return cards.answers(said), (content, hits, said)

    asked = gr.State(None, time_to_live=HOUR)
    with gr.Row(equal_height=True):
        count = gr.Slider(
            1, MOST_DOCUMENTS, value=DOCUMENTS, step=1, label="Documents to read", elem_id="documents", scale=2
        )
        button = gr.Button("Ask the reader", variant="primary", elem_id="ask")
    answer = gr.HTML(cards.notice(f"{desk.reader_name} answers from the first documents found."), elem_id="answer")
    given = gr.CheckboxGroup([], label="It was given (drop one, and ask again)", visible=False, elem_id="given")
    again = gr.Button("Ask again with these", visible=False, elem_id="ask-again")
    shown = gr.HTML(elem_id="given-documents")
    button.click(ask, [*query.inputs, count], [answer, given, again, shown, asked], **ASKING)
    again.click(ask_again, [given, asked], [answer, asked], **ASKING)


def _label(rank: int, hits: Sequence[Hit]) -> str:
    content = hits[rank - 1].content
    words = next((item["text"] for item in content if item["type"] == "text"), "")
    pictures = sum(item["type"] == "image" for item in content)
    return f"{rank} · {words[:60].strip()}… ({pictures} picture{'s' * (pictures != 1)})"


def pages_tab(desk: Desk, query: Query) -> None:
    """Read a visitor's uploads into a library of their own, which nobody else sees."""

    def read(
        uploads: list[str] | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        with told():
            pages = read_pages(uploads or [], progress)
            if not pages.chunks:
                reasons = "; ".join(f"{source}: {reason}" for source, reason in pages.left_out)
                raise ValueError(f"No page could be read. {reasons}")
            own = desk.library.retriever.read(pages.chunks, progress)
        words = f"{len(own)} pieces of {pages.files} files are ready: ask above. They are forgotten within the hour."
        return own, cards.notice(words) + cards.left_out(pages.left_out), gr.Radio(value=OWN), None

    files = local_only(
        gr.File(
            file_count="multiple",
            file_types=list(KINDS),
            label="Markdown, HTML, PDF, pictures",
            elem_id="uploads",
        )
    )
    with gr.Row():
        button = gr.Button("Read these pages", variant="primary", elem_id="read")
        forget = gr.Button("Forget my pages", elem_id="forget")
    limits = f"At most {MOST_FILES} files, {MOST_BYTES // 10**6} MB together. Nobody else can search them."
    report = gr.HTML(cards.notice(f"{limits} A page finds its pictures among them, by name."), elem_id="report")
    button.click(read, files, [query.own, report, query.where, files], show_progress_on=report, **READING)
    library_name = query.where.value
    forget.click(
        lambda: (None, cards.notice("Your pages are forgotten."), gr.Radio(value=library_name), None),
        None,
        [query.own, report, query.where, files],
        api_visibility="private",
    )


def about_tab(desk: Desk) -> None:
    index = desk.library.index
    revision = f", revision `{index.revision[:12]}`" if index.revision else ""
    facts = f"{len(desk.library)} pages, {desk.library.dims[0]} dimensions, model `{index.model_name}`{revision}."
    gr.Markdown(f"{facts}\n\n{desk.card}", elem_id="about")
