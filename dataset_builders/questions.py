"""Choose the chunks to ask about, by modality, and ask for questions (paper section 3.2)."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from dataset_builders.asking import asked
from dataset_builders.filters import REFERENCE, Draft
from dataset_builders.prompts import ASK_PICTURES, ASK_SEVERAL, ASK_TEXT, ask_pairs
from modeling_nyx.content_nyx import Content, to_content
from nyx.conversations import Conversation

TEXT, ONE, SEVERAL = "text", "one picture", "several pictures"
MODALITIES = (TEXT, ONE, SEVERAL)
# The step at which a chunk, not a pair, is left out.
CHUNK = "chunk"
# How the paper's chunks are distributed.
SHARES = {TEXT: 0.6329, ONE: 0.2985, SEVERAL: 0.0686}

# What is asked of a chunk, and how many different pictures its questions must show at least.
PASSES = {
    TEXT: ((ASK_TEXT, 0),),
    ONE: ((ASK_PICTURES, 0),),
    SEVERAL: ((ASK_PICTURES, 0), (ASK_SEVERAL, 2)),
}


def modality(pictures: int) -> str:
    """Name a chunk's modality by how many pictures it has."""
    return MODALITIES[min(pictures, 2)]


def pictures_of(content: Content) -> list[Any]:
    return [item["image"] for item in content if item["type"] == "image"]


def shuffled(ids: Iterable[str], seed: int) -> list[str]:
    """Order ids by chance: the same way for a seed, whatever else is among them."""
    return sorted(ids, key=lambda each: hashlib.sha256(f"{seed} {each}".encode()).digest())


def draw(census: Iterable[tuple[str, str]], size: int, shares: Mapping[str, float], seed: int) -> set[str]:
    """Draw chunk ids, `size` in all, from (id, modality) in proportion to `shares`.

    A modality that has fewer chunks than its part gives all it has; others don't stand in for it.
    """
    strata: dict[str, list[str]] = defaultdict(list)
    for name, kind in census:
        strata[kind].append(name)
    return {name for kind, part in parts(size, shares).items() for name in shuffled(strata[kind], seed)[:part]}


def parts(size: int, shares: Mapping[str, float]) -> Counter[str]:
    """Divide `size` in proportion to `shares`; what rounding leaves goes to the largest remainders."""
    if size < 1 or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise ValueError(f"{size} chunks by {dict(shares)}; expected at least 1, and shares of which none is below 0.")
    exact = {kind: size * share / sum(shares.values()) for kind, share in shares.items()}
    whole = Counter({kind: int(part) for kind, part in exact.items()})
    for kind in sorted(exact, key=lambda kind: whole[kind] - exact[kind])[: size - whole.total()]:
        whole[kind] += 1
    return whole


def ask_drafts(page: Content, instruction: str, least: int) -> Conversation[list[Draft]]:
    """Ask for a page's questions by one of `PASSES`. Raises `Rejected` when there is no answer that can be read."""
    pictures = len(pictures_of(page))

    def read(value: Any) -> list[Draft]:
        return [Draft(pair["question"].strip(), pair["answer"].strip(), pictures, least) for pair in value["pairs"]]

    return asked(CHUNK, ask_pairs(page, instruction), read)


def question_content(question: str, pictures: list[Any]) -> Content:
    """Put the pictures in the place of their marks."""
    pieces = REFERENCE.split(question)
    items = [
        {"type": "image", "image": pictures[int(piece) - 1]} if place % 2 else {"type": "text", "text": piece}
        for place, piece in enumerate(pieces)
    ]
    return to_content(items)
