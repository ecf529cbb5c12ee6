"""What makes a question unusable by its words alone: each filter gives the reason, or None.

They look for phrases that point at a page or picture which whoever is asked doesn't see; a question that merely has
the word "text" or "author" in it passes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from dataset_builders.prompts import ANSWER_WORDS
from nyx.metrics import normalize

CONTEXT = "speaks of the page it came from"
DANGLING = "shows a picture that is not there"
UNMARKED = "speaks of a picture it doesn't show"
FEW_PICTURES = "shows fewer than two pictures"
EMPTY = "empty question or answer"
LONG = f"answer of more than {ANSWER_WORDS} words"

REFERENCE = re.compile(r"<\s*image[\s_]*(\d+)\s*>", re.IGNORECASE)
ANY_REFERENCE = re.compile(r"<\W*image[^<>]{0,20}>", re.IGNORECASE)

# What one reads. "this recipe" points at the page; "the recipe" may be named in the question, so it is not among them.
PAGE = (
    r"(?:text|passage|document|article|paragraph|excerpt|snippet|context|section|chapter|page|web ?page|website|site"
    r"|blog(?: post)?|post|tutorial|guide|write-?up|source|story|report|interview|lesson)"
)
THIS = r"(?:recipe|paper|study|book|essay|workshop|module|exercise|example|activity|list|table)"
GIVEN = (
    r"(?:given|provided|above|following|preceding|accompanying|supplied|present|current|same|whole|entire|original)"
)
POINTING = [
    # "in the text" and "of the passage", not "in the text of the treaty" nor "in the Guardian article".
    rf"\b(?:in|from|by|of|on|within|throughout|to|per|about|with) (?:the|that) (?:{GIVEN} )?{PAGE}\b"
    r"(?! (?:of|by|on)\b)",
    rf"\b(?:does|do|did|is|was|are) (?:the|that) (?:{GIVEN} )?{PAGE}\b(?! (?:of|by|on)\b)",
    rf"\bthis (?:{GIVEN} )?(?:{PAGE}|{THIS})\b",
    rf"\bthe {GIVEN} (?:{PAGE}|{THIS}|information|description|statement)\b",
    # "the author of Emma" is somebody, "the author" is whoever wrote the page.
    r"\b(?:the|this) (?:blog )?(?:author|writer|narrator|blogger|interviewee|poster)s?\b(?!['’]?s? of\b)"
    r"(?! (?:who|whose)\b)",
    r"\b(?:mentioned|described|discussed|listed|stated|cited|shown|given|outlined|explained) "
    r"(?:above|below|here|earlier|previously|in it)\b",
    r"\b(?:afore-?mentioned|above-?mentioned|the above|the foregoing)\b",
    # With a list after it, it can be understood.
    r"\b(?:which|what|who|one|all|none) of the following\b(?!.*(?::|\([a-e1-5]\)))",
    # A pronoun that comes before any name.
    r"^(?:what|who|whom|whose|when|where|why|how|which)(?: \w+)? (?:did|does|do|is|was|were|are|has|had|have|can|will|"
    r"would|should) (?:he|she|they)\b",
]
CONTEXT_WORDS = re.compile("|".join(POINTING), re.IGNORECASE)

PICTURE = (
    r"(?:image|picture|photo(?:graph)?|figure|diagram|illustration|screenshot|chart|graph|plot|drawing|infographic)s?"
)
ORDER = (
    r"(?:first|second|third|fourth|fifth|last|left|right|top|bottom|other|two|three|both|above|below|given|following)"
)
PICTURE_WORDS = re.compile(
    "|".join(
        [
            rf"\b(?:in|on|from|by|of|to|with) (?:the|that|those|both|each|either) (?:of the )?(?:{ORDER} )*{PICTURE}\b"
            r"(?! of\b)",
            rf"\b(?:this|these|both) (?:{ORDER} )?{PICTURE}\b",
            rf"\bthe (?:{ORDER} )?{PICTURE} (?:above|below|shown|provided|given|show|depict)",
            rf"\b(?:does|do|is|are|was|were) (?:the|that) (?:{ORDER} )?{PICTURE}\b(?! of\b)",
            rf"\b(?:{PICTURE}|fig\.) \d+\b",
            r"\b(?:pictured|depicted|shown) (?:here|above|below)\b",
        ]
    ),
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Draft:
    """A question as the reader wrote it: `<imageN>` is the N-th of the `pictures` that its page has."""

    question: str
    answer: str
    pictures: int
    # At least so many different pictures must be shown.
    least: int = 0


def references(question: str) -> list[int]:
    """Return the numbers of the pictures that a question shows, in order, again where it shows one again."""
    return [int(number) for number in REFERENCE.findall(question)]


def empty(draft: Draft) -> str | None:
    """An answer that is no more than punctuation and articles cannot be scored by any metric."""
    without = REFERENCE.sub(" ", draft.question)
    return None if normalize(without) and normalize(draft.answer) else EMPTY


def points_at_page(draft: Draft) -> str | None:
    """Phrases such as "according to the text" or "the author"; what looks like one around a mark is none."""
    return CONTEXT if CONTEXT_WORDS.search(" ".join(REFERENCE.sub("<>", draft.question).split())) else None


def points_at_pictures(draft: Draft) -> str | None:
    """Marks of pictures that the page doesn't have, or words for a picture without any mark."""
    shown = references(draft.question)
    odd = len(ANY_REFERENCE.findall(draft.question)) != len(shown) or REFERENCE.search(draft.answer)
    if odd or any(not 1 <= number <= draft.pictures for number in shown):
        return DANGLING
    if not shown and PICTURE_WORDS.search(" ".join(draft.question.split())):
        return UNMARKED
    return FEW_PICTURES if len(set(shown)) < draft.least else None


def too_long(draft: Draft) -> str | None:
    return LONG if len(draft.answer.split()) > ANSWER_WORDS else None


Filter = Callable[[Draft], str | None]
# Before refinement, whose business long answers are, and after it.
ERRORS: dict[str, Filter] = {"empty": empty, "page words": points_at_page, "pictures": points_at_pictures}
RULES: dict[str, Filter] = ERRORS | {"length": too_long}


def reason_against(draft: Draft, rules: dict[str, Filter]) -> str | None:
    """Return the first rule's reason, None if the draft passes all."""
    return next((reason for rule in rules.values() if (reason := rule(draft))), None)
