"""The Almanac's world: imaginary species of a kind, night moths for one, each with a name, looks and facts.

Names and looks belong to a split by hash, so that a test species is new in both.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Literal

from dataset_builders.almanac_kinds import FIRST_NAMES, LAST_NAMES, MOTHS, Kind

Split = Literal["train", "validation", "test"]

COLOURS = "red orange yellow green blue purple white brown".split()
SHAPES = "disc bar cross ring".split()
COUNTS = "one two three".split()

VISUALS = ("wing", "mark", "shape", "count")


@dataclass(frozen=True)
class Look:
    """What a picture shows: wing (or crystal) colour, and the colour, shape and number of the marks on each."""

    wing: str
    mark: str
    shape: str
    count: str


LOOKS = [
    Look(wing, mark, shape, count)
    for wing in COLOURS
    for mark in COLOURS
    if mark != wing
    for shape in SHAPES
    for count in COUNTS
]


@dataclass(frozen=True)
class Species:
    """A species: `name` in words (a moth's genus, epithet, perhaps a form), `look`, and a value a fact."""

    name: tuple[str, ...]
    look: Look
    facts: dict[str, str]
    kind: Kind = MOTHS

    @property
    def full_name(self) -> str:
        return " ".join(self.name)


def _split(key: str) -> Split:
    """Give a key its split: 10 % validation, 20 % test, the rest train."""
    fold = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 10
    return "validation" if fold == 0 else "test" if fold < 3 else "train"


def name_split(name: Sequence[str]) -> Split:
    return _split("name " + " ".join(name))


LOOKS_BY_SPLIT: dict[Split, list[Look]] = {
    split: [look for look in LOOKS if _split(f"look {look}") == split] for split in ("train", "validation", "test")
}


def _name(rng: Random, split: Split, kind: Kind) -> tuple[str, ...]:
    first, second, third = kind.names
    while True:
        name = (rng.choice(first), rng.choice(second), *([rng.choice(third)] if rng.random() < 0.5 else []))
        if name_split(name) == split:
            return name


def _fact(rng: Random, fact: str, kind: Kind) -> str:
    if fact == "recorder":
        return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    return rng.choice(kind.values[fact])


def random_species(rng: Random, split: Split = "train", kind: Kind = MOTHS) -> Species:
    """Draw a species whose name and look belong to `split`."""
    facts = {fact: _fact(rng, fact, kind) for fact in kind.facts}
    return Species(_name(rng, split, kind), rng.choice(LOOKS_BY_SPLIT[split]), facts, kind)


def similar_species(rng: Random, species: Species, split: Split = "train") -> Species:
    """Draw a species that may share a word of its name, or two of its visible features, with `species`."""
    other = random_species(rng, split, species.kind)
    name, look = other.name, other.look
    if rng.random() < 0.5:
        position = rng.randrange(2)
        shared = (*name[:position], species.name[position], *name[position + 1 :])
        if shared != species.name and name_split(shared) == split:
            name = shared
    if rng.random() < 0.5:
        near = _near(species.look, split)
        look = rng.choice(near) if near else look
    return replace(other, name=name, look=look)


@cache
def _near(look: Look, split: Split) -> list[Look]:
    """List a split's looks that share two or three features with this one."""
    return [other for other in LOOKS_BY_SPLIT[split] if _shared_features(other, look) in (2, 3)]


def _shared_features(look: Look, other: Look) -> int:
    return sum(getattr(look, visual) == getattr(other, visual) for visual in VISUALS)


def distinct_species(
    rng: Random, count: int, split: Split = "train", similarity: float = 0.5, kind: Kind = MOTHS
) -> list[Species]:
    """Draw `count` species with different names and looks; each resembles an earlier one with chance `similarity`.

    Looks repeat only when the split has fewer than `count`.
    """
    looks = len(LOOKS_BY_SPLIT[split])
    drawn: list[Species] = []
    while len(drawn) < count:
        near = drawn and rng.random() < similarity
        species = similar_species(rng, rng.choice(drawn), split) if near else random_species(rng, split, kind)
        same_look = sum(species.look == other.look for other in drawn)
        if species.name not in {other.name for other in drawn} and same_look <= len(drawn) // looks:
            drawn.append(species)
    return drawn
