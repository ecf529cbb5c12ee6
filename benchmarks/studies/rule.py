"""Which rule should turn the reader's answers into examples: threshold, window, number of candidates?

    python -m benchmarks.studies.rule

From the recipe (exact match, window 1, 8 candidates) one thing is changed at a time; stage 2 is trained on what comes
of it, for fewer steps than the recipe's with every rule.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.studies.study import SHORT, Measured, Study, World
from nyx.ranking import top
from train_scripts import collect_feedback
from train_scripts.scoring import DEPTH

RECIPE = "recipe: EM, window 1, K 8"
RULES: dict[str, dict[str, Any]] = {
    "K 4": {"candidates": 4},
    "window 2": {"window": 2},
    "F1 > 0": {"metric": "f1", "threshold": 0.01},
    "F1 ≥ 0.5": {"metric": "f1", "threshold": 0.5},
}


def collect(world: World, folder: Path, **rule: Any) -> Path:
    """Collect feedback on stage 1 by a rule, in a folder that shares the world's data; returns the examples."""
    examples = folder / "feedback" / "train.parquet"
    if not examples.exists():
        for part in ("corpus", "qa", "triplets"):
            if not (folder / part).exists():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / part).symlink_to((world.data / part).resolve())
        shared = world.data / "feedback" / "answers.sqlite"
        collect_feedback.run(
            collect_feedback.FeedbackArguments(
                dataset=str(folder), retriever=str(world.folder / "stage 1"), cache=str(shared), **rule
            )
        )
    return examples


def measure(world: World) -> Measured:
    folders = {RECIPE: world.data} | {name: world.folder / "studies" / "rule" / name for name in RULES}
    checkpoints = {"stage 1": "stage 1"}
    for name, folder in folders.items():
        examples = collect(world, folder, **RULES.get(name, {}))
        checkpoints[name] = world.align(f"rule/{name}, trained", examples, *SHORT)
    statistics = {
        name: json.loads((folder / "feedback" / "train.statistics.json").read_text())
        for name, folder in folders.items()
    }
    arms = {name: world.retrieved(top(*world.embed(place), DEPTH)) for name, place in checkpoints.items()}
    return {"arms": arms, "facts": statistics}


STUDY = Study("rule", __doc__, measure, [(name, RECIPE) for name in RULES])

if __name__ == "__main__":
    STUDY.run()
