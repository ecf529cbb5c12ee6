"""Does aligning with a reader serve that reader, whatever its size, and what does a mixture do? (the paper's Fig. 5b)

    python -m benchmarks.studies.readers

Readers of three widths: the Almanac's own is the largest, the smaller ones are trained here once, by the same recipe
but for fewer steps. Stage 2 is aligned with each of them, and with all: a document is then positive if any reader
answers right from it, first of all if most do, and negative if none does. Every retriever is read by every reader, on
unseen moths and on minerals, of which no retriever and no reader has seen any.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.studies.rule import collect
from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import DRY_WORLD, SHORT, Outcomes, World, reader_of
from dataset_builders.almanac import SPECIES, TINY_VLM
from dataset_builders.almanac_guide import field_guide
from dataset_builders.almanac_kinds import MINERALS
from evaluation.statistics import pooled
from nyx.metrics import mean
from nyx.ranking import top
from nyx.reader import Reader
from train_scripts import train_reader
from train_scripts.scoring import DEPTH, Guide

WIDTHS = (48, 64, train_reader.WIDTH)
ALL = "aligned with all"
DOMAINS = ("moths", "minerals")


def aligned(width: int) -> str:
    return f"aligned with width {width}"


def align(world: World, name: str, readers: Sequence[Path]) -> tuple[str, dict[str, Any]]:
    """Align stage 2 with readers; returns the checkpoint, and what became of the feedback."""
    folder = world.data if readers == [TINY_VLM] else world.folder / "studies" / "readers" / name
    examples = collect(world, folder, reader=[str(each) for each in readers])
    statistics = json.loads((examples.parent / "train.statistics.json").read_text())
    return world.align(f"readers/{name}, trained", examples, *SHORT), statistics


def measure(world: World) -> Measured:
    folders = {width: reader_of(world, width) for width in WIDTHS}
    taught = {aligned(width): [folder] for width, folder in folders.items()} | {ALL: list(folders.values())}
    checkpoints, statistics = {"stage 1": "stage 1"}, {}
    for name, teachers in taught.items():
        checkpoints[name], statistics[name] = align(world, name, teachers)
    cache = world.folder / "answers.sqlite"
    readers = {width: Reader.from_pretrained(folder, cache=cache) for width, folder in folders.items()}
    species = (DRY_WORLD["species"] if world.dry else SPECIES)["test"]
    minerals = world.on(Guide(*field_guide("test", species, world.seed, MINERALS)))
    arms: dict[str, Outcomes] = {}
    for domain, asked in zip(DOMAINS, (world, minerals), strict=True):
        found = {name: top(*asked.embed(place), DEPTH) for name, place in checkpoints.items()}
        gold = [[document] for document in asked.guide.gold_documents()]
        for width, reader in readers.items():
            for name, positions in found.items():
                arms[f"{name}, {domain} @ {width}"] = asked.retrieved(positions, reader)
            arms[f"gold document, {domain} @ {width}"] = asked.answered(gold, reader)
    return {"arms": arms, "facts": statistics}


def gains(seeds: list[Measured]) -> dict[str, Any]:
    """Say by how many points of exact match each alignment is ahead of stage 1, for every reader."""

    def right(name: str, domain: str, width: int) -> float:
        arm = f"{name}, {domain} @ {width}"
        return 100 * mean(list(pooled([each["arms"][arm]["answer EM"] for each in seeds]).values()))

    found: dict[str, Any] = {}
    for domain in DOMAINS:
        gain = {
            name: {width: round(right(name, domain, width) - right("stage 1", domain, width), 1) for width in WIDTHS}
            for name in (*map(aligned, WIDTHS), ALL)
        }
        own = [gain[aligned(width)][width] for width in WIDTHS]
        rises = "it rises with width" if own == sorted(own) else "it does not rise with width throughout"
        steps = ", ".join(f"{points:+.1f} at {width}" for width, points in zip(WIDTHS, own, strict=True))
        words = f"{domain}: aligned with the reader that answers, {steps} points; {rises}"
        found[domain] = {"by reader that answers": gain, "words": words}
    return {"gain over stage 1": found}


COMPARED = [
    (f"{better}, {domain} @ {width}", f"{worse}, {domain} @ {width}")
    for domain in DOMAINS
    for width in WIDTHS
    for better, worse in (
        (aligned(width), "stage 1"),
        *((aligned(width), aligned(other)) for other in WIDTHS if other != width),
        (ALL, aligned(width)),
    )
]
STUDY = Study(
    "readers",
    __doc__,
    measure,
    COMPARED,
    metrics=("recall@1", "answer EM", "answer F1"),
    axis="width of the reader that answers",
    further=gains,
)

if __name__ == "__main__":
    STUDY.run()
