"""The whole recipe on the Almanac: data → stage 1 → feedback → stage 2 → index → answers, and one table.

    python train_scripts/demo.py
    python train_scripts/demo.py --folder runs/other --steps 20      # a quick look at every step

Stage 1 and its baseline, the same network trained on text and pictures apart, run side by side.
"""

import argparse
import json
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dataset_builders.almanac import TINY_VLM, build, write_pages
from modeling_nyx import NyxModel
from nyx.bm25 import BM25
from nyx.index import Index
from nyx.models import fingerprint
from nyx.ranking import top
from nyx.reader import Reader
from train_scripts import apart, collect_feedback, stage1, stage2
from train_scripts.scoring import DEPTH, Guide, dimension_rows, encode, reader_row, retriever_row

logger = logging.getLogger(__name__)

COLUMNS = {"recall@1": "Recall@1", "recall@5": "Recall@5", "mrr": "MRR", "answer_em": "Answer EM"}


def start_baseline(folder: Path, arguments: list[str], steps: int) -> subprocess.Popen | None:
    """Begin to train the baseline in a process of its own, if it isn't there yet."""
    if (folder / "apart" / "model.safetensors").exists():
        return None
    command = [sys.executable, apart.__file__, *arguments, "--output_dir", str(folder / "apart")]
    with (folder / "apart.log").open("w") as log:
        return subprocess.Popen([*command, "--max_steps", str(steps)], stdout=log, stderr=subprocess.STDOUT)


def train_all(folder: Path, steps: list[str]) -> dict[str, float]:
    """Run every training step that hasn't left its result yet; returns the seconds each took."""
    data = ["--dataset", str(folder / "nyxqa")]
    first = ["--output_dir", str(folder / "stage1"), *data, *steps]
    second = ["--model_name_or_path", str(folder / "stage1"), "--output_dir", str(folder / "stage2"), *data, *steps]
    # The baseline gets as many steps as both stages together.
    both = stage1.parse(first, "stage1")[1].max_steps + stage1.parse(second, "stage2")[1].max_steps
    baseline, seconds = start_baseline(folder, data, both), {}
    started = time.monotonic()
    if not (folder / "stage1" / "model.safetensors").exists():
        heading("Stage 1: contrastive pre-training on topical pairs")
        stage1.train(*stage1.parse(first, "stage1"))
    seconds["stage 1"], started = time.monotonic() - started, time.monotonic()
    if not (folder / "nyxqa" / "feedback" / "train.parquet").exists():
        heading("Feedback: the reader judges what stage 1 retrieves")
        arguments = collect_feedback.FeedbackArguments(dataset=str(folder / "nyxqa"), retriever=str(folder / "stage1"))
        collect_feedback.run(arguments)
    seconds["feedback"], started = time.monotonic() - started, time.monotonic()
    if not (folder / "stage2" / "model.safetensors").exists():
        heading("Stage 2: fine-tuning on the feedback")
        stage2.train(*stage1.parse(second, "stage2"))
    seconds["stage 2"], started = time.monotonic() - started, time.monotonic()
    if baseline is not None:
        heading("Divide and conquer: waiting for the baseline to finish its steps")
        if baseline.wait() != 0:
            raise RuntimeError(f"The baseline failed; see {folder / 'apart.log'}.")
    seconds["waiting for the baseline"] = time.monotonic() - started
    return seconds


