"""Four options to a question: the right answer is ours, the three wrong ones come from the reader."""

from collections.abc import Iterable
from random import Random
from typing import Any

from dataset_builders.asking import Rejected, asked
from dataset_builders.filters import Draft
from dataset_builders.prompts import DISTRACTORS, ask_distractors
from dataset_builders.schema import QAPair
from modeling_nyx.content_nyx import Content, to_content
from nyx.conversations import Conversation
from nyx.metrics import normalize

STEP = "options"
TOO_FEW = "fewer than three wrong options"


def ask_options(page: Content, draft: Draft) -> Conversation[list[str]]:
    """Ask for wrong answers. Raises `Rejected` if, asked twice, too few are left."""

    def read(value: Any) -> list[str]:
        wrong = distinct(value["options"], draft.answer)
        if len(wrong) < DISTRACTORS:
            said = f"of {value['options']!r:.200} only {wrong!r:.200} are wrong, short and different from one another"
            raise Rejected(STEP, TOO_FEW, said)
        return wrong[:DISTRACTORS]

    return asked(STEP, ask_distractors(page, draft.question, draft.answer), read)


def distinct(options: Iterable[str], answer: str) -> list[str]:
    """Leave out what the metrics cannot tell from the answer, or from an option before, or from nothing."""
    seen = {"", normalize(answer)}
    kept = []
    for option in map(str.strip, options):
        if normalize(option) not in seen:
            seen.add(normalize(option))
            kept.append(option)
    return kept


def with_options(pair: QAPair) -> Content:
    """Return a question as a query that has its options too, in the paper's form."""
    if not pair.options:
        return pair.question
    return to_content(["Question: ", *pair.question, f"\nChoices: {', '.join(pair.options)}"])


def arrange(answer: str, wrong: list[str], seed: str) -> tuple[list[str], int]:
    """Return the shuffled options and the place of the right one."""
    options = [answer, *wrong]
    Random(seed).shuffle(options)
    return options, options.index(answer)
