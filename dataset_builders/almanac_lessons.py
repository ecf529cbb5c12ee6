"""Lessons for the tiny VLM: pages of a new world each time, and questions that they answer, or don't."""

from dataclasses import dataclass
from random import Random

from dataset_builders.almanac_kinds import MOTHS
from dataset_builders.almanac_pages import Content, Entry, Question, ask, ask_order, states, write_page, write_plate
from dataset_builders.almanac_world import VISUALS, Species, Split, distinct_species, random_species

FACTS = MOTHS.facts
UNKNOWN = "unknown"
# How often a kind is asked: picture questions are the hardest to learn.
KINDS = ("fact", "fact", "fact", "look", "look", "look", "picture fact", "picture fact", "picture name")


@dataclass(frozen=True)
class Lesson:
    """Documents, and questions about them in the order they are asked."""

    documents: list[Content]
    questions: list[Question]


def picture_lesson(rng: Random, split: Split = "train") -> Lesson:
    """Ask for every visible feature of lone pictures: no document."""
    species = random_species(rng, split)
    return Lesson([], [ask(rng, "picture look", species, about) for about in rng.sample(VISUALS, len(VISUALS))])


def plate_lesson(rng: Random, questions: int, split: Split = "train") -> Lesson:
    """Ask about a page on which only the order of two pictures tells two moths apart."""
    first, second = distinct_species(rng, 2, split)
    page, _ = write_plate(rng, first, second)
    asked: list[Question] = []
    while len(asked) < questions:
        about = rng.choice([name for name in VISUALS if getattr(first.look, name) != getattr(second.look, name)])
        asked.append(ask_order(rng, (first, second), rng.randrange(2), about))
    return Lesson([page], asked)


def page_lesson(
    rng: Random,
    documents: int,
    questions: int,
    *,
    kinds: tuple[str, ...] = KINDS,
    unanswerable: float = 0.0,
    pictured: float = 0.75,
    two_species: float = 0.35,
    split: Split = "train",
) -> Lesson:
    """Ask about one or more pages; the answer to an unanswerable question is `UNKNOWN`.

    One species more than the pages hold is drawn, so that some questions concern an absent one.
    """
    species = distinct_species(rng, rng.randint(2, max(documents, 2) + 1), split)
    present = species[:-1]
    pages = [_entries(rng, present, index, pictured, two_species) for index in range(documents)]
    entries = [entry for page in pages for entry in page]
    asked: dict[tuple[str, str, str], Question] = {}
    for _ in range(80):
        if len(asked) == questions:
            break
        hide = rng.random() < unanswerable
        kind, subject = rng.choice(kinds), rng.choice(species if hide else present)
        about = rng.choice(VISUALS) if kind == "look" else "name" if kind == "picture name" else rng.choice(FACTS)
        if hide == states(entries, kind, subject, about) or _needs_two_pages(entries, kind, subject, about):
            continue
        question = ask(rng, kind, subject, about)
        asked[kind, subject.full_name, about] = Question(kind, about, question.content, UNKNOWN) if hide else question
    written = [write_page(rng, page) for page in pages]
    rng.shuffle(written)
    return Lesson(written, list(asked.values()))


def _entries(rng: Random, present: list[Species], index: int, pictured: float, two_species: float) -> list[Entry]:
    count = 2 if len(present) > 1 and rng.random() < two_species else 1
    chosen = rng.sample(present, count)
    if index < len(present) and present[index] not in chosen:
        chosen[0] = present[index]
    most = 3 if count == 1 else 2
    return [Entry(each, tuple(rng.sample(FACTS, rng.randint(1, most))), rng.random() < pictured) for each in chosen]


def _needs_two_pages(entries: list[Entry], kind: str, species: Species, about: str) -> bool:
    """Tell a picture question that only a picture on one page and a fact on another would answer."""
    own = [entry for entry in entries if entry.species.name == species.name]
    return (
        kind == "picture fact"
        and not states(entries, kind, species, about)
        and any(entry.pictured for entry in own)
        and any(about in entry.facts for entry in own)
    )
