"""Write the Almanac's pages and questions: content lists that mix words and pictures.

Kinds of question, by what the query holds and what the answer is:
`fact` name → fact, `look` name → visible feature, `picture fact` picture → fact, `picture name` picture → name,
`order` picture → visible feature of the *other* one on a page where only the order of the pictures tells them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from dataset_builders.almanac_pictures import picture
from dataset_builders.almanac_world import VISUALS, Species

Content = list[dict[str, Any]]


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


def write_entry(species: Species, facts: Sequence[str], pictured: bool) -> Entry:
    """Write what a page says of a species; of a kind whose pictures have a set size, all pages show it."""
    return Entry(species, tuple(facts), pictured or species.kind.side is not None)


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


def _sentence(
    rng: Random, pieces: list[str | bytes], form: str, species: Species, value: str, introduced: bool
) -> str:
    """Fill a sentence; one that starts a paragraph never starts with the bare name."""
    starts = form.startswith("{S}")
    if introduced and starts and rng.random() < 0.4:
        return form.format(S="It", v=value)
    opens_paragraph = not pieces or isinstance(pieces[-1], bytes)
    name = species.full_name
    if (starts and opens_paragraph) or rng.random() < 0.2:
        name = f"the {species.kind.noun} {name}"
    sentence = form.format(S=name, v=value)
    return sentence[0].upper() + sentence[1:]


def _picture(rng: Random, species: Species) -> bytes:
    return picture(species.look, rng, species.kind.noun, species.kind.side)


def _write_picture(rng: Random, pieces: list[str | bytes], species: Species) -> None:
    image = _picture(rng, species)
    form = rng.choice(("{S} looks like this:", "Picture of {S}:", "This picture shows {S}."))
    if form.endswith(":"):
        pieces += [_sentence(rng, pieces, form, species, "", introduced=False), image]
    else:
        pieces.append(image)
        pieces.append(_sentence(rng, pieces, form, species, "", introduced=False))


def write_page(rng: Random, entries: list[Entry]) -> Content:
    """Write a page of one or two entries, with one of several wordings."""
    pieces: list[str | bytes] = []
    pictures_first = len(entries) == 2 and all(entry.pictured for entry in entries) and rng.random() < 0.4
    if pictures_first:
        for words, entry, verb in zip(
            ("The first picture", "and the second picture"), entries, ("shows {S}", "shows {S}."), strict=True
        ):
            pieces += [words, _picture(rng, entry.species), verb.format(S=entry.species.full_name)]
    for entry in entries:
        todo: list[str] = rng.sample(entry.facts, len(entry.facts))
        if entry.pictured and not pictures_first:
            todo.insert(0 if rng.random() < 0.6 else rng.randrange(len(todo) + 1), "picture")
        for position, item in enumerate(todo):
            if item == "picture":
                _write_picture(rng, pieces, entry.species)
            else:
                form, value = rng.choice(entry.species.kind.sentences[item]), entry.species.facts[item]
                pieces.append(_sentence(rng, pieces, form, entry.species, value, introduced=position > 0))
    return _content(pieces)


def write_plate(rng: Random, first: Species, second: Species) -> tuple[Content, Content]:
    """Write a page that shows two species without their names, and its twin with the same pictures swapped."""
    fact, plate = rng.choice(list(first.kind.plates.items()))
    opening, middle, end = (words.format(v=first.facts[fact]) for words in plate)
    images = _picture(rng, first), _picture(rng, second)
    page = _content([opening, images[0], middle, images[1], end])
    return page, _content([opening, images[1], middle, images[0], end])


def _subject(rng: Random, species: Species) -> str:
    return species.full_name if rng.random() < 0.5 else f"the {species.kind.noun} {species.full_name}"


def ask(rng: Random, kind: str, species: Species, about: str) -> Question:
    """Ask about a species by its name (`fact`, `look`) or by a new picture of it (the other kinds but `order`)."""
    by_name, forms = kind in ("fact", "look"), species.kind
    subject = _subject(rng, species) if by_name else f"this {forms.noun}"
    if about in species.facts:
        words, answer = rng.choice(forms.fact_questions[about]).format(S=subject), species.facts[about]
    elif about in VISUALS:
        words, answer = forms.look_questions[about].format(S=subject), getattr(species.look, about)
    else:
        words, answer = forms.name_question, species.full_name
    return Question(kind, about, _content([words] if by_name else [_picture(rng, species), words]), answer)


def ask_order(rng: Random, plate: tuple[Species, Species], shown: int, about: str) -> Question:
    """Show one species of a plate (0 or 1), say where it stands, and ask for a feature of the other one."""
    forms = plate[shown].kind
    words = f"{forms.order_questions[shown]} {forms.look_questions[about].format(S=forms.others[shown])}"
    content = _content([_picture(rng, plate[shown]), words])
    return Question("order", about, content, getattr(plate[1 - shown].look, about))


def ask_plate(rng: Random, plate: tuple[Species, ...], shown: int) -> Question:
    """Show one species of a plate (0 or 1), and ask for a feature in which the other one differs."""
    first, second = plate
    differing = [about for about in VISUALS if getattr(first.look, about) != getattr(second.look, about)]
    return ask_order(rng, (first, second), shown, rng.choice(differing))


def show_plate(rng: Random, first: Species, second: Species) -> Content:
    """Look for a plate by new pictures of both its species, in its order."""
    return _content(["The first picture", _picture(rng, first), "and the second picture", _picture(rng, second)])


def states(entries: list[Entry], kind: str, species: Species, about: str) -> bool:
    """Say whether a page with these entries holds the answer."""
    for entry in entries:
        if entry.species.name == species.name and {
            "fact": about in entry.facts,
            "picture fact": entry.pictured and about in entry.facts,
        }.get(kind, entry.pictured):
            return True
    return False
