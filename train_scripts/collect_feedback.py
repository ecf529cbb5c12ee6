"""Between the stages: let the reader judge what stage 1 retrieves, and keep the verdicts as examples (section 3.3).

    python train_scripts/collect_feedback.py
    python train_scripts/collect_feedback.py --retriever runs/mine --reader Qwen/Qwen2.5-VL-3B-Instruct --window 3
    python train_scripts/collect_feedback.py --reader http://localhost:8000/v1 http://localhost:8001/v1

Writes into the dataset's folder `feedback/`: `train.parquet`, `train.dropped.jsonl` with the reasons,
`train.statistics.json`, and `train.verdicts.jsonl` with every window's score. Several readers have a folder of these
each, and `train.parquet` is then what follows from all of their verdicts. What was found and answered is kept there
too, so that a run that was stopped goes on where it was.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from itertools import chain, count, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from rich.console import Console

from dataset_builders.almanac import TINY_VLM
from dataset_builders.candidates import Search, nearest, read_candidates, retrieve
from dataset_builders.card import write_card
from dataset_builders.corpus import Corpus
from dataset_builders.feedback import FeedbackRule, Judged, Verdict, collect, read
from dataset_builders.feedback_statistics import FeedbackStatistics
from dataset_builders.json_lines import json_lines
from dataset_builders.one_run import one_run
from dataset_builders.schema import QAPair, read_records, write_records
from nyx.errors import plain_errors
from nyx.models import fingerprint, load_encoder, shown
from nyx.reader import Reader
from train_scripts.arguments import parse_arguments
from train_scripts.stage1 import make_almanac, prepare

logger = logging.getLogger(__name__)


@dataclass
class FeedbackArguments:
    """What is read by whom, and how its answers are judged (`dataset_builders.feedback.FeedbackRule`)."""

    dataset: str = field(default="runs/demo/nyxqa", metadata={"help": "dataset folder with corpus and qa"})
    retriever: str = field(default="runs/demo/stage1", metadata={"help": "the checkpoint whose results are read"})
    reader: list[str] = field(
        default_factory=list,
        metadata={"help": "vision-language models, or servers (URL, or URL#MODEL); the Almanac's own unless named"},
    )
    cache: str = field(default="", metadata={"help": "SQLite file of answers; in the dataset folder unless named"})
    concurrency: int = field(default=8, metadata={"help": "questions that a server gets at the same time"})
    timeout: float = field(default=120.0, metadata={"help": "seconds to wait for a server's answer"})
    questions: int = field(default=0, metadata={"help": "how many training questions to read for; 0: all"})
    candidates: int = field(default=8, metadata={"help": "documents retrieved a question (paper: K)"})
    window: int = field(default=1, metadata={"help": "documents read together (paper: L)"})
    stride: int = field(default=1, metadata={"help": "how far apart windows start"})
    metric: str = field(default="em", metadata={"help": "em, f1, accuracy, or option: the correct option's text"})
    threshold: float = field(default=1.0, metadata={"help": "the score from which a window passes"})
    argmax: bool = field(default=False, metadata={"help": "the best windows pass, instead of a threshold"})
    all_windows: bool = field(default=True, metadata={"help": "read on after the first window that passes"})
    negatives: int = field(default=7, metadata={"help": "at most so many negatives an example"})

    def rule(self) -> FeedbackRule:
        return FeedbackRule(**{each.name: getattr(self, each.name) for each in fields(FeedbackRule)})

    @property
    def readers(self) -> list[str]:
        return self.reader or [str(TINY_VLM)]


class Run:
    """One dataset, one retriever, one rule: what all readers share."""

    def __init__(self, arguments: FeedbackArguments) -> None:
        dataset = Path(arguments.dataset)
        self.arguments, self.rule, self.folder = arguments, arguments.rule(), dataset / "feedback"
        self.qa, self.chunks = (dataset / name / "train.parquet" for name in ("qa", "corpus"))
        self.corpus = Corpus.open(self.chunks)
        rows = pq.read_metadata(self.qa).num_rows
        self.total = min(rows, arguments.questions or rows)
        self.found = self.folder / "candidates.jsonl"

    def pairs(self) -> Iterator[QAPair]:
        return islice(read_records(QAPair, self.qa), self.total)

    def retrieve(self) -> None:
        """Find every question's candidates, as far as they weren't found before."""
        about = {
            "retriever": fingerprint(self.arguments.retriever),
            "corpus": _hash(self.chunks),
            "qa": _hash(self.qa),
            "questions": self.total,
            "candidates": self.rule.candidates,
            "options": self.rule.metric == "option",
        }
        queries = ((pair.id, self.rule.query(pair)) for pair in self.pairs())

        def load() -> Search:
            return nearest(load_encoder(self.arguments.retriever), self.corpus, self.rule.candidates)

        retrieve(self.found, about, queries, self.corpus.ids, load, self.total)

    def asked(self) -> Iterator[tuple[QAPair, list[str]]]:
        """Yield questions with their candidates."""
        for pair, (query, ranked) in zip(self.pairs(), read_candidates(self.found), strict=True):
            if pair.id != query:
                raise ValueError(f"{self.found} is about other questions than {self.qa}. Delete it.")
            yield pair, ranked

    def read(self, reader: Reader, folder: Path) -> FeedbackStatistics:
        """Write one reader's verdicts, and what follows from them, into a folder."""
        with json_lines(folder / "train.verdicts.jsonl") as write:

            def judged() -> Iterator[Judged]:
                for pair, ranked, verdict in read(self.asked(), self.corpus, reader, self.rule, self.total):
                    write(asdict(verdict))
                    yield pair, ranked, [verdict]

            return self.keep(judged(), folder)

    def merge(self, folders: Iterable[Path]) -> FeedbackStatistics:
        """Write what follows from all readers' verdicts together."""
        with ExitStack() as stack:
            files = [stack.enter_context((folder / "train.verdicts.jsonl").open()) for folder in folders]
            judged = (
                (pair, ranked, [Verdict.parse(line) for line in lines])
                for (pair, ranked), *lines in zip(self.asked(), *files, strict=True)
            )
            return self.keep(judged, self.folder)

    def keep(self, judged: Iterable[Judged], folder: Path) -> FeedbackStatistics:
        """Write examples, if any came, statistics, and what was dropped."""
        output, statistics = folder / "train.parquet", FeedbackStatistics()
        with json_lines(folder / "train.dropped.jsonl") as write:
            examples = collect(judged, self.corpus, self.rule, statistics, lambda key, why: write(_dropped(key, why)))
            first = next(examples, None)
            if first is not None:
                write_records(chain([first], examples), output)
        _write(folder / "train.statistics.json", statistics.as_dict())
        if first is None:
            output.unlink(missing_ok=True)
        return statistics


