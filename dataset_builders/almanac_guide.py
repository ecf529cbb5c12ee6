"""A field guide: the Almanac's corpus of one world, and the questions it answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from dataset_builders.almanac_kinds import MOTHS, Kind
from dataset_builders.almanac_pages import (
    Content,
    Entry,
    Question,
    ask,
    ask_plate,
    states,
    write_entry,
    write_page,
    write_plate,
)
from dataset_builders.almanac_world import VISUALS, Species, Split, distinct_species
from dataset_builders.schema import Chunk, QAPair, content_id

# Questions a species: how many of each kind.
QUESTIONS = {"fact": 2, "look": 1, "picture fact": 1, "picture name": 1}
# Species whose plates belong together: with so many, pictures alone find nine pages, and order tells which one.
PLATED = 16


@dataclass(frozen=True)
class Page:
    """A page and what it says: entries by species, or the two nameless species of a plate that is asked about."""

    content: Content
    entries: tuple[Entry, ...] = ()
    plate: tuple[Species, ...] = ()


def field_guide(split: Split, species: int, seed: int, kind: Kind = MOTHS) -> tuple[list[Chunk], list[QAPair]]:
    """Write the guide of a world of that many species, each new in name and looks to the other splits.

    Every species has three pages of its own with its facts, two a page of a moth, at least one of them with its
    picture. There are also pages of two species, and plates: pages without names, on which species keep their place
    but once. Their pictures are on many pages; the place tells which one is meant.
    """
    rng = Random(f"guide {split} {seed}")
    world = distinct_species(rng, species, split, similarity=0.3, kind=kind)
    pages = [page for each in world for page in _own_pages(rng, each)]
    for _ in range(round(0.6 * species)):
        pair = rng.sample(world, 2)
        entries = tuple(write_entry(each, [rng.choice(kind.facts)], rng.random() < 0.8) for each in pair)
        pages.append(Page(write_page(rng, list(entries)), entries))
    plated = rng.sample(world, 2 * round(0.4 * species))
    for start in range(0, len(plated), PLATED):
        pages += _plates(rng, plated[start : start + PLATED])
    rng.shuffle(pages)
    ids = [content_id(page.content) for page in pages]
    source = f"almanac/{split}/{seed}"
    chunks = [
        Chunk(id=key, document_id=key, source=source, content=page.content)
        for key, page in zip(ids, pages, strict=True)
    ]
    return chunks, list(_questions(rng, world, pages, ids))


def _own_pages(rng: Random, species: Species) -> Iterator[Page]:
    facts = rng.sample(species.kind.facts, len(species.kind.facts))
    parts = (facts[:2], facts[2:4], [*facts[4:], rng.choice(facts[:4])])
    pictured = [rng.random() < 0.55 for _ in parts]
    pictured[rng.randrange(3)] |= not any(pictured)
    for part, with_picture in zip(parts, pictured, strict=True):
        entry = write_entry(species, part, with_picture)
        yield Page(write_page(rng, [entry]), (entry,))


def _plates(rng: Random, species: Sequence[Species]) -> Iterator[Page]:
    """Show each of one half before each of the other half, and behind one of them, on that page's twin."""
    half = len(species) // 2
    for place, first in enumerate(species[:half]):
        for partner, second in enumerate(species[half:]):
            if first.look == second.look:  # in a world of more species than looks; there is nothing to ask
                continue
            page, twin = write_plate(rng, first, second)
            yield Page(page)
            if partner == place:
                yield Page(twin, plate=(second, first))


def asked_of(species: Species, kind: str) -> tuple[str, ...]:
    """Return what questions of a kind may ask of a species."""
    return VISUALS if kind == "look" else ("name",) if kind == "picture name" else species.kind.facts


def _questions(rng: Random, world: list[Species], pages: list[Page], ids: list[str]) -> Iterator[QAPair]:
    """Ask what at least one page answers; every page that states the answer is gold."""
    for species in world:
        for kind, count in QUESTIONS.items():
            wanted = asked_of(species, kind)
            asked = 0
            for about in rng.sample(wanted, len(wanted)):
                gold = [
                    key
                    for key, page in zip(ids, pages, strict=True)
                    if states(list(page.entries), kind, species, about)
                ]
                if gold and asked < count:
                    asked += 1
                    yield _record(ask(rng, kind, species, about), gold)
    for key, page in zip(ids, pages, strict=True):
        for shown in range(len(page.plate)):
            yield _record(ask_plate(rng, page.plate, shown), [key])


def _record(question: Question, gold: list[str]) -> QAPair:
    return QAPair(
        id=content_id([*question.content, {"type": "text", "text": question.answer}]),
        question=question.content,
        answers=[question.answer],
        options=[],
        correct_option=None,
        gold_ids=gold,
        modality="text" if question.kind in ("fact", "look") else "mixed",
        kind=question.kind,
    )
