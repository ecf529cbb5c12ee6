"""Does stage 1 retrieve better than BM25 and than text and pictures embedded apart? (the paper's table 1)

    python -m benchmarks.studies.pretraining

Divide and conquer is the same network, trained on the same examples for as many steps on text and pictures apart.
The controls say what the reader makes of a gold document, of a random one, and of none.
"""

from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import World
from evaluation.apart import apart_scores
from nyx.bm25 import BM25
from nyx.models import load_encoder
from nyx.ranking import top
from train_scripts import stage1
from train_scripts.apart import ApartTrainer
from train_scripts.scoring import DEPTH, random_documents


def train_apart(world: World) -> str:
    """Train the baseline by stage 1's recipe, unless it is there; returns its name."""
    output = world.folder / "apart"
    if not (output / "model.safetensors").exists():
        stage1.train(*stage1.parse(world.arguments(output), "stage1"), trainer_class=ApartTrainer)
    return output.name


def measure(world: World) -> Measured:
    guide = world.guide
    apart = load_encoder(world.folder / train_apart(world))
    arms = {"BM25": world.retrieved(BM25(guide.documents).search(guide.queries, DEPTH)[0])}
    ways = ("averaged", "scores fused")
    for way, scores in zip(ways, apart_scores(apart, guide.queries, guide.documents), strict=True):
        positions = (-scores).argsort(axis=1, kind="stable")[:, :DEPTH]
        arms[f"divide and conquer, {way}"] = world.retrieved(positions)
    arms["stage 1"] = world.retrieved(top(*world.embed("stage 1"), DEPTH))
    arms["no document"] = world.answered([[] for _ in guide.questions])
    arms["random document"] = world.answered(random_documents(guide))
    arms["gold document"] = world.answered([[document] for document in guide.gold_documents()])
    return {"arms": arms}


BASELINES = ("BM25", "divide and conquer, averaged", "divide and conquer, scores fused", "gold document")
STUDY = Study("pretraining", __doc__, measure, [("stage 1", baseline) for baseline in BASELINES])

if __name__ == "__main__":
    STUDY.run()
