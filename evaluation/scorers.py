"""What the benchmarks' own scorers say of an answer, by the benchmark's name.

`squad`, `hotpotqa` and `musique` compare one answer with several that are each right; the best counts.
`multimodalqa` compares lists: all of a question's answers are asked for, in any order. `choice` finds the option that
an answer names, by its text or by its letter.
"""

import re
import string
from collections.abc import Callable, Collection, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from nyx.metrics import ARTICLES, PUNCTUATION, exact_match, normalize, token_f1

CHOICE = "choice"
# HotpotQA's answers of a kind of their own: sharing words with one of them is worth nothing.
VERDICTS = {"yes", "no", "noanswer"}
UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = (
    {word: number for number, word in enumerate(UNITS.split())}
    | {word: number for number, word in zip(range(20, 100, 10), TENS.split(), strict=True)}
    | {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
)
SEPARATORS = re.compile(r"\s*(?:[,;\n]|\band\b)\s*")
LETTER = re.compile(r"(?:(?:the )?(?:correct )?answer(?: is|:)\s+)?\(?([A-Z])(?:\)|[.:]\s|[.:]?$)", re.I | re.A)


def score(name: str, prediction: str, answers: Sequence[str], options: Sequence[str] = ()) -> dict[str, float]:
    """Score an answer as the benchmark `name` does: `em` and `f1`, or for options `accuracy`.

    Raises `ValueError` for an unknown name, without answers, or for `choice` if no answer is among the options.
    """
    if name == CHOICE:
        return {"accuracy": choice(prediction, answers, options)}
    if name not in SCORERS:
        raise ValueError(f"Unknown scorer {name!r}; expected one of {', '.join([*SCORERS, CHOICE])}.")
    if isinstance(answers, str) or not answers:
        raise ValueError(f"Expected a list of at least one gold answer, not {answers!r}.")
    em, f1 = SCORERS[name](prediction, answers)
    return {"em": em, "f1": f1}


def squad(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """Return EM and F1. A gold answer of nothing but articles and punctuation counts where there is no other."""
    golds = [gold for gold in golds if normalize(gold)] or [""]
    return musique(prediction, golds)


def musique(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """Return EM and F1."""
    return exact_match(prediction, golds), token_f1(prediction, golds)


def hotpotqa(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """Return EM and F1; a verdict shares words with itself alone, and nothing shares none with nothing."""

    def f1(gold: str) -> float:
        both = {normalize(prediction), normalize(gold)}
        return 0.0 if both == {""} or (len(both) == 2 and both & VERDICTS) else token_f1(prediction, [gold])

    return exact_match(prediction, golds), max(map(f1, golds))


def multimodalqa(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """Return EM and F1 of an answer that is to hold every gold one.

    Where there are several it is read as a list, whose items are parted by commas, semicolons, lines or "and".
    """
    items = [prediction] if len(golds) == 1 else [item for item in SEPARATORS.split(prediction) if item]
    return list_scores(items, golds)


def list_scores(predictions: Sequence[str], golds: Sequence[str]) -> tuple[float, float]:
    """Return EM and F1 of a list of answers, in any order: MultimodalQA's.

    Each answer is matched with one gold answer at most, so that the sum of F1 is greatest; its mean is over the longer
    list, to two places.
    """
    predicted, gold = [[spelled(each) for each in answers] for answers in (predictions, golds)]
    if not predicted or not gold:
        return float(predicted == gold), float(predicted == gold)
    em = float(len(predicted) == len(gold) and set(predicted) == set(gold))
    f1 = np.array([[_set_f1(set(left.split()), set(right.split())) for right in gold] for left in predicted])
    best = f1[linear_sum_assignment(f1, maximize=True)].sum()
    return em, round(float(best) / max(f1.shape), 2)


def spelled(answer: str) -> str:
    """Normalise word by word, at hyphens too: numbers and words for numbers alike become floats."""
    words = (_number(word.lower()) for word in re.split("[ -]", answer))
    return " ".join(" ".join(words).split())


def _number(word: str) -> str:
    """Spell a number as a float; of any other word leave out punctuation and articles."""
    if not _is_number(word):
        word = word.translate(PUNCTUATION)
    if _is_number(word):
        return str(float(word))
    return str(float(NUMBERS[word])) if word in NUMBERS else ARTICLES.sub(" ", word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _set_f1(predicted: Collection[str], gold: Collection[str]) -> float:
    """Return F1 of two sets of words; 0 where the gold one has numbers, and none of them was predicted."""
    shared = set(predicted) & set(gold)
    numbers = set(filter(_is_number, gold))
    if not predicted or not gold or (numbers and not numbers & shared):
        return float(predicted == gold)
    # In this order of operations, which decides how halves are rounded.
    precision, recall = len(shared) / len(predicted), len(shared) / len(gold)
    return 2 * precision * recall / (precision + recall) if shared else 0.0


def choice(prediction: str, answers: Sequence[str], options: Sequence[str]) -> float:
    """Return 1.0 if the answer names a right option, else 0.0.

    An option that it repeats literally is meant before one that it equals after normalisation ("-5", "5"), and that
    before one whose letter it begins with: `B`, `(B)`, `B. The salt marsh`, `The answer is B.`
    """
    right = {place for place, option in enumerate(options) if option in answers}
    if not right:
        raise ValueError(f"None of the answers {list(answers)} is among the options {list(options)}.")
    for same in (str.strip, normalize):
        said = same(prediction)
        if said and (named := {place for place, option in enumerate(options) if same(option) == said}):
            return float(bool(named & right))
    letter = LETTER.match(prediction.strip())
    return float(letter is not None and string.ascii_uppercase.index(letter[1].upper()) in right)


SCORERS: dict[str, Callable[[str, Sequence[str]], tuple[float, float]]] = {
    "squad": squad,
    "hotpotqa": hotpotqa,
    "musique": musique,
    "multimodalqa": multimodalqa,
}
