"""How often is the answer right although the document isn't the gold one, and wrong although it is? (figure 6)

    python -m benchmarks.studies.golden

On the Almanac every page that states the answer is gold, so that a right answer from another one is a guess, or comes
from what a page happens to share.
"""

from typing import Any

from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import World
from evaluation.statistics import interval
from nyx.bm25 import BM25
from nyx.metrics import mean
from nyx.ranking import top
from train_scripts.scoring import DEPTH

RETRIEVERS = ("BM25", "stage 1", "stage 2")


def measure(world: World) -> Measured:
    guide = world.guide
    arms = {"BM25": world.retrieved(BM25(guide.documents).search(guide.queries, DEPTH)[0])}
    for name in RETRIEVERS[1:]:
        arms[name] = world.retrieved(top(*world.embed(name), DEPTH))
    for outcomes in arms.values():
        golden, right = outcomes["recall@1"], outcomes["answer EM"]
        for name, (document, answer) in CELLS.items():
            outcomes[name] = {key: float((golden[key], right[key]) == (document, answer)) for key in golden}
    return {"arms": arms}


def conditional(seeds: list[Measured]) -> dict[str, Any]:
    """Return how often answers are right, given that the document is gold, and that it isn't."""
    rates: dict[str, dict[str, Any]] = {}
    for name in RETRIEVERS:
        rates[name] = {}
        for golden, words in ((1.0, "golden"), (0.0, "not golden")):
            right = [
                answer
                for seed in seeds
                for key, answer in seed["arms"][name]["answer EM"].items()
                if seed["arms"][name]["recall@1"][key] == golden
            ]
            rates[name][words] = {"questions": len(right), "right": mean(right), "interval": interval(right)}
    return {"right, given the document": rates}


CELLS = {
    "golden, right": (1.0, 1.0),
    "golden, wrong": (1.0, 0.0),
    "not golden, right": (0.0, 1.0),
    "not golden, wrong": (0.0, 0.0),
}
COMPARED = [("stage 2", "stage 1"), ("stage 1", "BM25")]
STUDY = Study(
    "golden", __doc__, measure, COMPARED, metrics=tuple(CELLS), judged_by="golden, right", further=conditional
)

if __name__ == "__main__":
    STUDY.run()
