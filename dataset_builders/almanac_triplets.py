"""Stage 1's examples on the Almanac: topical, as public pairs are, and two and two."""

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from dataset_builders.almanac_guide import asked_of
from dataset_builders.almanac_kinds import MOTHS, Kind
from dataset_builders.almanac_pages import (
    Content,
    Entry,
    ask,
    ask_plate,
    show_plate,
    write_entry,
    write_page,
    write_plate,
)
from dataset_builders.almanac_world import Species, Split, distinct_species, random_species, similar_species
from dataset_builders.schema import Example, content_id

Triplet = tuple[Content, Content, Content]  # query, positive, hard negative

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


def topical_examples(split: Split, count: int, seed: int, kind: Kind = MOTHS) -> Iterator[Example]:
    """Yield examples for stage 1, whose positives are about the query's species and no more.

    That is how public pairs are: the positive need not answer. Two and two ask alike, in a new world, and the one's
    positive is the other's hard negative: it is about a similar species; where order matters it is the same page with
    its pictures swapped, for one of the two. So a batch in which they stay together embeds half as many pages, and
    what two queries have in common drops out of what is learnt. Only a quote's positive says what its query does, and
    its negative, of the same species, doesn't.
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
    """Look for a page and for its twin. The twin's query, whose batch has the page anyway, has another hard negative:
    a page of the first species that is no plate, or a plate with it at the wrong place."""
    first, second, third = distinct_species(rng, 3, split, kind=kind)
    plates, pages = ((first, second), (second, first)), write_plate(rng, first, second)
    one, other = rng.sample((0, 1), 2)  # where `first` stands
    queries = [
        ask_plate(rng, plates[place], place).content if asks == "order" else show_plate(rng, *plates[place])
        for place in (one, other)
    ]
    misplaced = write_plate(rng, first, third)[one]
    negative = _topical_page(rng, first, True, split) if rng.random() < 0.6 else misplaced
    return [(queries[0], pages[one], pages[other]), (queries[1], pages[other], negative)]


def _of_quotes(rng: Random, asks: str, split: Split, kind: Kind) -> list[Triplet]:
    species = random_species(rng, split, kind)
    facts = rng.sample(kind.facts, 4)
    queries = [write_page(rng, [Entry(species, (fact,), pictured=False)]) for fact in facts[::2]]
    pages = [write_page(rng, [write_entry(species, stated, rng.random() < 0.55)]) for stated in (facts[:2], facts[2:])]
    return _each_others_negative(queries, pages)


def _each_others_negative(queries: Sequence[Content], pages: Sequence[Content]) -> list[Triplet]:
    return [(queries[0], pages[0], pages[1]), (queries[1], pages[1], pages[0])]


def _topical_page(rng: Random, species: Species, pictured: bool, split: Split) -> Content:
    if rng.random() < 0.75:
        return write_page(rng, [write_entry(species, rng.sample(species.kind.facts, 2), pictured)])
    kind = species.kind
    other = write_entry(random_species(rng, split, kind), [rng.choice(kind.facts)], rng.random() < 0.7)
    entries = [write_entry(species, [rng.choice(kind.facts)], pictured), other]
    rng.shuffle(entries)
    return write_page(rng, entries)
