"""A benchmark: a dataset folder's corpus, the questions asked of it, and how their answers are scored."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dataset_builders.corpus import Corpus
from dataset_builders.gold import GoldChunks
from dataset_builders.schema import QAPair, read_records

FACTS = "benchmark.json"


@dataclass(frozen=True)
class Benchmark:
    """Questions, and for each the ids of the chunks that answer it, in the corpus' order.

    `scorer`: a name of `evaluation.scorers`; empty: `choice` for questions with options, `squad` for others.
    `documents`: how many the reader is given unless told otherwise (`Settings.documents`). `revision`: a hash of both
    files.
    """

    name: str
    split: str
    scorer: str
    documents: dict[str, int]
    corpus: Corpus
    questions: list[QAPair]
    gold: list[list[str]]
    revision: str

    @classmethod
    def open(cls, folder: Path, split: str = "test") -> "Benchmark":
        """Read a folder; `benchmark.json` may name the benchmark, its scorer and its documents.

        Raises `ValueError` if there are no questions, or no corpus.
        """
        qa, chunks = (folder / name / f"{split}.parquet" for name in ("qa", "corpus"))
        if not qa.is_file():
            raise ValueError(
                f"{folder} has no questions in {split}: there is no {qa}. Name another folder or --split."
            )
        facts = json.loads((folder / FACTS).read_text()) if (folder / FACTS).is_file() else {}
        questions: list[QAPair] = list(read_records(QAPair, qa))
        if not questions:
            raise ValueError(f"{folder} has no questions in {split}.")
        if twice := [name for name, count in Counter(each.id for each in questions).items() if count > 1]:
            raise ValueError(
                f"{qa} has {len(twice)} ids with several questions, {twice[0]!r} first. Give each its own."
            )
        corpus = Corpus.open(chunks)
        gold = GoldChunks(corpus.ids, [corpus.documents[chunk] for chunk in corpus.ids], corpus.sources)
        return cls(
            facts.get("name") or folder.resolve().name,
            split,
            facts.get("scorer", ""),
            facts.get("documents") or {"": 1},
            corpus,
            questions,
            [[corpus.ids[place] for place in sorted(set(gold.all(question)))] for question in questions],
            _hash(qa, chunks),
        )


def _hash(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
