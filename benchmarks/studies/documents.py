"""How many documents should the reader see? (the paper's figure 5a)

    python -m benchmarks.studies.documents

The tiny reader's window of 4,096 tokens holds sixteen pages, but it was trained on one to three: beyond that it is
asked for what it never saw.
"""

from statistics import median
from typing import Any

from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import World
from nyx.bm25 import BM25
from nyx.ranking import top
from nyx.reader import Prompt

RETRIEVERS = ("BM25", "stage 1", "stage 2")
COUNTS = (0, 1, 2, 3, 4, 8, 16)


def measure(world: World) -> Measured:
    guide, arms = world.guide, {}
    for name in RETRIEVERS:
        if name == "BM25":
            positions, _ = BM25(guide.documents).search(guide.queries, max(COUNTS))
        else:
            positions = top(*world.embed(name), max(COUNTS))
        for count in COUNTS:
            documents = [[guide.chunks[place].content for place in row[:count]] for row in positions]
            arms[f"{name} @ {count}"] = world.answered(documents)
    engine: Any = world.reader.engine
    prompts = [Prompt(found, query).request(32) for found, query in zip(documents, guide.queries, strict=True)]
    tokens = [len(engine.processor.rendered_rows(*engine.render(prompt))[0].ids) for prompt in prompts]
    facts = {"tokens of a prompt with 16 documents": {"median": median(tokens), "most": max(tokens)}}
    return {"arms": arms, "facts": facts}


COMPARED = [(f"stage 2 @ {count}", "stage 2 @ 1") for count in COUNTS[2:]]
COMPARED += [(f"stage 2 @ {count}", f"stage 1 @ {count}") for count in COUNTS[1:]]
STUDY = Study("documents", __doc__, measure, COMPARED, metrics=("answer EM", "answer F1"), axis="documents")

if __name__ == "__main__":
    STUDY.run()
