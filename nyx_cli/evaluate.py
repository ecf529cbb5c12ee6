"""`nyx evaluate`: a dataset of questions and a retriever → how good it is, and what it is worth to a reader."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dataset_builders.retrievers import BM25_NAME
from nyx.bm25 import BM25
from nyx.models import load_encoder
from nyx.ranking import top
from nyx.reader import Reader
from nyx_cli.output import Json, tell
from train_scripts.evaluation import DEPTH, Guide, dimension_rows, encode, retriever_row


def evaluate_command(
    dataset: Annotated[Path, typer.Argument(help="dataset folder with corpus and qa")],
    model: Annotated[str, typer.Option("--model", "-m", help=f"encoder: a folder or name; or {BM25_NAME}")],
    reader: Annotated[
        str, typer.Option("--reader", "-r", help="also let it answer from the first document: a folder or URL#MODEL")
    ] = "",
    split: Annotated[str, typer.Option(help="whose questions, and whose corpus")] = "test",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file of all figures")] = None,
    as_json: Json = False,
) -> None:
    """Score a retriever on a dataset's questions: Recall, MRR, nDCG.

    Each dimension that it was trained for is scored too, and with a reader its answers from the first document.

        nyx evaluate runs/demo/nyxqa --model runs/demo/stage2 --reader dataset_builders/almanac_vlm

        nyx evaluate runs/demo/nyxqa --model bm25 --split validation -o bm25.json
    """
    guide = Guide.read(dataset, split)
    if not guide.questions:
        raise ValueError(f"{dataset} has no questions in {split}.")
    rows: list[dict[str, Any]] = []
    if model == BM25_NAME:
        positions, _ = BM25(guide.documents).search(guide.queries, DEPTH)
    else:
        encoder = load_encoder(model)
        queries, documents = encode(encoder, guide)
        positions = top(queries, documents, DEPTH)
        rows = dimension_rows(guide, queries, documents, encoder.config.matryoshka_dimensions or ())
    scores = {"retriever": model, **guide.retrieval(positions)}
    if reader:
        cache = dataset / "qa" / "answers.sqlite"
        scores, _ = retriever_row(model, guide, positions, Reader.open(reader, cache=cache))
    report = {"split": split, "questions": len(guide.questions), **scores, "dimensions": rows}
    if output is not None:
        aside = output.with_name(f".{output.name}.{os.getpid()}.partial")
        aside.write_text(json.dumps(report, indent=1) + "\n")
        os.replace(aside, output)
    if as_json:
        tell("", report, as_json)
        return
    console = Console()
    table = Table(
        "", *[model, *(f"{row['dim']} dimensions" for row in rows)], title=f"{len(guide.questions)} questions"
    )
    for name in (name for name, value in scores.items() if isinstance(value, float)):
        table.add_row(name, *(f"{row[name]:.3f}" if name in row else "–" for row in (scores, *rows)))
    console.print(table)
