"""A search page: ask in words, with pictures or both; see the best chunks with their pictures in place.

python space/app.py                                        # what `make demo` left
python space/app.py --model org/nyx --dataset org/nyxqa    # a published retriever and corpus
python space/app.py --index index/                         # what `nyx index` wrote
"""

import argparse
import logging
import os
from typing import Any

import gradio as gr

from modeling_nyx import BadImage, load_image, to_content
from nyx.index import Hit, Index
from nyx.models import fingerprint, load_encoder
from nyx.records import Chunk, load_records

DEMO_INDEX = "runs/demo/index"
UPLOAD_LIMIT = "10mb"
LONGEST_QUESTION = 2000
MOST_PICTURES = 4
HOUR = 3600


def open_index(model: str, index: str, dataset: str, split: str) -> tuple[Any, Index]:
    """Return an encoder, and an index that it made: the one in a folder, or a new one of a dataset's corpus."""
    if not dataset:
        name = model or Index.open(index).model_name
        return load_encoder(name), Index.open(index, model_name=name, revision=fingerprint(name))
    if not model:
        raise ValueError(f"Which model embeds {dataset}? Name it with --model (or NYX_MODEL).")
    encoder, chunks = load_encoder(model), list(load_records(Chunk, dataset, "corpus", split))
    vectors = encoder.encode_documents([chunk.content for chunk in chunks], show_progress=True)
    return encoder, Index.of(chunks, vectors, model_name=model)


def build(encoder: Any, index: Index) -> gr.Blocks:
    """Lay out the page. Uploads are read as pictures or refused; what is shown is encoded anew, text as plain text."""

    def search(question: dict[str, Any], count: int) -> list[dict[str, Any]]:
        pictures, words = question["files"], question["text"].strip()
        if len(pictures) > MOST_PICTURES or len(words) > LONGEST_QUESTION:
            raise gr.Error(f"At most {MOST_PICTURES} pictures and {LONGEST_QUESTION} characters.")
        try:
            items: list[Any] = [{"type": "image", "image": load_image(path)} for path in pictures]
            content = to_content([*items, *([words] if words else [])])
            hits = index.search(encoder.encode_queries([content]), int(count))[0]
        except BadImage as error:
            # Its message names the upload's place on this machine.
            raise gr.Error("That picture cannot be read. JPEG, PNG, WebP, GIF and BMP can.") from error
        except ValueError as error:
            raise gr.Error(str(error)) from error
        return [message(rank, hit) for rank, hit in enumerate(hits, 1)]

    with gr.Blocks(title="Nyx", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gr.Markdown(f"# Nyx\n\n{len(index.chunks)} chunks, searched with `{index.model_name}`.")
        question = gr.MultimodalTextbox(
            label="Question", placeholder="Words, pictures, or both", file_types=["image"], file_count="multiple"
        )
        count = gr.Slider(1, 20, value=5, step=1, label="Results")
        results = gr.Chatbot(
            label="Results", height=640, render_markdown=False, group_consecutive_messages=False, feedback_options=None
        )
        question.submit(search, [question, count], results, api_name="search")
    page.queue(max_size=32, default_concurrency_limit=1)
    return page


def message(rank: int, hit: Hit) -> dict[str, Any]:
    """Show a result: its rank, cosine and source, then its texts and pictures in their order."""
    parts: list[Any] = [f"{rank} · {hit.score:.3f} · {hit.source}"]
    for item in hit.content:
        parts.append(item["text"] if item["type"] == "text" else gr.Image(load_image(item["image"]), format="png"))
    return {"role": "assistant", "content": parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, words in (
        ("model", "", "folder or repository of the retriever; the index's own unless named"),
        ("index", DEMO_INDEX, "folder that `nyx index` wrote"),
        ("dataset", "", "folder or repository whose corpus is embedded, instead of an index"),
        ("split", "test", "which of the dataset's corpora"),
    ):
        variable = f"NYX_{name.upper()}"
        parser.add_argument(f"--{name}", default=os.environ.get(variable, default), help=f"{words} (or {variable})")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    page = build(*open_index(args.model, args.index, args.dataset, args.split))
    page.launch(max_file_size=UPLOAD_LIMIT, show_error=True)


if __name__ == "__main__":
    main()
