"""Benchmarks as dataset folders: a public set's questions, or one's own, and the corpus they are asked of.

A folder holds one split, `test`, whatever the set calls it, and `benchmark.json`: its name, its scorer
(`evaluation.scorers`), and where its questions are from.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from huggingface_hub import snapshot_download
from tqdm import tqdm

from dataset_builders.card import write_card
from dataset_builders.public_multimodal import scienceqa_example, scienceqa_lecture
from dataset_builders.public_sets import (
    PUBLIC_SETS,
    PublicSet,
    each_once,
    noting,
    read_rows,
    records_by_row,
    write_parts,
)
from dataset_builders.public_text import Row, as_text, passage
from dataset_builders.schema import Chunk, Dropped, QAPair, read_records
from evaluation.benchmark import FACTS
from evaluation.scorers import CHOICE

SPLIT = "test"
SEED = 42


@dataclass(frozen=True)
class PublicBenchmark:
    """How the paper uses a public set: the split with its questions, how many of them, and who scores the answers.

    Without a scorer each question is scored by what it is: `choice` with options, else `squad`. `further` reads
    documents of other splits into the corpus, by a function a split; `documents` is how many the reader is given, by
    their source, where it isn't the best one of all.
    """

    split: str
    scorer: str
    questions: int | None = None
    licence: str = ""
    repository: str = ""
    further: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)


LECTURES = {"train": scienceqa_example, "validation": scienceqa_lecture}
SHOWN = {"lecture": 1, "example": 2}
BENCHMARKS = {
    "hotpotqa": PublicBenchmark("validation", "hotpotqa", 250, "CC BY-SA 4.0"),
    "musique": PublicBenchmark("validation", "musique", 250, "CC BY 4.0"),
    "2wikimultihopqa": PublicBenchmark("validation", "hotpotqa", 250, "Apache-2.0"),
    "bamboogle": PublicBenchmark("test", "squad", licence="MIT"),
    "multimodalqa": PublicBenchmark("validation", "multimodalqa"),
    "scienceqa": PublicBenchmark("test", CHOICE, licence="CC BY-NC-SA 4.0", further=LECTURES, documents=SHOWN),
    "nyxqa": PublicBenchmark("test", CHOICE, repository="SnowNation/NyxQA"),
}
# Which shape a file's rows have is seen by their columns, in this order.
SHAPES = ("hotpotqa", "musique", "bamboogle", "scienceqa", "human-questions", "questions")


def build(
    name: str,
    folder: Path,
    dropped: Dropped,
    *,
    source: str = "",
    corpus: Path | None = None,
    images: Path | None = None,
    questions: int | None = None,
    seed: int = SEED,
) -> dict[str, Any]:
    """Write a benchmark of a public set (`BENCHMARKS`), or of a file of questions, and return `benchmark.json`.

    `source` is where the public set is read from instead of the Hub. The corpus is what the rows bring, deduplicated,
    or the one that is named: chunks as Parquet, or JSON lines of `title` and `text`. Without `questions` there are as
    many as in the paper, of a file all. Raises `ValueError` for another name, or without a question or a document.
    """
    benchmark, public, source = _find(name, source)
    reasons: list[str] = []
    dropped = noting(dropped, reasons)
    if public.pictures and images is None:
        images = Path(source) / "images"
    count = benchmark.questions if questions is None else questions
    rows = tqdm(read_rows(public, benchmark.split, source), desc="rows")
    chosen = sample(records_by_row(rows, public, images, dropped), count, seed)
    records = each_once(chain(_documents(benchmark, public, source, dropped), chosen))
    if corpus is not None:
        own = read_corpus(corpus, dropped)
        records = each_once([own, (record for record in records if isinstance(record, QAPair))])
    made = _write(_asked_once(records, dropped), folder, reasons)
    facts = {
        "name": Path(name).stem if Path(name).is_file() else name,
        **({"scorer": benchmark.scorer} if benchmark.scorer else {}),
        **({"documents": dict(benchmark.documents)} if benchmark.documents else {}),
        "source": Path(source).name if Path(source).exists() else source or public.repository,
        "source_split": "" if Path(source).is_file() else benchmark.split,
        "seed": seed,
        "licence": benchmark.licence,
        **made,
    }
    _replace(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    write_card(folder, "benchmark", facts)
    return facts


def _find(name: str, source: str) -> tuple[PublicBenchmark, PublicSet, str]:
    """Return how a set is used, how its rows are read, and where they lie."""
    if Path(name).is_file():
        row = next(iter(read_rows(PublicSet(iter, ()), "", name)), {})
        fitting = (shape for shape in SHAPES if all(column in row for column in PUBLIC_SETS[shape].columns))
        if (shape := next(fitting, None)) is None:
            known = "; ".join(", ".join(PUBLIC_SETS[shape].columns) for shape in SHAPES)
            raise ValueError(f"{name} has rows of {sorted(row)}; expected the columns of one of: {known}.")
        # Kept rows say which set they are of.
        known_as = row.get("dataset") or shape
        benchmark = BENCHMARKS.get(known_as, PublicBenchmark("", ""))
        licence = row.get("license") or benchmark.licence
        return PublicBenchmark("", benchmark.scorer, licence=licence), PUBLIC_SETS[shape], name
    if name not in BENCHMARKS:
        raise ValueError(f"Unknown benchmark {name!r}; expected a file, or one of {', '.join(BENCHMARKS)}.")
    benchmark, public = BENCHMARKS[name], PUBLIC_SETS[name]
    if benchmark.repository and not source:
        files = [each.format(split=benchmark.split) for each in public.files]
        source = snapshot_download(benchmark.repository, repo_type="dataset", allow_patterns=[*files, "images/**"])
    return benchmark, public, source


def _documents(benchmark: PublicBenchmark, public: PublicSet, source: str, dropped: Dropped) -> Iterator[list[Chunk]]:
    """Read the documents that a set keeps in its other splits; a single file has none."""
    for split, read in benchmark.further.items() if not Path(source).is_file() else ():
        rows = tqdm(read_rows(public, split, source), desc=split)
        told = _of_split(dropped, split)
        yield from records_by_row(rows, PublicSet(read, public.columns), None, told)


def _of_split(dropped: Dropped, split: str) -> Dropped:
    return lambda row, reason: dropped(f"{split}, {row}", reason)


def sample(groups: Iterable[list[Any]], count: int | None, seed: int) -> Iterator[list[Any]]:
    """Keep so many of the rows that hold a question, in their order, and all others; None keeps all.

    Every row is as likely to be kept (reservoir sampling): no more than `count` are held at a time.
    """
    random, kept, seen = Random(seed), {}, 0
    for number, group in enumerate(groups):
        if count is None or not any(isinstance(record, QAPair) for record in group):
            yield group
            continue
        place = seen if seen < count else random.randrange(seen + 1)
        if place < count:
            kept[place] = number, group
        seen += 1
    for _, group in sorted(kept.values(), key=lambda each: each[0]):
        yield group


def read_corpus(path: Path, dropped: Dropped) -> Iterator[Chunk]:
    """Read chunks that `nyx ingest` or a benchmark wrote, or JSON lines of `title` and `text`.

    Raises `ValueError` if a row lacks one of them; what is none is left out.
    """
    if path.suffix == ".parquet":
        yield from read_records(Chunk, path)
        return
    rows: Iterable[Row] = read_rows(PublicSet(iter, ()), "", str(path))
    for number, row in enumerate(rows):
        if not {"title", "text"} <= row.keys():
            raise ValueError(f"{path}, row {number} has {sorted(row)}; a corpus needs title and text.")
        try:
            yield passage(*("" if row[name] is None else as_text(row[name]) for name in ("title", "text")))
        except ValueError as error:
            dropped(f"{path.name}, row {number}", str(error))


def _asked_once(records: Iterable[Any], dropped: Dropped) -> Iterator[Any]:
    """Leave out questions whose id came before: what is found for one would count for both."""
    seen: set[str] = set()
    for record in records:
        if isinstance(record, QAPair):
            if record.id in seen:
                dropped(record.id, "a question of this id came before")
                continue
            seen.add(record.id)
        yield record


def _write(records: Iterable[Any], folder: Path, reasons: Sequence[str]) -> dict[str, int]:
    """Write the corpus as it comes, then the questions: only documents that are in it stay their gold ones.

    `reasons` say why rows were left out, once the records were read.
    """
    known: set[str] = set()
    asked: list[QAPair] = []

    def chunks_first() -> Iterator[Any]:
        for record in records:
            if isinstance(record, QAPair):
                asked.append(record)
            else:
                known.update((record.id, record.document_id, record.source))
                yield record
        if not asked:
            raise ValueError("; ".join(["There is no question that can be used", *reasons[:1]]) + ".")
        if not known:
            raise ValueError("The questions bring no documents. Name a corpus: chunks as Parquet, or JSON lines.")
        yield from (_within(question, known) for question in asked)

    counts = write_parts(chunks_first(), folder, SPLIT)
    lost = sum(not known.intersection(question.gold_ids) for question in asked)
    return {"questions": counts["qa"], "chunks": counts["corpus"], "questions_without_gold": lost}


def _within(question: QAPair, known: set[str]) -> QAPair:
    gold = [name for name in question.gold_ids if name in known]
    return question if gold == question.gold_ids else replace(question, gold_ids=gold)


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside.write_text(text)
    os.replace(aside, path)
