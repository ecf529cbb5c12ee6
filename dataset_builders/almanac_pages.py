"""Write the Almanac's pages and questions: content lists that mix words and pictures.

Kinds of question, by what the query holds and what the answer is:
`fact` name → fact, `look` name → visible feature, `picture fact` picture → fact, `picture name` picture → name,
`order` picture → visible feature of the *other* moth on a page where only the order of the pictures tells them apart.
Pictures are of `side` pixels a side where it is given, else of random sizes.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from dataset_builders.almanac_pictures import picture
from dataset_builders.almanac_world import FACTS, VISUALS, Species

Content = list[dict[str, Any]]

# The first form of each fact starts with its subject, so that it can take a pronoun.
SENTENCES = {
    "place": ("{S} lives by the {v}.", "You find {S} near the {v}."),
    "plant": ("{S} feeds on {v}.", "The caterpillars of {S} eat {v}."),
    "month": ("{S} flies in {v}.", "Look in {v} for {S}."),
    "recorder": ("{S} was recorded by {v}.", "The first to note {S} was {v}."),
    "wingspan": ("{S} spans {v}.", "The wingspan of {S} is {v}."),
}
FACT_QUESTIONS = {
    "place": ("Where does {S} live?", "Where is {S} found?"),
    "plant": ("What does {S} feed on?", "Which plant do the caterpillars of {S} eat?"),
    "month": ("In which month does {S} fly?", "When does {S} fly?"),
    "recorder": ("Who recorded {S}?", "Who was the first to note {S}?"),
    "wingspan": ("What is the wingspan of {S}?", "How wide is {S}?"),
}
LOOK_QUESTIONS = {
    "wing": "What colour are the wings of {S}?",
    "mark": "What colour are the marks of {S}?",
    "shape": "Which shape are the marks of {S}?",
    "count": "How many marks are on each wing of {S}?",
}
NAME_QUESTION = "What is this moth called?"
ORDER_QUESTIONS = ("This moth comes first on its page.", "This moth comes second on its page.")
OTHERS = ("the second moth", "the first moth")
PLATES = (
    ("Two moths seen by the {v}:", "came first, then came", "and the night was over."),
    ("A page of two moths. First", "and second", "both drawn in {v}."),
    ("The first picture", "and the second picture", "were sent by {v}."),
)
PLATE_FACTS = ("place", "month", "recorder")


@dataclass(frozen=True)
class Entry:
    """What a page says about one species: some of its facts, with or without its picture."""

    species: Species
    facts: tuple[str, ...]
    pictured: bool


@dataclass(frozen=True)
class Question:
    """A question about a species: its kind, what it asks for, its content and its answer."""

    kind: str
    about: str
    content: Content
    answer: str


def _content(pieces: list[str | bytes]) -> Content:
    """Join neighbouring words by spaces and put pictures between them."""
    content: Content = []
    for piece in pieces:
        if isinstance(piece, bytes):
            content.append({"type": "image", "image": piece})
        elif content and content[-1]["type"] == "text":
            content[-1]["text"] += " " + piece
        else:
            content.append({"type": "text", "text": piece})
    return content


def _sentence(rng: Random, pieces: list[str | bytes], form: str, name: str, value: str, introduced: bool) -> str:
    """Fill a sentence; one that starts a paragraph never starts with the bare name."""
    starts = form.startswith("{S}")
    if introduced and starts and rng.random() < 0.4:
        return form.format(S="It", v=value)
    opens_paragraph = not pieces or isinstance(pieces[-1], bytes)
    if (starts and opens_paragraph) or rng.random() < 0.2:
        name = f"the moth {name}"
    sentence = form.format(S=name, v=value)
    return sentence[0].upper() + sentence[1:]


def _write_picture(rng: Random, pieces: list[str | bytes], species: Species, side: int | None) -> None:
    image = picture(species.look, rng, side)
    form = rng.choice(("{S} looks like this:", "Picture of {S}:", "This picture shows {S}."))
    if form.endswith(":"):
        pieces += [_sentence(rng, pieces, form, species.full_name, "", introduced=False), image]
    else:
        pieces.append(image)
        pieces.append(_sentence(rng, pieces, form, species.full_name, "", introduced=False))


def write_page(rng: Random, entries: list[Entry], side: int | None = None) -> Content:
    """Write a page of one or two entries, with one of several wordings."""
    pieces: list[str | bytes] = []
    pictures_first = len(entries) == 2 and all(entry.pictured for entry in entries) and rng.random() < 0.4
    if pictures_first:
        for words, entry, verb in zip(
            ("The first picture", "and the second picture"), entries, ("shows {S}", "shows {S}."), strict=True
        ):
            pieces += [words, picture(entry.species.look, rng, side), verb.format(S=entry.species.full_name)]
    for entry in entries:
        todo: list[str] = rng.sample(entry.facts, len(entry.facts))
        if entry.pictured and not pictures_first:
            todo.insert(0 if rng.random() < 0.6 else rng.randrange(len(todo) + 1), "picture")
        for position, item in enumerate(todo):
            if item == "picture":
                _write_picture(rng, pieces, entry.species, side)
            else:
                form = rng.choice(SENTENCES[item])
                name, value = entry.species.full_name, entry.species.facts[item]
                pieces.append(_sentence(rng, pieces, form, name, value, introduced=position > 0))
    return _content(pieces)


def write_plate(rng: Random, first: Species, second: Species, side: int | None = None) -> tuple[Content, Content]:
    """Write a page that shows two moths without their names, and its twin with the same pictures swapped."""
    fact = rng.randrange(len(PLATES))
    opening, middle, end = (words.format(v=first.facts[PLATE_FACTS[fact]]) for words in PLATES[fact])
    images = picture(first.look, rng, side), picture(second.look, rng, side)
    page = _content([opening, images[0], middle, images[1], end])
    return page, _content([opening, images[1], middle, images[0], end])


def _subject(rng: Random, species: Species) -> str:
    return species.full_name if rng.random() < 0.5 else f"the moth {species.full_name}"


def ask(rng: Random, kind: str, species: Species, about: str, side: int | None = None) -> Question:
    """Ask about a species by its name (`fact`, `look`) or by a new picture of it (the other kinds but `order`)."""
    by_name = kind in ("fact", "look")
    subject = _subject(rng, species) if by_name else "this moth"
    if about in FACTS:
        words, answer = rng.choice(FACT_QUESTIONS[about]).format(S=subject), species.facts[about]
    elif about in VISUALS:
        words, answer = LOOK_QUESTIONS[about].format(S=subject), getattr(species.look, about)
    else:
        words, answer = NAME_QUESTION, species.full_name
    content = _content([words] if by_name else [picture(species.look, rng, side), words])
    return Question(kind, about, content, answer)


def ask_order(
    rng: Random, plate: tuple[Species, Species], shown: int, about: str, side: int | None = None
) -> Question:
    """Show one moth of a plate (0 or 1), say where it stands, and ask for a feature of the other one."""
    words = f"{ORDER_QUESTIONS[shown]} {LOOK_QUESTIONS[about].format(S=OTHERS[shown])}"
    content = _content([picture(plate[shown].look, rng, side), words])
    return Question("order", about, content, getattr(plate[1 - shown].look, about))


def show_plate(rng: Random, first: Species, second: Species, side: int | None = None) -> Content:
    """Look for a plate by new pictures of both its moths, in its order."""
    images = picture(first.look, rng, side), picture(second.look, rng, side)
    return _content(["The first picture", images[0], "and the second picture", images[1]])


def states(entries: list[Entry], kind: str, species: Species, about: str) -> bool:
    """Say whether a page with these entries holds the answer."""
    for entry in entries:
        if entry.species.name == species.name and {
            "fact": about in entry.facts,
            "picture fact": entry.pictured and about in entry.facts,
        }.get(kind, entry.pictured):
            return True
    return False