def evaluate(folder: Path) -> dict[str, Any]:
    """Index the test guide, ask its questions, and score every retriever."""
    guide = Guide.read(folder / "nyxqa", "test")
    write_pages(guide.chunks, folder / "almanac")
    reader = Reader.from_pretrained(TINY_VLM, cache=folder / "answers.sqlite")
    heading(f"{len(guide.questions)} questions on {len(guide.chunks)} pages of unseen species")
    rows = [reader_row("no document", guide, [[] for _ in guide.questions], reader)]
    positions, _ = BM25(guide.documents).search(guide.queries, DEPTH)
    rows.append(retriever_row("bm25", guide, positions, reader)[0])
    rows.append(divide_and_conquer_row(folder, guide, reader))
    for name in ("stage 1", "stage 2"):
        model = NyxModel.from_pretrained(folder / name.replace(" ", ""))
        queries, documents = encode(model, guide)
        rows.append(retriever_row(name, guide, top(queries, documents, DEPTH), reader)[0])
    rows.append(reader_row("gold document", guide, [[document] for document in guide.gold_documents()], reader))
    dims = model.config.matryoshka_dimensions
    if not (folder / "index" / "manifest.json").exists():
        name = str(folder / "stage2")
        Index.create(folder / "index", guide.chunks, documents, model_name=name, revision=fingerprint(name))
    return {"rows": rows, "dimensions": dimension_rows(guide, queries, documents, dims)}


def divide_and_conquer_row(folder: Path, guide: Guide, reader: Reader) -> dict[str, Any]:
    """Score the baseline by averaging and by score fusion, and keep the better Recall@5."""
    model = NyxModel.from_pretrained(folder / "apart")
    scores = apart.apart_scores(model, guide.queries, guide.documents)
    rows = []
    for way, score in zip(("averaging", "score fusion"), scores, strict=True):
        positions = (-score).argsort(axis=1, kind="stable")[:, :DEPTH]
        rows.append(retriever_row("divide and conquer", guide, positions, reader)[0] | {"way": way})
    return max(rows, key=lambda row: row["recall@5"])


def heading(words: str) -> None:
    Console(stderr=True).rule(words, align="left")


def show(report: dict[str, Any], console: Console) -> None:
    """Print the three tables of a report."""
    table = Table("Retriever", *COLUMNS.values(), title="The Almanac: unseen species, one document read")
    for row in report["rows"]:
        table.add_row(row["retriever"], *(f"{row[key]:.3f}" if key in row else "–" for key in COLUMNS))
    console.print(table)
    retrievers = [row for row in report["rows"] if "recall@5" in row]
    kinds = list(retrievers[0]["recall@5_by_kind"])
    table = Table("Retriever", *kinds, title="Recall@5 by kind of question")
    for row in retrievers:
        table.add_row(row["retriever"], *(f"{row['recall@5_by_kind'][kind]:.3f}" for kind in kinds))
    console.print(table)
    table = Table("Dimensions", "Recall@1", "Recall@5", title="Stage 2, by prefix of the embedding")
    for row in report["dimensions"]:
        table.add_row(str(row["dim"]), f"{row['recall@1']:.3f}", f"{row['recall@5']:.3f}")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"), help="where everything is written")
    parser.add_argument("--steps", type=int, help="train every stage for so many steps instead of the recipe's")
    args = parser.parse_args(argv)
    stage1.prepare()
    started = time.monotonic()
    args.folder.mkdir(parents=True, exist_ok=True)
    heading("The Almanac: pages, questions, and stage 1's examples")
    build(args.folder / "nyxqa")
    seconds = {"data": time.monotonic() - started}
    seconds |= train_all(args.folder, ["--max_steps", str(args.steps)] if args.steps else [])
    scored = time.monotonic()
    report = evaluate(args.folder)
    seconds |= {"evaluation": time.monotonic() - scored, "all": time.monotonic() - started}
    report |= {"seconds": {step: round(taken, 1) for step, taken in seconds.items()}, "machine": platform.machine()}
    for place in (args.folder, args.folder / "stage2"):  # beside the weights, for the model's card
        (place / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    console = Console()
    show(report, console)
    console.print(f"Report: {args.folder / 'report.json'} · checkpoint: {args.folder / 'stage2'}")
    console.print("Next: source .venv/bin/activate")
    console.print(f'nyx search {args.folder / "index"} "Where does the moth Vela mirabilis live?"')
    console.print(f"Your own pages, as those in {args.folder / 'almanac'}: nyx ingest PAGES -o chunks.parquet")


if __name__ == "__main__":
    main()
