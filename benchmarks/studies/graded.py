"""Is there more to learn from how useful every document is than from one positive?

    python -m benchmarks.studies.graded

The same questions and documents, with four of a question's eight candidates in every batch: the first that answered
right as the only positive, or listwise shares, the softmax of the documents' utilities. A utility is the F1 of the
reader's answer, or the likelihood that the reader gives to the right answer.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.studies.rule import collect
from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import SHORT, World
from dataset_builders.schema import Preference, QAPair, read_records, write_records
from modeling_nyx.content_nyx import Content
from nyx.local_engine import LocalEngine, groups
from nyx.metrics import mean
from nyx.ranking import top
from nyx.reader import Prompt
from nyx.records import content_id
from train_scripts.scoring import DEPTH, Guide

# Fewer questions a batch than in stage 2's recipe, since each brings four documents instead of two.
SHARED = [*SHORT, "--hard_negatives", "3", "--per_device_train_batch_size", "32"]
TEMPERATURE = "0.2"  # of utilities between 0 and 1: a useless document's share is e⁻⁵ of a perfect one's


@torch.inference_mode()
def likelihoods(engine: Any, asked: list[tuple[Content, Content, str]]) -> list[float]:
    """Return how likely the engine finds an answer from a document: its tokens' geometric mean."""
    processor, tokenizer = engine.processor, engine.processor.tokenizer
    rows, answers = {}, []
    for place, (document, question, answer) in enumerate(asked):
        words, images = engine.render(Prompt([document], question).request(0))
        answers.append(len(tokenizer(f" {answer}", add_special_tokens=False).input_ids) + 1)
        rows[place] = processor.rendered_rows(f"{words} {answer}{tokenizer.eos_token}", images)[0]
    found = [0.0] * len(asked)
    for group in groups({place: (0, len(row.ids)) for place, row in rows.items()}, engine.batch_tokens):
        batch = processor.pad([rows[place] for place in group], side="left").to(engine.model.device)
        logits = engine.model(**batch, use_cache=False).logits
        for place, each, ids in zip(group, logits, batch["input_ids"], strict=True):
            count = answers[place]
            log_p = each[-count - 1 : -1].log_softmax(-1).gather(1, ids[-count:, None])
            found[place] = float(log_p.mean().exp())
    return found


def by_likelihood(world: World, examples: Path) -> Path:
    """Write the examples again, with the right answer's likelihood as utilities."""
    output = examples.parents[1] / "likelihood.parquet"
    if not output.exists():
        engine: Any = world.reader.engine
        assert isinstance(engine, LocalEngine)

        def graded() -> Iterator[Preference]:
            for example in read_records(Preference, examples):
                documents = [*example.positives, *example.negatives]
                asked = [(document, example.query, example.answers[0]) for document in documents]
                yield dataclasses.replace(example, utilities=likelihoods(engine, asked))

        write_records(graded(), output)
    return output


def preferred(world: World, examples: Path) -> dict[str, Any]:
    """Say how often the document with the largest utility isn't gold, by kind of question."""
    guide = Guide.read(world.data, "train")
    golds = {chunk.id: content_id(chunk.content) for chunk in guide.chunks}
    asked: dict[str, QAPair] = {question.id: question for question in guide.questions}
    kinds: dict[str, list[float]] = {}
    for example in read_records(Preference, examples):
        best = max(range(len(example.utilities)), key=example.utilities.__getitem__)
        document, question = [*example.positives, *example.negatives][best], asked[example.id]
        is_gold = content_id(document) in {golds[chunk] for chunk in question.gold_ids}
        kinds.setdefault(question.kind, []).append(float(not is_gold))
    every = [value for values in kinds.values() for value in values]
    return {"all": round(mean(every), 4)} | {kind: round(mean(values), 4) for kind, values in sorted(kinds.items())}


def measure(world: World) -> Measured:
    f1 = collect(world, world.folder / "studies" / "graded", metric="f1", threshold=0.5)
    likelihood = by_likelihood(world, f1)
    listwise = ["--utility_temperature", TEMPERATURE]
    checkpoints = {
        SINGLE: world.align("graded/single", f1, *SHARED),
        BY_F1: world.align("graded/f1", f1, *SHARED, *listwise),
        BY_LIKELIHOOD: world.align("graded/by likelihood", likelihood, *SHARED, *listwise),
    }
    arms = {name: world.retrieved(top(*world.embed(place), DEPTH)) for name, place in checkpoints.items()}
    statistics = json.loads((f1.parent / "train.statistics.json").read_text())
    shares = {"F1": preferred(world, f1), "likelihood": preferred(world, likelihood)}
    return {"arms": arms, "facts": {"preferred document isn't gold": shares, "feedback": statistics}}


SINGLE, BY_F1, BY_LIKELIHOOD = "single positive", "listwise, F1", "listwise, likelihood"
COMPARED = [(BY_F1, SINGLE), (BY_LIKELIHOOD, SINGLE), (BY_LIKELIHOOD, BY_F1)]
STUDY = Study("graded", __doc__, measure, COMPARED)

if __name__ == "__main__":
    STUDY.run()