def run(arguments: FeedbackArguments) -> FeedbackStatistics:
    """Retrieve, read, judge and write; returns what became of the questions, of all readers together.

    Raises `ValueError` if no example came of all verdicts together; one reader of several may have none.
    """
    with one_run(Path(arguments.dataset)):
        return _run(arguments)


def _run(arguments: FeedbackArguments) -> FeedbackStatistics:
    this = Run(arguments)
    folders = [this.folder]
    if len(arguments.readers) > 1:
        folders = [this.folder / name for name in names(arguments.readers)]
    cache = Path(arguments.cache) if arguments.cache else this.folder / "answers.sqlite"
    this.retrieve()
    for name, folder in zip(arguments.readers, folders, strict=True):
        reader = Reader.open(name, cache=cache, concurrency=arguments.concurrency, timeout=arguments.timeout)
        statistics = this.read(reader, folder)
        logger.info("%s on %d questions: %s", shown(name), statistics.questions, statistics)
        del reader  # before the next one is loaded: two may not fit
    if len(folders) > 1:
        statistics = this.merge(folders)
    write_card(this.folder.parent, "feedback", _facts(arguments, statistics))
    if not statistics.examples:
        asked = f"{statistics.questions} questions"
        raise ValueError(f"No example came of {asked}, see {this.folder}/train.dropped.jsonl.")
    return statistics


def names(readers: Sequence[str]) -> list[str]:
    """Name a folder for each reader: its model's last part, or its server; numbered where that is taken."""
    models = [(name.partition("#")[2] or urlsplit(name).netloc or name).rstrip("/").split("/")[-1] for name in readers]
    unique: list[str] = []
    for model in models:
        plain = re.sub(r"[^\w.-]+", "-", model).strip(".") or "reader"
        numbered = chain([plain], (f"{plain}-{number}" for number in count(2)))
        unique.append(next(name for name in numbered if name not in unique))
    return unique


def _facts(arguments: FeedbackArguments, statistics: FeedbackStatistics) -> dict[str, Any]:
    """Say what the card says of this step: models by name, the rule's fields, and what became of the questions."""
    models = {"retriever": shown(arguments.retriever), "reader": ", ".join(map(shown, arguments.readers))}
    return models | asdict(arguments.rule()) | {"questions": str(statistics)}


def _dropped(key: str, reason: str) -> dict[str, str]:
    return {"id": key, "reason": reason}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, value: Any) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(aside, path)


def parse(argv: Sequence[str] | None) -> FeedbackArguments:
    """Read the recipe (by default the tiny one) and what the command line changes in it."""
    return parse_arguments(argv, "feedback", FeedbackArguments)[0]


def main(argv: Sequence[str] | None = None) -> None:
    prepare()
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every request
    arguments = parse(argv)
    make_almanac(arguments.dataset)
    Console().print(run(arguments).table())


if __name__ == "__main__":
    with plain_errors():
        main()
