"""Hard negatives for a dataset folder's questions, from any retriever: stage 1's examples (paper section 2.1).

    python train_scripts/mine_negatives.py --dataset my/nyxqa
    python train_scripts/mine_negatives.py --dataset my/nyxqa --retriever runs/demo/stage1 --depth 20 --skip 10
    python train_scripts/mine_negatives.py --dataset my/nyxqa --config train_scripts/recipes/paper/negatives.yaml

Reads `corpus` and `qa`, writes `triplets/{split}.parquet`, and beside it `{split}.dropped.jsonl` with the reasons.
Questions are mined in batches whose results are kept, so that a run that was stopped goes on where it was, and ends
with the same bytes.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from dataset_builders.card import SPLITS, fingerprints, read_steps, write_card
from dataset_builders.corpus import Corpus
from dataset_builders.json_lines import json_lines
from dataset_builders.negatives import Miner, MiningCounts, NegativeRule
from dataset_builders.one_run import one_run
from dataset_builders.retrievers import NAMES, open_retriever, retriever_facts
from dataset_builders.schema import Example, QAPair, read_records, write_records
from nyx.errors import plain_errors
from nyx.models import shown
from nyx.records import write_dropped
from train_scripts.arguments import parse_arguments

logger = logging.getLogger(__name__)

BATCH = 256


@dataclass
class MiningArguments:
    """What is mined with what, and which chunks become negatives (`dataset_builders.negatives.NegativeRule`)."""

    dataset: str = field(metadata={"help": "dataset folder with corpus and qa"})
    split: str = field(default="train", metadata={"help": "whose questions, and whose corpus"})
    retriever: str = field(default="bm25", metadata={"help": NAMES})
    depth: int = field(default=10, metadata={"help": "how far down the ranking negatives are looked for"})
    skip: int = field(default=0, metadata={"help": "how many of the first ranks are left out"})
    keep: int = field(default=5, metadata={"help": "at most so many negatives an example"})
    without_answers: bool = field(default=True, metadata={"help": "leave out chunks that hold an answer"})
    ratio: float | None = field(
        default=None, metadata={"help": "leave out chunks that score above so many times the positive's score"}
    )

    def rule(self) -> NegativeRule:
        return NegativeRule(**{each.name: getattr(self, each.name) for each in fields(NegativeRule)})


def run(arguments: MiningArguments) -> MiningCounts:
    """Mine, and write the examples; returns what became of questions and chunks.

    Raises `ValueError` where examples lie that were made otherwise, as the Almanac's are.
    """
    with one_run(Path(arguments.dataset)):
        return _run(arguments)


def _run(arguments: MiningArguments) -> MiningCounts:
    folder, rule, split = Path(arguments.dataset), arguments.rule(), arguments.split
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; expected one of {', '.join(SPLITS)}.")
    corpus_path, qa_path = (folder / name / f"{split}.parquet" for name in ("corpus", "qa"))
    output, step = folder / "triplets" / f"{split}.parquet", f"hard negatives, {split}"
    parts = output.with_name(f".{output.stem}.parts")
    if output.is_file() and step not in read_steps(folder) and not parts.is_dir():
        raise ValueError(f"{output} holds examples that were not mined. Move them away, or name another folder.")
    corpus = Corpus.open(corpus_path)
    hashes = fingerprints(folder)
    data = {"batch": BATCH} | {name: hashes[name] for name in ("corpus", "qa")}
    _start_parts(parts, retriever_facts(arguments.retriever) | asdict(rule) | data)
    miner: Miner | None = None
    counts, done = MiningCounts(), []
    batches = _batches(read_records(QAPair, qa_path), BATCH)
    total = -(-pq.read_metadata(qa_path).num_rows // BATCH)
    for number, questions in enumerate(tqdm(batches, total=total, desc="batches of questions")):
        part = parts / f"{number:06}.parquet"
        if not _about(part).is_file():
            # A run whose parts are all there needs no retriever.
            miner = miner or Miner(corpus, open_retriever(arguments.retriever, corpus), rule)
            _write_part(part, questions, miner)
        counts += _read_counts(part)
        done.append(part)
    if not counts.examples:
        raise ValueError(f"No question of {qa_path} has a gold chunk or document in {corpus_path}.")
    found = (part for part in done if part.is_file())
    write_records(chain.from_iterable(read_records(Example, part) for part in found), output)
    left_out = [{"id": name, "reason": reason} for name, reason in counts.dropped]
    write_dropped(left_out, output.with_name(f"{split}.dropped.jsonl"))
    about = {"retriever": shown(arguments.retriever)} | asdict(rule) | {"questions": str(counts)}
    write_card(folder, step, about)
    shutil.rmtree(parts)
    logger.info("Hard negatives by %s: %s", shown(arguments.retriever), counts)
    return counts


def _start_parts(parts: Path, facts: dict[str, Any]) -> None:
    """Make the folder of finished batches; those of other data, another rule or retriever are removed."""
    about = parts / "run.json"
    if parts.is_dir() and not (about.is_file() and json.loads(about.read_text()) == facts):
        shutil.rmtree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    with json_lines(about) as write:
        write(facts)


def _write_part(path: Path, questions: list[QAPair], miner: Miner) -> None:
    """Keep a batch's examples, if it has any, and then its counts, which say that it is finished."""
    counts = MiningCounts()
    if examples := list(miner.mine(questions, counts)):
        write_records(examples, path)
    with json_lines(_about(path)) as write:
        write(vars(counts))


def _read_counts(part: Path) -> MiningCounts:
    values = json.loads(_about(part).read_text())
    values["left_out"] = Counter(values["left_out"])
    values["dropped"] = [(name, reason) for name, reason in values["dropped"]]
    return MiningCounts(**values)


def _about(part: Path) -> Path:
    return part.with_suffix(".json")


def _batches(questions: Iterable[QAPair], size: int) -> Iterator[list[QAPair]]:
    rows = iter(questions)
    while batch := list(islice(rows, size)):
        yield batch


def parse(argv: Sequence[str] | None) -> MiningArguments:
    """Read the recipe (by default the tiny one) and what the command line changes in it."""
    return parse_arguments(argv, "negatives", MiningArguments)[0]


def main(argv: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run(parse(argv))


if __name__ == "__main__":
    with plain_errors():
        main()
