"""What does stage 2 add, and how much of it is the feedback? (the paper's table 1, Nyx against Nyx-pretrained)

    python -m benchmarks.studies.feedback

Stage 1 continued and gold labels train for as many steps from the same stage 1: the one on more of its examples, the
other on labels that no reader gave.
"""

from benchmarks.almanac import RETRIEVERS
from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import World
from nyx.ranking import top
from train_scripts.scoring import DEPTH, order_wins


def measure(world: World) -> Measured:
    arms, order = {}, {}
    for name in RETRIEVERS:
        queries, documents = world.embed(name)
        arms[name] = world.retrieved(top(queries, documents, DEPTH))
        order[name] = order_wins(world.guide, queries, documents)
    return {"arms": arms, "facts": {"right page above its twin, asked": order}}


STUDY = Study("feedback", __doc__, measure, [("stage 2", name) for name in RETRIEVERS[:-1]])

if __name__ == "__main__":
    STUDY.run()
