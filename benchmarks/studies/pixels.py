"""How large do pictures have to be, where small marks tell similar moths apart, and what do they cost?

    python -m benchmarks.studies.pixels

Every page of this world has its pictures, all of 112 pixels a side, and every question shows one or asks for what one
shows. Stage 1 is trained from the tiny reader under each cap, for fewer steps than the recipe's; the reader itself
sees pictures as they are.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import interleaved
from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import DRY_WORLD, LAST, World
from dataset_builders.almanac import SPECIES, TINY_VLM, TRIPLETS, build
from dataset_builders.almanac_kinds import LARGE_MOTHS
from modeling_nyx.content_nyx import Content
from modeling_nyx.processing_nyx import MIN_PIXELS
from nyx.metrics import mean
from nyx.models import load_encoder
from nyx.ranking import top
from train_scripts import stage1
from train_scripts.scoring import DEPTH

CAPS = (28, 56, 84, 112)
STEPS = 120
# Without a validation guide nothing is evaluated before training; the train guide isn't used.
SIZES: dict[str, Any] = {
    "species": {"train": 2, "test": SPECIES["test"]},
    "triplets": TRIPLETS | {"train": 64 * STEPS},  # the recipe's batch
}
DOCUMENTS = 100


def pictured(world: World) -> World:
    """Return the seed's world of large pictures, asked only what takes a picture to answer."""
    other = World(world.folder / "studies" / "pixels", world.seed, world.dry)
    build(other.data, seed=world.seed, kind=LARGE_MOTHS, **(DRY_WORLD if world.dry else SIZES))
    return other.asking([question for question in other.guide.questions if question.kind != "fact"])


def capped(folder: Path, cap: int) -> None:
    """Write the tiny reader as a start that sees at most `cap`² pixels of a picture."""
    model = load_encoder(TINY_VLM, dtype=torch.float32)
    model.processor.image_processor.size = {"shortest_edge": min(MIN_PIXELS, cap**2), "longest_edge": cap**2}
    model.save_pretrained(folder)


def train(world: World, cap: int) -> str:
    """Train stage 1 under a cap, unless it is there; returns its name."""
    output = world.folder / str(cap)
    if not (output / "model.safetensors").exists():
        start = Path(f"{output}, start")
        capped(start, cap)
        given = world.arguments(output, "--model_name_or_path", str(start), "--max_steps", str(STEPS), *LAST)
        stage1.train(*stage1.parse(given, "stage1"))
    return str(cap)


def visual_tokens(model: Any, documents: list[Content]) -> float:
    """Count the visual tokens of a picture, on the average."""
    rows = model.processor.rows(documents)
    return sum(row.ids.count(model.processor.image_token_id) for row in rows) / sum(len(row.images) for row in rows)


def measure(world: World) -> Measured:
    world = pictured(world)
    places = {cap: train(world, cap) for cap in CAPS}
    arms = {f"stage 1 @ {cap}": world.retrieved(top(*world.embed(place), DEPTH)) for cap, place in places.items()}
    return {"arms": arms, "facts": costs(world, places)}


def costs(world: World, places: dict[int, str]) -> dict[str, dict[str, float]]:
    """Measure what each cap costs: tokens, and seconds, of encoding in turn and of the training that was."""
    models = {str(cap): load_encoder(world.folder / place) for cap, place in places.items()}
    documents = world.guide.documents[:DOCUMENTS]
    calls: dict[str, Callable[[], Any]] = {
        cap: partial(model.encode_documents, documents) for cap, model in models.items()
    }
    taken = interleaved(calls, 1 if world.dry else 5)
    found = {}
    for cap, model in models.items():
        trained = json.loads((world.folder / places[int(cap)] / "training.json").read_text())
        found[cap] = {
            "visual tokens a picture": visual_tokens(model, documents),
            f"seconds to encode {DOCUMENTS} documents": taken[cap]["seconds"] * DOCUMENTS / len(documents),
            "seconds a training step": trained["seconds"] / trained["steps"],
        }
    return found


def cost(seeds: list[Measured]) -> dict[str, Any]:
    """Average the costs over the seeds."""
    facts = [each["facts"] for each in seeds]
    return {
        "cost": {
            cap: {name: round(mean([each[cap][name] for each in facts]), 4) for name in facts[0][cap]}
            for cap in facts[0]
        }
    }


STUDY = Study(
    "pixels",
    __doc__,
    measure,
    [(f"stage 1 @ {cap}", f"stage 1 @ {CAPS[-1]}") for cap in CAPS[:-1]],
    metrics=("recall@1", "recall@5", "mrr", "answer EM"),
    axis="pixels a side",
    further=cost,
    pretrained=False,
)

if __name__ == "__main__":
    STUDY.run()
