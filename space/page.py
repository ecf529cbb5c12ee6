"""Put the page together, and say how it is served: what may be uploaded, loaded and kept."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

import cards
from dataset_builders.schema import QAPair
from desk import Desk
from endpoints import add_endpoints
from nyx.records import image_bytes
from query import HOUR, lay_out
from tabs import about_tab, answer_tab, compare_tab, pages_tab, results_tab

SWEEP = 600
# Whatever came into the page, the browser loads nothing for it from elsewhere, and sends nothing there.
POLICY = (
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' blob: data:; "
    "object-src 'none'; frame-src 'self' blob:; base-uri 'self'; form-action 'self'"
)
# Fonts of the visitor's own machine: none is fetched.
FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
SUBDUED = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
TITLES = {
    f"block_{part}_text_color{mode}": colour
    for part in ("title", "label", "info")
    for mode, colour in (("", "*primary_800"), ("_dark", "*primary_100"))
}
THEME = gr.themes.Soft(
    primary_hue="indigo", secondary_hue="amber", neutral_hue="slate", font=FONTS, radius_size="lg"
).set(
    **SUBDUED,
    **TITLES,
    block_title_background_fill="transparent",
    block_label_background_fill="transparent",
    block_title_padding="0",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_600",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_secondary_background_fill_hover_dark="*primary_700",
    body_background_fill="*neutral_100",
    checkbox_label_background_fill_selected="*primary_700",
    checkbox_label_background_fill_selected_dark="*primary_700",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
    link_text_color="*primary_700",
    link_text_color_dark="*primary_300",
)


class _Headers(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


# How the page is launched.
SERVED: dict[str, Any] = {
    "max_file_size": "10mb",
    "state_session_capacity": 100,
    "app_kwargs": {"middleware": [Middleware(_Headers)]},
    "theme": THEME,
    "js": Path(__file__).with_name("page.js").read_text(),
    "css_paths": [Path(__file__).with_name("style.css")],
    "footer_links": ["api", "settings"],
    # Gradio hides a link on phones and leaves the point beside it; style.css doesn't reach the footer.
    "head": "<style>@media (max-width: 640px) { footer > .divider { display: none; } }</style>",
}


def build(desk: Desk, examples: Sequence[QAPair] = (), name: str = "The library") -> gr.Blocks:
    """Lay out the page over what it offers."""
    with _blocks() as page:
        gr.HTML(
            f'<header class="nyx-head"><h1>Nyx</h1><p>{len(desk.library)} pages of text and pictures. Ask with words, '
            "pictures, or both in one question.</p></header>"
        )
        query = lay_out(desk.library, name)
        add_endpoints(desk, query)  # first, because names are given in this order
        chosen = _examples(examples, query.question) if examples else None
        with gr.Tabs(selected="results") as tabs:
            with gr.Tab("Results", id="results"):
                results_tab(desk, query, tabs, chosen)
            with gr.Tab("Compare", id="compare"):
                compare_tab(desk, query)
            with gr.Tab("Answer", id="answer"):
                answer_tab(desk, query)
            with gr.Tab("Your pages", id="pages"):
                pages_tab(desk, query)
            with gr.Tab("About", id="about"):
                about_tab(desk)
    return page


def missing(reason: str) -> gr.Blocks:
    """Say what is missing, and what to run."""
    with _blocks() as page:
        gr.HTML(
            '<header class="nyx-head"><h1>Nyx</h1><p>There is nothing to search yet.</p></header>'
            + cards.notice(reason, "missing")
        )
        gr.Markdown(
            "- `make demo` trains a small retriever and indexes its pages: minutes on two cores, no downloads.\n"
            "- `nyx ingest PAGES -o chunks.parquet`, then `nyx index chunks.parquet -o index/ --model MODEL`, then "
            "`NYX_INDEX=index/`: your own pages.\n"
            "- `NYX_MODEL=org/nyx` and `NYX_DATASET=org/nyxqa`: a published retriever and corpus."
        )
    return page


def _blocks() -> gr.Blocks:
    page = gr.Blocks(title="Nyx", analytics_enabled=False, delete_cache=(SWEEP, HOUR))
    page.queue(max_size=32, default_concurrency_limit=2)
    return page


def _examples(pairs: Sequence[QAPair], question: gr.MultimodalTextbox) -> Any:
    """Offer questions, written as a visitor would: pictures as files, and marks where they stand."""
    folder, samples = Path(tempfile.mkdtemp(prefix="nyx-examples-")), []
    for number, pair in enumerate(pairs):
        files: list[str] = []
        words = ""
        for item in pair.question:
            if item["type"] == "text":
                words += item["text"]
                continue
            path = folder / f"{number}-{len(files)}.jpg"
            path.write_bytes(image_bytes(item["image"]))
            files.append(str(path))
            # One that comes first needs no mark: those that the words don't name do.
            words += f"[{len(files)}] " if words else ""
        samples.append([{"text": words, "files": files}])
    return gr.Examples(samples, [question], label="Examples, chosen from test questions that come out right")
