"""The Almanac's world: imaginary night moths, each with a name, looks and facts.

Names and looks belong to a split by hash, so that a test species is new in both.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Split = Literal["train", "validation", "test"]

GENERA = (
    "Vela Tormentia Masca Kindra Dravia Ubella Solara Pemora Ghira Lorisa Fenestra Wixia Zanthe Coriola Istara Hulda "
    "Brenta Nimbia Quassia Ostara Yarrona Jelica Ruskia Ethera"
).split()
EPITHETS = (
    "mirabilis domestica zelosa lunaris radiata fornax pictula nebulosa gallica shuvana torquata viridis bellicosa "
    "sagitta chelona nocturna wallensis jillana murina kyanea praetexta leonis dregei pallida"
).split()
FORMS = "minor lusca danubis tianae morosa pexata nonna vispera garbata belisa sikora tumida".split()

COLOURS = "red orange yellow green blue purple white brown".split()
SHAPES = "disc bar cross ring".split()
COUNTS = "one two three".split()

PLACES = (
    "quarry heath moor canal orchard cliff meadow bog wharf glade ridge lagoon".split()
    + "salt marsh,stone bridge,old mill,north dune,reed bed,chalk pit,railway yard,river mouth,walled garden,"
    "tidal pool,pine wood,village green".split(",")
)
PLANTS = (
    "heather nettle willow oak birch ivy clover thyme bramble sorrel dock alder hazel gorse broom poplar sedge elm "
    "hop lichen mallow tansy yarrow dogwood"
).split()
MONTHS = "January February March April May June July August September October November December".split()
FIRST_NAMES = "Ada Bruno Clara Dmitri Edith Farid Greta Hana Igor June Karim Lena".split()
LAST_NAMES = (
    "Hargreaves Okafor Lindqvist Baptiste Moreau Tanaka Silva Novak Petrov Ibrahim Doyle Fischer Costa Larsen Mehta "
    "Quinn Rossi Sato Ueda Vargas Weiss Xu Young Zhou"
).split()
TENS = "twenty thirty forty fifty sixty".split()
UNITS = "two four six eight".split()

FACTS = ("place", "plant", "month", "recorder", "wingspan")
VISUALS = ("wing", "mark", "shape", "count")


@dataclass(frozen=True)
class Look:
    """What a picture shows: wing colour, and the colour, shape and number of the marks on each wing."""

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
    """A moth: `name` in words (genus, epithet, perhaps a form), `look`, and one value per name in `FACTS`."""

    name: tuple[str, ...]
    look: Look
    facts: dict[str, str]

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


def _name(rng: Random, split: Split) -> tuple[str, ...]:
    while True:
        name = (rng.choice(GENERA), rng.choice(EPITHETS), *([rng.choice(FORMS)] if rng.random() < 0.5 else []))
        if name_split(name) == split:
            return name


def _fact(rng: Random, fact: str) -> str:
    if fact == "place":
        return rng.choice(PLACES)
    if fact == "plant":
        return rng.choice(PLANTS)
    if fact == "month":
        return rng.choice(MONTHS)
    if fact == "recorder":
        return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    return rng.choice([f"{ten}{unit} mm" for ten in TENS for unit in ("", *(f"-{unit}" for unit in UNITS))])


def random_species(rng: Random, split: Split = "train") -> Species:
    """Draw a species whose name and look belong to `split`."""
    facts = {fact: _fact(rng, fact) for fact in FACTS}
    return Species(_name(rng, split), rng.choice(LOOKS_BY_SPLIT[split]), facts)


def similar_species(rng: Random, species: Species, split: Split = "train") -> Species:
    """Draw a species that may share a word of its name, or two of its visible features, with `species`."""
    other = random_species(rng, split)
    name, look = other.name, other.look
    if rng.random() < 0.5:
        position = rng.randrange(2)
        shared = (*name[:position], species.name[position], *name[position + 1 :])
        if shared != species.name and name_split(shared) == split:
            name = shared
    if rng.random() < 0.5:
        near = [look for look in LOOKS_BY_SPLIT[split] if _shared_features(look, species.look) in (2, 3)]
        look = rng.choice(near) if near else look
    return Species(name, look, other.facts)


def _shared_features(look: Look, other: Look) -> int:
    return sum(getattr(look, visual) == getattr(other, visual) for visual in VISUALS)


def distinct_species(rng: Random, count: int, split: Split = "train", similarity: float = 0.5) -> list[Species]:
    """Draw `count` species with different names and looks; each resembles an earlier one with chance `similarity`.

    Looks repeat only when the split has fewer than `count`.
    """
    looks = len(LOOKS_BY_SPLIT[split])
    drawn: list[Species] = []
    while len(drawn) < count:
        near = drawn and rng.random() < similarity
        species = similar_species(rng, rng.choice(drawn), split) if near else random_species(rng, split)
        same_look = sum(species.look == other.look for other in drawn)
        if species.name not in {other.name for other in drawn} and same_look <= len(drawn) // looks:
            drawn.append(species)
    return drawn
