"""Between the stages: let the reader judge what stage 1 retrieves, and keep the verdicts as examples (section 3.3).

    python train_scripts/collect_feedback.py
    python train_scripts/collect_feedback.py --retriever runs/mine --reader Qwen/Qwen2.5-VL-3B-Instruct --window 3

Writes `feedback/train.parquet` into the dataset folder, and beside it `train.dropped.jsonl` with the reasons. Answers
are kept in an SQLite file, so that a run that was stopped goes on where it was.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dataset_builders.almanac import TINY_VLM
from dataset_builders.card import write_card
from dataset_builders.feedback import FeedbackCounts, FeedbackRule, collect
from dataset_builders.schema import Chunk, QAPair, read_records, write_records
from nyx.errors import plain_errors
from nyx.models import load_encoder
from nyx.ranking import rank
from nyx.reader import Reader
from train_scripts.arguments import parse_arguments
from train_scripts.provenance import shown
from train_scripts.stage1 import make_almanac, prepare

logger = logging.getLogger(__name__)


@dataclass
class FeedbackArguments:
    """What is read by whom, and how its answers are judged (`dataset_builders.feedback.FeedbackRule`)."""

    dataset: str = field(default="runs/demo/nyxqa", metadata={"help": "dataset folder with corpus and qa"})
    retriever: str = field(default="runs/demo/stage1", metadata={"help": "the checkpoint whose results are read"})
    reader: str = field(default="", metadata={"help": "vision-language model; the Almanac's own unless named"})
    cache: str = field(default="", metadata={"help": "SQLite file of answers; in the dataset folder unless named"})
    questions: int = field(default=0, metadata={"help": "how many training questions to read for; 0: all"})
    candidates: int = field(default=8, metadata={"help": "documents retrieved a question (paper: K)"})
    window: int = field(default=1, metadata={"help": "documents read together (paper: L)"})
    stride: int = field(default=1, metadata={"help": "how far apart windows start"})
    metric: str = field(default="em", metadata={"help": "em, f1 or accuracy"})
    threshold: float = field(default=1.0, metadata={"help": "the score from which a window passes"})
    argmax: bool = field(default=False, metadata={"help": "the best windows pass, instead of a threshold"})
    all_windows: bool = field(default=True, metadata={"help": "read on after the first window that passes"})
    negatives: int = field(default=7, metadata={"help": "at most so many negatives an example"})

    def rule(self) -> FeedbackRule:
        return FeedbackRule(**{each.name: getattr(self, each.name) for each in fields(FeedbackRule)})


def run(arguments: FeedbackArguments, model: Any = None) -> FeedbackCounts:
    """Retrieve, read, judge and write; returns what became of the questions."""
    folder, rule = Path(arguments.dataset), arguments.rule()
    chunks = list(read_records(Chunk, folder / "corpus" / "train.parquet"))
    questions: list[QAPair] = list(read_records(QAPair, folder / "qa" / "train.parquet"))
    questions = questions[: arguments.questions or None]
    retriever = model if model is not None else load_encoder(arguments.retriever)
    rankings = rank(retriever, chunks, [each.question for each in questions], rule.candidates, show_progress=True)
    cache = Path(arguments.cache) if arguments.cache else folder / "feedback" / "answers.sqlite"
    reader = Reader.from_pretrained(arguments.reader or TINY_VLM, cache=cache)
    counts = FeedbackCounts()
    output = folder / "feedback" / "train.parquet"
    write_records(collect(questions, rankings, chunks, reader, rule, counts, show_progress=True), output)
    dropped = [{"id": query, "reason": reason} for reason, queries in counts.dropped.items() for query in queries]
    lines = "".join(json.dumps(each) + "\n" for each in dropped)
    output.with_name("train.dropped.jsonl").write_text(lines)
    write_card(folder, "feedback", _facts(arguments, counts))
    logger.info("Feedback on %d questions: %s", len(questions), counts)
    return counts


def _facts(arguments: FeedbackArguments, counts: FeedbackCounts) -> dict[str, Any]:
    """Say what the card says of this step: models by name, the rule's fields, and what became of the questions."""
    models = {"retriever": arguments.retriever, "reader": arguments.reader or TINY_VLM}
    return (
        {name: shown(model) for name, model in models.items()} | asdict(arguments.rule()) | {"questions": str(counts)}
    )


def parse(argv: Sequence[str] | None) -> FeedbackArguments:
    """Read the recipe (by default the tiny one) and what the command line changes in it."""
    return parse_arguments(argv, "feedback", FeedbackArguments)[0]


def main(argv: Sequence[str] | None = None) -> None:
    prepare()
    arguments = parse(argv)
    make_almanac(arguments.dataset)
    run(arguments)


if __name__ == "__main__":
    with plain_errors():
        main()
