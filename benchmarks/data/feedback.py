"""Feedback of a reader, killed, and on a corpus that grows."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.data.reader import MODEL, noise
from benchmarks.data.runs import ANSWERS, DATASET, Job, bar, kill_and_resume, measure_growth
from dataset_builders.almanac import TINY_VLM
from dataset_builders.almanac_guide import field_guide
from dataset_builders.schema import Chunk, QAPair, read_records, write_records
from modeling_nyx.content_nyx import Content, text_of

CONCURRENCY = 8


def feedback(*options: str) -> Job:
    command = [sys.executable, "-m", "train_scripts.collect_feedback", "--dataset", DATASET]
    command += ["--retriever", str(TINY_VLM), "--concurrency", str(CONCURRENCY), *options]
    steps = {"search": bar("embed"), "read": bar("read")}
    return Job(lambda url: [*command, "--reader", f"{url}#{MODEL}"], steps, asks="read")


def write_dataset(folder: Path, chunks: Any, pairs: list[QAPair]) -> None:
    """Write corpus and questions, and their answers for the server."""
    write_records(chunks, folder / DATASET / "corpus" / "train.parquet")
    write_records(pairs, folder / DATASET / "qa" / "train.parquet")
    (folder / ANSWERS).write_text(json.dumps({text_of(pair.question): pair.answers[0] for pair in pairs}))


def almanac(folder: Path, questions: int = 1100) -> Path:
    chunks, pairs = field_guide("train", questions // 3, 0)
    write_dataset(folder, chunks, list({text_of(pair.question): pair for pair in pairs}.values())[:questions])
    return folder


def measure_kills(folder: Path) -> dict[str, Any]:
    report = kill_and_resume(feedback("--candidates", "8"), almanac, folder, CONCURRENCY)
    dataset = folder / "killed" / DATASET
    done = [
        json.loads(line)["id"] for line in (dataset / "feedback" / "train.verdicts.jsonl").read_text().splitlines()
    ]
    asked: list[QAPair] = list(read_records(QAPair, dataset / "qa" / "train.parquet"))
    return report | {"every question once": done == [pair.id for pair in asked]}


def picture_pages(folder: Path, count: int) -> dict[str, Any]:
    """Write a corpus of pages with a picture each, and a question about every fourth."""
    chunks = (Chunk(f"c{number}", f"d{number}", "s", page(number)) for number in range(count))
    asked = [(f"Where does moth {number} live?", f"bay {number}.") for number in range(0, count, 4)]
    pairs = [
        QAPair(question, [{"type": "text", "text": question}], [answer], [], None, [], "text")
        for question, answer in asked
    ]
    write_dataset(folder, chunks, pairs)
    size = (folder / DATASET / "corpus" / "train.parquet").stat().st_size
    return {"questions": len(pairs), "MB of pages": round(size / 2**20, 1)}


def page(number: int) -> Content:
    text = f"Moth {number} lives in bay {number}."
    return [{"type": "text", "text": text}, {"type": "image", "image": noise(64, number)}]


def measure_memory(folder: Path, pages: int = 1200) -> dict[str, Any]:
    return measure_growth(feedback(), picture_pages, folder, [pages, 10 * pages])
