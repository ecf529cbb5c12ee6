"""Questions that people asked about textbooks: mined with BM25, trained on, and scored on other textbook sections.

    python -m benchmarks.textbooks --pages docs.parquet --questions qa.parquet --model runs/demo/stage1

`--pages`: what `nyx ingest` takes. `--questions`: what `nyx convert human-questions` takes. Questions are split by the
document they are about. The training corpus holds no document of the other splits' questions, so that none of them is
a negative; the test corpus holds all. A document's rank is that of its best chunk. The tiny encoder has 1.6 M
parameters, has read imaginary moths alone before, and trains for minutes.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.pages import document_recall, ingest, read_questions
from dataset_builders.card import write_card
from dataset_builders.schema import Chunk, QAPair, read_records, write_records
from modeling_nyx.content_nyx import Content
from nyx.bm25 import BM25
from nyx.models import load_encoder, shown
from nyx.ranking import top
from train_scripts import mine_negatives, stage1
from train_scripts.provenance import commit, hardware

RESULTS = Path(__file__).parent / "results" / "textbooks.json"
SHARES = {"validation": 0.1, "test": 0.2}
DEPTH = 500


def split_documents(documents: Sequence[str], seed: int) -> dict[str, set[str]]:
    """Deal documents to validation and test by their shares; training gets the rest."""
    names = sorted(set(documents))
    Random(seed).shuffle(names)
    splits, start = {}, 0
    for split, share in SHARES.items():
        end = start + round(share * len(names))
        splits[split], start = set(names[start:end]), end
    return splits | {"train": set(names[start:])}


def write_dataset(folder: Path, chunks: Sequence[Chunk], questions: Sequence[QAPair], seed: int) -> dict[str, int]:
    """Write corpus and questions of every split, and return how many questions each has.

    The validation corpus is its own documents' alone: it is embedded at every evaluation.
    """
    splits = split_documents([question.gold_ids[0] for question in questions], seed)
    held_out = splits["validation"] | splits["test"]
    corpora = {
        "train": [chunk for chunk in chunks if chunk.document_id not in held_out],
        "validation": [chunk for chunk in chunks if chunk.document_id in splits["validation"]],
        "test": chunks,
    }
    counts = {}
    for split, documents in splits.items():
        write_records(corpora[split], folder / "corpus" / f"{split}.parquet")
        own = (question for question in questions if question.gold_ids[0] in documents)
        counts[split] = write_records(own, folder / "qa" / f"{split}.parquet")
    write_card(folder, "textbooks", {"seed": seed, "questions": str(counts)})
    return counts


def score(model: str, chunks: list[Chunk], queries: list[Content], golds: Sequence[str]) -> dict[str, float]:
    """Rank all chunks for the queries by a model's embeddings."""
    encoder = load_encoder(model)
    documents = encoder.encode_documents([chunk.content for chunk in chunks], show_progress=True)
    return document_recall(top(encoder.encode_queries(queries, show_progress=True), documents, DEPTH), chunks, golds)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--model", default="runs/demo/stage1", help="where training starts")
    parser.add_argument("--folder", type=Path, default=Path("runs/textbooks"), help="for the dataset and the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=24)
    args = parser.parse_args(argv)
    stage1.prepare()
    dataset, trained = args.folder / "dataset", args.folder / "stage1"
    chunks, report = ingest(args.pages)
    questions, reasons = read_questions(args.questions)
    report |= {"questions left out": len(reasons), "questions": write_dataset(dataset, chunks, questions, args.seed)}
    counts = mine_negatives.run(mine_negatives.MiningArguments(str(dataset)))
    report["mining"] = {name: value for name, value in vars(counts).items() if name != "dropped"}
    asked: list[QAPair] = list(read_records(QAPair, dataset / "qa" / "test.parquet"))
    queries, golds = [each.question for each in asked], [each.gold_ids[0] for each in asked]
    positions, _ = BM25([chunk.content for chunk in chunks]).search(queries, DEPTH)
    report["bm25"] = document_recall(positions, chunks, golds)
    report["before"] = score(args.model, chunks, queries, golds)
    started = time.monotonic()
    recipe = ["--model_name_or_path", args.model, "--dataset", str(dataset), "--output_dir", str(trained)]
    length = {"max_steps": args.steps, "per_device_train_batch_size": args.batch, "eval_steps": args.steps}
    length |= {"save_steps": args.steps, "warmup_steps": args.steps // 10, "seed": args.seed}
    options = [part for name, value in length.items() for part in (f"--{name}", str(value))]
    stage1.main([*recipe, *options, "--resume", "false"])
    report["training seconds"] = round(time.monotonic() - started)
    report["after"] = score(str(trained), chunks, queries, golds)
    curve = json.loads((trained / "curve.json").read_text())
    report["validation recall@5"] = [row["eval_recall@5"] for row in curve if "eval_recall@5" in row]
    write_report(args, report)


def write_report(args: argparse.Namespace, report: dict[str, Any]) -> None:
    command = (
        f"python -m benchmarks.textbooks --pages {args.pages.name} --questions {args.questions.name} "
        f"--model {shown(args.model)} --seed {args.seed} --steps {args.steps} --batch {args.batch}"
    )
    about = {"command": command, "commit": commit(), "hardware": f"{hardware()}, 1 thread, torch {torch.__version__}"}
    RESULTS.write_text(json.dumps(about | report, indent=1) + "\n")


if __name__ == "__main__":
    main()
