"""Which rule should turn a reader's answers into examples (threshold, window, candidates), and whose answers?

    python -m benchmarks.studies.rule

From the recipe (exact match, window 1, 8 candidates) one thing is changed at a time; stage 2 is trained on what comes
of it, from the answers to every third question and for fewer steps than the recipe's. All of it twice: the reader that
a retriever is aligned with, the Almanac's own or one half as wide, also answers from what it finds.
"""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import SHORT, Outcomes, World, reader_of
from dataset_builders.almanac import TINY_VLM
from dataset_builders.schema import QAPair, read_records, write_records
from nyx.ranking import top
from nyx.reader import Reader
from train_scripts import collect_feedback
from train_scripts.scoring import DEPTH

RECIPE = "recipe"
RULES: dict[str, dict[str, Any]] = {
    RECIPE: {},
    "K 4": {"candidates": 4},
    "K 16": {"candidates": 16},
    "K 32": {"candidates": 32},
    "window 2": {"window": 2},
    "window 3": {"window": 3},
    "window 4": {"window": 4},
    "F1 > 0": {"metric": "f1", "threshold": 0.01},
    "F1 ≥ 0.3": {"metric": "f1", "threshold": 0.3},
    "F1 ≥ 0.5": {"metric": "f1", "threshold": 0.5},
}
EVERY = 3
OWN, NARROW = "reader 128", "reader 64"


def collect(world: World, folder: Path, every: int = 1, **rule: Any) -> Path:
    """Collect feedback on stage 1 by a rule, for every so many-th question of the world; returns the examples."""
    examples = folder / "feedback" / "train.parquet"
    if not examples.exists():
        for part in ("corpus", "triplets"):
            if not (folder / part).exists():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / part).symlink_to((world.data / part).resolve())
        questions = read_records(QAPair, world.data / "qa" / "train.parquet")
        write_records(islice(questions, None, None, every), folder / "qa" / "train.parquet")
        shared = world.data / "feedback" / "answers.sqlite"
        collect_feedback.run(
            collect_feedback.FeedbackArguments(
                dataset=str(folder), retriever=str(world.folder / "stage 1"), cache=str(shared), **rule
            )
        )
    return examples


def measure(world: World) -> Measured:
    arms: dict[str, Outcomes] = {}
    statistics = {}
    found = top(*world.embed("stage 1"), DEPTH)
    every = 1 if world.dry else EVERY  # a dry run's few answers would leave too few examples
    for name, place in {OWN: TINY_VLM, NARROW: reader_of(world, 64)}.items():
        reader = Reader.from_pretrained(place, cache=world.folder / "answers.sqlite")
        arms[f"stage 1, {name}"] = world.retrieved(found, reader)
        for rule, changed in RULES.items():
            folder = world.folder / "studies" / "rule" / name / rule
            examples = collect(world, folder, every, reader=[str(place)], **changed)
            checkpoint = world.align(f"rule/{name}/{rule}, trained", examples, *SHORT)
            arms[f"{rule}, {name}"] = world.retrieved(top(*world.embed(checkpoint), DEPTH), reader)
            statistics[f"{rule}, {name}"] = json.loads((examples.parent / "train.statistics.json").read_text())
    return {"arms": arms, "facts": statistics}


COMPARED = [
    pair
    for name in (OWN, NARROW)
    for pair in (
        (f"{RECIPE}, {name}", f"stage 1, {name}"),
        *((f"{rule}, {name}", f"{RECIPE}, {name}") for rule in RULES if rule != RECIPE),
    )
]
STUDY = Study("rule", __doc__, measure, COMPARED)

if __name__ == "__main__":
    STUDY.run()
