"""`nyx build-qa` against a server that takes its time: how fast it asks, killed, and on pages that grow."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data.reader import LATENCY, MODEL, noise, one_after_the_other
from benchmarks.data.runs import ANSWERS, DATASET, Job, bar, file, kill_and_resume, lines, measure_growth
from benchmarks.data.slow_server import slow_server
from dataset_builders.almanac import write_pages
from dataset_builders.almanac_guide import field_guide
from dataset_builders.nyxqa import build
from dataset_builders.pairs import QARule, modality_of
from dataset_builders.prompts import ask_pairs
from dataset_builders.questions import PASSES
from dataset_builders.questions_report import plotting
from dataset_builders.schema import Chunk, QAPair, read_records, write_records
from nyx.engines import Request
from nyx.reader import Reader

CONCURRENCY = 8
PAGES = "pages"
STEPS = {
    "ingest": bar("pages"),
    "ask": bar("read"),
    # The pairs' file is whole when the last one is.
    "write": file(f"{DATASET}/qa/.pairs.{{pid}}.partial"),
    "mine": bar("batches of questions"),
}


def build_qa(pages: str = PAGES) -> Job:
    nyx = str(Path(sys.executable).with_name("nyx"))
    command = [nyx, "build-qa", pages, "--output", DATASET, "--concurrency", str(CONCURRENCY), "--chunks", "1000000"]
    return Job(lambda url: [*command, "--reader", f"{url}#{MODEL}"], STEPS, asks="ask")


def first_requests(chunks: Iterable[Chunk]) -> Iterator[Request]:
    """Yield what is asked first about each chunk."""
    for chunk in chunks:
        instruction, _ = PASSES[modality_of(chunk)][0]
        yield ask_pairs(chunk.content, instruction)


def measure(folder: Path, species: int = 15) -> dict[str, Any]:
    """Time all of `build`, from the draw to the card, on an Almanac that grows with the concurrency."""
    plotting()  # what is imported is there
    report: dict[str, Any] = {"latency": LATENCY, "concurrency": {}}
    log = folder / "log"
    with slow_server(LATENCY, log) as url:
        chunks = field_guide("train", species, 0)[0]
        naive = one_after_the_other(url, islice(first_requests(chunks), 101))
        report["one after the other, rows per second"] = round(naive, 2)
        for concurrency in (8, 32):
            place, source = folder / str(concurrency), folder / f"{concurrency}.parquet"
            write_records(field_guide("train", species * concurrency, 0)[0], source)
            reader = Reader.from_server(url, MODEL, concurrency=concurrency, cache=place / "qa" / "answers.sqlite")
            before, wall, own = lines(log), time.monotonic(), time.process_time()
            made = build(source, place, reader, MODEL, QARule(chunks=10**6))
            wall, own = time.monotonic() - wall, time.process_time() - own
            calls, pairs = lines(log) - before, made.kept.total()
            report["concurrency"][concurrency] = {
                "chunks": made.sampled.total(),
                "rows": calls,
                "pairs": pairs,
                "rows per second": round(calls / wall, 1),
                "share of concurrency × one after the other": round(calls / wall / (concurrency * naive), 3),
                "own CPU ms per row": round(own / calls * 1000, 3),
                "own CPU ms per pair": round(own / pairs * 1000, 3),
            }
    return report


def almanac(folder: Path, species: int = 400) -> Path:
    write_pages(field_guide("train", species, 0)[0], folder / PAGES)
    (folder / ANSWERS).write_text("{}")
    return folder


def measure_kills(folder: Path) -> dict[str, Any]:
    report = kill_and_resume(build_qa(), almanac, folder, CONCURRENCY)
    dataset = folder / "killed" / DATASET
    asked: list[QAPair] = [pair for path in (dataset / "qa").glob("*.parquet") for pair in read_records(QAPair, path)]
    left_out = [json.loads(line) for line in (dataset / "qa" / "rejected.jsonl").read_text().splitlines()]
    counts = json.loads((dataset / "qa" / "report.json").read_text())["counts"]
    about = {pair.gold_ids[0] for pair in asked} | {each["chunk"] for each in left_out if "chunk" in each}
    return report | {
        "chunks": sum(counts["chunks asked about"]),
        "pairs": len(asked),
        "no pair twice": len({pair.id for pair in asked}) == len(asked),
        "every chunk asked about": len(about) == sum(counts["chunks"]) == sum(counts["chunks asked about"]),
        "every pair kept or left out": sum(counts["pairs written"])
        == len(asked) + sum(each["step"] != "chunk" for each in left_out),
    }


def picture_pages(folder: Path, count: int) -> dict[str, Any]:
    """Write pages of about 120 words and a picture of 12 kB each, of which the server makes one question."""
    folder.mkdir(parents=True)
    (folder / ANSWERS).write_text("{}")
    path, rng = folder / f"{PAGES}.parquet", Random(0)
    schema = pa.schema({"texts": pa.list_(pa.string()), "images": pa.list_(pa.binary())})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, 100):
            rows = [page(number, rng) for number in range(start, start + 100)]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return {"MB of pages": round(path.stat().st_size / 2**20, 1)}


def page(number: int, rng: Random) -> dict[str, Any]:
    text = f"Moth {number} lives in bay {number} {words(rng)}"
    return {"texts": [text, None], "images": [None, noise(64, number)]}


def words(rng: Random, count: int = 115) -> str:
    """Write words, of which few come often, as in a language."""
    numbers = (int(rng.paretovariate(0.7)) % 30_000 for _ in range(count))
    return " ".join("".join(chr(ord("a") + int(digit)) for digit in str(number)) for number in numbers)


def measure_memory(folder: Path, pages: int = 1200) -> dict[str, Any]:
    return measure_growth(build_qa(f"{PAGES}.parquet"), picture_pages, folder, [pages, 10 * pages])
