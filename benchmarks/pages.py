"""Real pages: how fast they are ingested and indexed, and how far the tiny encoder is from BM25 on them.

    python -m benchmarks.pages --pages docs.parquet --questions qa.parquet --name textbooks

`--pages`: what `nyx ingest` takes. `--questions`: what `nyx convert human-questions` takes. A document's rank is that
of its best chunk. The tiny encoder has 1.6 M parameters and was trained on imaginary moths alone, so it will lose:
this is a check that real pages pass through.
"""

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dataset_builders.chunks import chunk_documents, piece_counter
from dataset_builders.public_sets import PUBLIC_SETS, read_rows, to_records
from dataset_builders.schema import Chunk, QAPair
from dataset_builders.sources import count_pages, read_pages
from nyx.bm25 import BM25
from nyx.models import load_encoder
from nyx.ranking import top
from train_scripts.provenance import commit
from train_scripts.stage1 import prepare

RESULTS = Path(__file__).parent / "results" / "pages.json"


def ingest(pages: Path) -> tuple[list[Chunk], dict[str, Any]]:
    """Cut pages into chunks, each kept once; returns them and what happened."""
    reasons: Counter[str] = Counter()
    started = time.monotonic()
    documents = read_pages(pages, lambda _, reason: reasons.update([reason.split(":")[0][:60]]))
    counted = tqdm(documents, total=count_pages(pages), desc="pages")
    chunks = {chunk.id: chunk for chunk in chunk_documents(counted, piece_counter())}
    seconds = time.monotonic() - started
    pictures = sum(item["type"] == "image" for chunk in chunks.values() for item in chunk.content)
    about = {"pages": counted.n, "chunks": len(chunks), "pictures": pictures, "dropped": dict(reasons)}
    return list(chunks.values()), about | {"pages per second": round(counted.n / seconds, 1)}


def read_questions(path: Path) -> tuple[list[QAPair], list[str]]:
    """Return the human questions that can be used, and the reasons against the others."""
    public = PUBLIC_SETS["human-questions"]
    reasons: list[str] = []
    rows = read_rows(public, "train", str(path))
    return list(to_records(rows, public, None, lambda _, reason: reasons.append(reason))), reasons


def document_recall(positions: np.ndarray, chunks: list[Chunk], golds: Sequence[str]) -> dict[str, float]:
    """Score rankings of chunks (questions, depth) by document: at which place the gold one first appears."""
    found: dict[str, list[bool]] = {"recall@1": [], "recall@10": []}
    for row, gold in zip(positions, golds, strict=True):
        documents = list(dict.fromkeys(chunks[position].document_id for position in row))
        found["recall@1"].append(gold in documents[:1])
        found["recall@10"].append(gold in documents[:10])
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--name", required=True, help="under which the figures are kept")
    parser.add_argument("--model", default="runs/demo/stage2")
    args = parser.parse_args(argv)
    prepare()
    chunks, report = ingest(args.pages)
    encoder, started = load_encoder(args.model), time.monotonic()
    documents = encoder.encode_documents([chunk.content for chunk in chunks], show_progress=True)
    report["chunks embedded per second"] = round(len(chunks) / (time.monotonic() - started), 1)
    if args.questions:
        asked, _ = read_questions(args.questions)
        queries, golds = [each.question for each in asked], [each.gold_ids[0] for each in asked]
        depth = min(500, len(chunks))
        positions, _ = BM25([chunk.content for chunk in chunks]).search(queries, depth)
        report |= {"questions": len(asked), "bm25": document_recall(positions, chunks, golds)}
        ranked = top(encoder.encode_queries(queries, show_progress=True), documents, depth)
        report["tiny encoder"] = document_recall(ranked, chunks, golds)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    hardware = f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}"
    questions = f" --questions {args.questions.name}" if args.questions else ""
    options = f'{questions} --name "{args.name}" --model "{args.model}"'
    command = f"python -m benchmarks.pages --pages {args.pages.name}{options}"
    results[args.name] = {"command": command, "commit": commit(), "hardware": hardware, **report}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
