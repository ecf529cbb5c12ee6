"""A field guide: the Almanac's corpus of one world, and the questions it answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

from dataset_builders.almanac_kinds import MOTHS, Kind
from dataset_builders.almanac_pages import (
    Content,
    Entry,
    Question,
    ask,
    ask_order,
    show_plate,
    states,
    write_page,
    write_plate,
)
from dataset_builders.almanac_world import (
    VISUALS,
    Species,
    Split,
    distinct_species,
    random_species,
    similar_species,
)
from dataset_builders.schema import Chunk, Example, QAPair, content_id

# Questions a species: how many of each kind.
QUESTIONS = {"fact": 2, "look": 1, "picture fact": 1, "picture name": 1}
# How often stage 1's examples are of a kind: pictures in the query are harder, and come more often. "plate" looks for
# a page by both its pictures. From order questions alone order isn't learnt: query and page would have to begin to
# encode it in the same step. Two pictures in order are encoded alike on both sides; then one alone learns its place.
# "quote" looks for a page by a fact that it states, in other words or the same: with it vectors come to hold
# what a page states, and stage 2 learns which of a species' pages answers; without, it didn't,
# given five times the questions and three times the steps either.
TRIPLET_KINDS = {
    "fact": 2.0,
    "look": 1.0,
    "picture fact": 4.0,
    "picture name": 2.0,
    "order": 5.0,
    "plate": 5.0,
    "quote": 4.0,
}
# Species whose plates belong together: with so many, pictures alone find nine pages, and order tells which one.
PLATED = 16


Triplet = tuple[Content, Content, Content]  # query, positive, hard negative


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
        entries = tuple(_entry(each, [rng.choice(kind.facts)], rng.random() < 0.8) for each in pair)
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


def _entry(species: Species, facts: Sequence[str], pictured: bool) -> Entry:
    """Write what a page says of a species; of a kind whose pictures have a set size, all pages show it."""
    return Entry(species, tuple(facts), pictured or species.kind.side is not None)


def _own_pages(rng: Random, species: Species) -> Iterator[Page]:
    facts = rng.sample(species.kind.facts, len(species.kind.facts))
    parts = (facts[:2], facts[2:4], [*facts[4:], rng.choice(facts[:4])])
    pictured = [rng.random() < 0.55 for _ in parts]
    pictured[rng.randrange(3)] |= not any(pictured)
    for part, with_picture in zip(parts, pictured, strict=True):
        entry = _entry(species, part, with_picture)
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
        for shown, _ in enumerate(page.plate):
            yield _record(_ask_plate(rng, page.plate, shown), [key])


def _ask_plate(rng: Random, plate: tuple[Species, ...], shown: int) -> Question:
    first, second = plate
    differing = [about for about in VISUALS if getattr(first.look, about) != getattr(second.look, about)]
    return ask_order(rng, (first, second), shown, rng.choice(differing))


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


def topical_examples(split: Split, count: int, seed: int, kind: Kind = MOTHS) -> Iterator[Example]:
    """Yield examples for stage 1, whose positives are about the query's species and no more.

    That is how public pairs are: the positive need not answer. Two and two ask alike, in a new world, and the one's
    positive is the other's hard negative: it is about a similar species; where order matters it is the same page with
    its pictures swapped. So a batch in which they stay together embeds half as many pages, and what two queries have
    in common drops out of what is learnt. Only a quote's positive says what its query does, and its negative, of the
    same species, doesn't.
    """
    rng = Random(f"triplets {split} {seed}")
    return islice(_examples(rng, split, kind), count)


def _examples(rng: Random, split: Split, kind: Kind) -> Iterator[Example]:
    while True:
        asks = rng.choices(list(TRIPLET_KINDS), list(TRIPLET_KINDS.values()))[0]
        draw = {"order": _of_plates, "plate": _of_plates, "quote": _of_quotes}.get(asks, _of_species)
        for query, positive, negative in draw(rng, asks, split, kind):
            key = content_id([*query, *positive])
            yield Example(id=key, query=query, positives=[positive], negatives=[negative], answers=[])


def _of_species(rng: Random, asks: str, split: Split, kind: Kind) -> list[Triplet]:
    species = random_species(rng, split, kind)
    both = species, similar_species(rng, species, split)
    queries = [ask(rng, asks, each, rng.choice(asked_of(each, asks))).content for each in both]
    pages = [_topical_page(rng, each, asks.startswith("picture") or rng.random() < 0.55, split) for each in both]
    return _each_others_negative(queries, pages)


def _of_plates(rng: Random, asks: str, split: Split, kind: Kind) -> list[Triplet]:
    """Look for a page and for its twin; what stands in for the page is another page of a species of theirs."""
    first, second, third = distinct_species(rng, 3, split, kind=kind)
    plates, pages = ((first, second), (second, first)), write_plate(rng, first, second)
    one, other = rng.sample((0, 1), 2)  # where `first` stands
    queries = [
        _ask_plate(rng, plates[place], place).content if asks == "order" else show_plate(rng, *plates[place])
        for place in (one, other)
    ]
    misplaced = write_plate(rng, first, third)[one]
    negative = _topical_page(rng, first, True, split) if rng.random() < 0.6 else misplaced
    return [(queries[0], pages[one], pages[other]), (queries[1], pages[other], negative)]


def _of_quotes(rng: Random, asks: str, split: Split, kind: Kind) -> list[Triplet]:
    species = random_species(rng, split, kind)
    facts = rng.sample(kind.facts, 4)
    queries = [write_page(rng, [Entry(species, (fact,), pictured=False)]) for fact in facts[::2]]
    pages = [write_page(rng, [_entry(species, stated, rng.random() < 0.55)]) for stated in (facts[:2], facts[2:])]
    return _each_others_negative(queries, pages)


def _each_others_negative(queries: Sequence[Content], pages: Sequence[Content]) -> list[Triplet]:
    return [(queries[0], pages[0], pages[1]), (queries[1], pages[1], pages[0])]


def _topical_page(rng: Random, species: Species, pictured: bool, split: Split) -> Content:
    if rng.random() < 0.75:
        return write_page(rng, [_entry(species, rng.sample(species.kind.facts, 2), pictured)])
    kind = species.kind
    other = _entry(random_species(rng, split, kind), [rng.choice(kind.facts)], rng.random() < 0.7)
    entries = [_entry(species, [rng.choice(kind.facts)], pictured), other]
    rng.shuffle(entries)
    return write_page(rng, entries)
