"""How many dimensions are enough, and what do fewer of them save? (the paper's table 3, and what it doesn't time)

    python -m benchmarks.studies.dimensions

Accuracy is that of prefixes of the embedding. Latency is one question's exact search among documents that are kept at
that size, here and at the paper's sizes, by `nyx.ranking.top` on one thread; the vectors are random, which is as slow.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.measure import interleaved
from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import Outcomes, World
from nyx.ranking import top, top_by_dim
from train_scripts.scoring import DEPTH

STAGES = ("stage 1", "stage 2")
DIMS = (128, 64, 32, 16)
PAPER = (2048, 1024, 512, 256)
DOCUMENTS = 50_000


def searches(dims: tuple[int, ...], documents: int, runs: int) -> dict[str, Any]:
    """Time one question's exact search in as many documents of each size, in turn; milliseconds and megabytes."""
    rng = np.random.default_rng(0)
    kept = {dim: rng.standard_normal((documents, dim), dtype=np.float32) for dim in dims}
    calls: dict[str, Callable[[], Any]] = {
        str(dim): partial(top, vectors[:1], vectors, 10) for dim, vectors in kept.items()
    }
    taken = interleaved(calls, runs)
    return {
        str(dim): {
            "ms": round(1e3 * taken[str(dim)]["seconds"], 3),
            "least ms": round(1e3 * taken[str(dim)]["least"], 3),
            "most ms": round(1e3 * taken[str(dim)]["most"], 3),
            "MB": round(vectors.nbytes / 1e6, 1),
        }
        for dim, vectors in kept.items()
    }


def measure(world: World) -> Measured:
    arms: dict[str, Outcomes] = {}
    for stage in STAGES:
        queries, documents = world.embed(stage)
        found = top_by_dim(queries, documents, DEPTH, DIMS)
        arms |= {f"{stage} @ {dim}": world.retrieved(found[dim][0]) for dim in DIMS}
    size, runs = (200, 2) if world.dry else (DOCUMENTS, 15)
    return {"arms": arms, "facts": {"documents": size, "searches": searches((*PAPER, *DIMS), size, runs)}}


def latency(seeds: list[Measured]) -> dict[str, Any]:
    """Return the searches of the last seed: they are the machine's, not the seed's."""
    return {"one question's exact search": seeds[-1]["facts"]}


COMPARED = [(f"stage 2 @ {dim}", "stage 2 @ 128") for dim in DIMS[1:]]
STUDY = Study("dimensions", __doc__, measure, COMPARED, axis="dimensions", scale="log", further=latency)

if __name__ == "__main__":
    STUDY.run()
