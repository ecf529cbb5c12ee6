"""What feedback buys on the Almanac, over several seeds and against controls.

    python -m benchmarks.almanac                 # seeds 0 1 2, two at a time: 25 to 45 minutes on two cores
    python -m benchmarks.almanac --seeds 3 4

Every seed is another world and another order of training. Four retrievers are compared: stage 1 at its plateau, stage
1 continued for stage 2's steps, stage 2 on gold labels, stage 2 on the reader's feedback. All start from the same
stage 1, with the same learning rate, batches, steps and replay.
"""

import argparse
import json
import logging
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import in_common
from dataset_builders.almanac import TINY_VLM, build
from dataset_builders.schema import Example, write_records
from evaluation.statistics import compare, sign_test
from modeling_nyx.content_nyx import Content
from nyx.bm25 import BM25
from nyx.metrics import mean
from nyx.models import load_encoder
from nyx.ranking import rank, top
from nyx.reader import Reader
from train_scripts import collect_feedback, stage1, stage2
from train_scripts.data import Examples, read_validation
from train_scripts.fit import fit
from train_scripts.provenance import commit
from train_scripts.scoring import (
    DEPTH,
    Guide,
    dimension_rows,
    encode,
    order_wins,
    random_documents,
    reader_row,
    replaced_pictures,
    retriever_row,
)

logger = logging.getLogger(__name__)

RESULTS = Path(__file__).parent / "results" / "almanac.json"
RETRIEVERS = ("stage 1", "stage 1 continued", "gold labels", "stage 2")


def gold_examples(folder: Path, retriever: Path) -> Iterator[Example]:
    """Yield what feedback would give if every verdict were right: gold chunks against retrieved ones that aren't."""
    guide = Guide.read(folder, "train")
    content = {chunk.id: chunk.content for chunk in guide.chunks}
    rankings = rank(load_encoder(retriever), guide.chunks, guide.queries, 8)
    for question, ranked in zip(guide.questions, rankings, strict=True):
        gold = set(question.gold_ids)
        found = [chunk for chunk in ranked if chunk in gold]
        positives = [*found, *(chunk for chunk in question.gold_ids if chunk not in found)]
        negatives = [chunk for chunk in ranked if chunk not in gold]
        if found and negatives:
            yield Example(
                id=question.id,
                query=question.question,
                positives=[content[chunk] for chunk in positives],
                negatives=[content[chunk] for chunk in negatives],
                answers=question.answers,
            )


def train_seed(folder: Path, seed: int, steps: Sequence[str] = ()) -> str:
    """Train all retrievers of a seed, as far as they aren't there; returns what became of the feedback."""
    data = build(folder / "nyxqa", seed=seed)
    common = ["--dataset", str(data), "--seed", str(seed), "--data_seed", str(seed), *steps]
    first = folder / "stage 1"
    if not (first / "model.safetensors").exists():
        stage1.train(*stage1.parse([*common, "--output_dir", str(first)], "stage1"))
    counts = "kept from an earlier run"
    if not (data / "feedback" / "train.parquet").exists():
        feedback = collect_feedback.FeedbackArguments(dataset=str(data), retriever=str(first))
        counts = str(collect_feedback.run(feedback))
    if not (data / "gold" / "train.parquet").exists():
        write_records(gold_examples(data, first), data / "gold" / "train.parquet")
    for name in RETRIEVERS[1:]:
        output = folder / name
        if (output / "model.safetensors").exists():
            continue
        arguments = ["--model_name_or_path", str(first), "--output_dir", str(output), *common]
        parsed = stage1.parse(arguments, "stage2")
        if name == "stage 1 continued":
            parsed[0].replay = 0.0  # all of it is stage 1
            parsed[1].seed = parsed[1].data_seed = seed + 1000  # another order than stage 1 began with
            stage1.train(*parsed)
        elif name == "gold labels":
            gold = Examples(data / "gold" / "train.parquet")
            mixed = gold.mixed(Examples(data / "triplets" / "train.parquet"), parsed[0].replay, seed)
            fit(str(first), mixed, read_validation(data), *parsed)
        else:
            stage2.train(*parsed)
    return counts


def score_seed(folder: Path, counts: str) -> dict[str, Any]:
    """Score all retrievers of a seed and the reader's controls; keeps every question's outcome."""
    guide = Guide.read(folder / "nyxqa", "test")
    reader = Reader.from_pretrained(TINY_VLM, cache=folder / "answers.sqlite")
    gold = [[document] for document in guide.gold_documents()]
    controls: dict[str, list[list[Content]]] = {
        "gold document": gold,
        "random document": random_documents(guide),
        "no document": [[] for _ in guide.questions],
        "pictures replaced": replaced_pictures(guide),
    }
    report: dict[str, Any] = {
        "questions": len(guide.questions),
        "feedback": counts,
        "reader": {name: reader_row(name, guide, documents, reader) for name, documents in controls.items()},
        "retrievers": {},
        "em": {},
    }
    positions, _ = BM25(guide.documents).search(guide.queries, DEPTH)
    report["retrievers"]["bm25"] = retriever_row("bm25", guide, positions, reader)[0]
    for name in RETRIEVERS:
        model = load_encoder(folder / name)
        queries, documents = encode(model, guide)
        row, answers = retriever_row(name, guide, top(queries, documents, DEPTH), reader)
        row["dimensions"] = dimension_rows(guide, queries, documents, model.config.matryoshka_dimensions)
        row["order"] = order_wins(guide, queries, documents)
        log = json.loads((folder / name / "curve.json").read_text())
        kept = ("step", "loss", "eval_recall@1", "eval_recall@5", "eval_mrr")
        row["curve"] = [{key: each[key] for key in kept if key in each} for each in log]
        report["retrievers"][name], report["em"][name] = row, answers.em
    return report


def against(better: Sequence[float], worse: Sequence[float]) -> dict[str, Any]:
    """Compare paired outcomes; the difference and its interval are in points."""
    found = compare(better, worse)
    points = {"points": 100 * found.difference, "interval": [100 * bound for bound in found.interval]}
    return points | {"won": found.won, "lost": found.lost, "p": found.p}


def summarise(seeds: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Pool the seeds: means, differences, and paired tests over all questions."""
    pooled = {name: [value for seed in seeds.values() for value in seed["em"][name]] for name in RETRIEVERS}
    rows = {}
    for name in ("bm25", *RETRIEVERS):
        each = [seed["retrievers"][name] for seed in seeds.values()]
        rows[name] = {key: mean([row[key] for row in each]) for key in ("recall@1", "recall@5", "mrr", "answer_em")}
    dims = [seed["retrievers"]["stage 2"]["dimensions"] for seed in seeds.values()]
    dimensions = {row["dim"]: mean([each[i]["recall@5"] for each in dims]) for i, row in enumerate(dims[0])}
    order = {}
    for name in RETRIEVERS:
        won, asked = (sum(seed["retrievers"][name]["order"][i] for seed in seeds.values()) for i in (0, 1))
        order[name] = {"right page above its twin": won, "asked": asked, "p": sign_test(won, asked - won)}
    return {
        "questions": len(pooled["stage 1"]),
        "retrievers": rows,
        "stage 2 recall@5 by dimension": dimensions,
        "order questions": order,
        "answer EM, paired": {
            f"stage 2 − {name}": against(pooled["stage 2"], pooled[name]) for name in RETRIEVERS[:-1]
        },
        "reader EM": {
            control: mean([seed["reader"][control]["answer_em"] for seed in seeds.values()])
            for control in next(iter(seeds.values()))["reader"]
        },
        "reader EM, pictures replaced, visual questions": mean(
            [seed["reader"]["pictures replaced"]["answer_em_by_kind"]["look"] for seed in seeds.values()]
        ),
    }


def as_markdown(summary: dict[str, Any]) -> str:
    """Write the summary as the tables that README and the model card show."""
    lines = ["| retriever | Recall@1 | Recall@5 | MRR | answer EM |", "|---|---|---|---|---|"]
    for name, row in summary["retrievers"].items():
        figures = " | ".join(f"{row[key]:.3f}" for key in ("recall@1", "recall@5", "mrr", "answer_em"))
        lines.append(f"| {name} | {figures} |")
    lines += ["", "| answer EM of stage 2 | points | won : lost | McNemar p |", "|---|---|---|---|"]
    for name, test in summary["answer EM, paired"].items():
        against = name.removeprefix("stage 2 − ")
        lines.append(
            f"| against {against} | {test['points']:+.1f} | {test['won']} : {test['lost']} | {test['p']:.1e} |"
        )
    order = summary["order questions"]
    asked = order["stage 2"]["asked"]
    lines += [
        "",
        f"| order of two pictures, {asked} questions | right page above its twin | sign test p |",
        "|---|---|---|",
    ]
    for name, test in order.items():
        lines.append(f"| {name} | {test['right page above its twin']} | {test['p']:.1e} |")
    dims = summary["stage 2 recall@5 by dimension"]
    lines += ["", "| dimensions | " + " | ".join(str(dim) for dim in dims) + " |", "|---|" + "---|" * len(dims)]
    lines.append("| Recall@5 of stage 2 | " + " | ".join(f"{value:.3f}" for value in dims.values()) + " |")
    return "\n".join(lines)


def about() -> dict[str, Any]:
    """Say what runs a seed, on what."""
    hardware = f"{platform.processor() or platform.machine()}, 1 thread a seed, torch {torch.__version__}"
    return {"command": "python -m benchmarks.almanac", "commit": commit(), "hardware": hardware}


def run_seed(folder: Path, seed: int) -> dict[str, Any]:
    """Run one seed in a process of its own; what it has finished before is kept."""
    place = folder / f"seed{seed}"
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "report.json").exists():
        logger.info("seed %d runs; what it says is in %s", seed, place / "log.txt")
        with (place / "log.txt").open("a") as log:
            command = [sys.executable, "-m", "benchmarks.almanac", "--folder", str(folder), "--one", str(seed)]
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    logger.info("seed %d is done", seed)
    return json.loads((place / "report.json").read_text())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    stage1.prepare()
    if args.one is not None:
        place = args.folder / f"seed{args.one}"
        report = {"about": about()} | score_seed(place, train_seed(place, args.one))
        (place / "report.json").write_text(json.dumps(report))
        return
    with ThreadPoolExecutor(max_workers=2) as pool:
        reports = dict(zip(args.seeds, pool.map(lambda seed: run_seed(args.folder, seed), args.seeds), strict=True))
    summary = summarise(reports)
    left_out = ("about", "em")
    per_seed = {seed: {key: each[key] for key in each if key not in left_out} for seed, each in reports.items()}
    origin = in_common([each["about"] for each in reports.values()])
    RESULTS.write_text(json.dumps({**origin, "summary": summary, "seeds": per_seed}, indent=1) + "\n")
    logger.info("%s", json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
