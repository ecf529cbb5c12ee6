"""Hard negatives: what a retriever ranks high for a question though it doesn't answer it (paper section 2.1)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dataset_builders.gold import GoldChunks
from dataset_builders.retrievers import Retriever
from dataset_builders.schema import Chunk, Example, QAPair, content_id
from modeling_nyx.content_nyx import text_of
from nyx.metrics import accuracy, normalize

GOLD = "gold"
SAME = "the same as a gold chunk"
ANSWERS = "holds an answer"
CLOSE = "too close to the positive"
NO_GOLD = "no gold chunk in the corpus"
# They occur in most texts, and answer none of their questions there.
SAY_NOTHING = {"", "yes", "no"}


@dataclass(frozen=True)
class NegativeRule:
    """Which of the ranked chunks become negatives; the defaults are the paper's, its code has depth 20 and skip 10.

    Of the first `depth` chunks the first `skip` are left out, and of the rest the first `keep` are taken that are
    neither gold nor equal to a gold chunk, nor, with `without_answers`, hold an answer as `nyx.metrics` reads it.
    With `ratio` a chunk that scores above `ratio` × the positive's score is left out too: for scores that are
    comparable within a question and mostly above 0, such as BM25's and cosines.
    """

    depth: int = 10
    skip: int = 0
    keep: int = 5
    without_answers: bool = True
    ratio: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.skip < self.depth and self.keep >= 1):
            raise ValueError(f"{self}: expected 0 ≤ skip < depth and keep ≥ 1.")
        if self.ratio is not None and self.ratio <= 0:
            raise ValueError(f"ratio is {self.ratio}; expected more than 0, or none.")


@dataclass
class MiningCounts:
    """What became of questions, and of the chunks that were looked at."""

    examples: int = 0
    negatives: int = 0
    without_negatives: int = 0
    positive_in_depth: int = 0
    positive_first: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    dropped: list[tuple[str, str]] = field(default_factory=list)

    def __iadd__(self, other: "MiningCounts") -> "MiningCounts":
        for name in ("examples", "negatives", "without_negatives", "positive_in_depth", "positive_first"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.left_out.update(other.left_out)
        self.dropped += other.dropped
        return self

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
        return (
            f"{self.examples} examples with {self.negatives} negatives ({self.without_negatives} without any); the "
            f"positive came first {self.positive_first} times and in depth {self.positive_in_depth} times; chunks "
            f"left out: {reasons or 'none'}; questions dropped: {len(self.dropped)}"
        )


class Corpus:
    """The chunks that negatives are taken from."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks, self.gold = chunks, GoldChunks(chunks)

    @cached_property
    def keys(self) -> list[str]:
        """Each chunk's content as a hash; ids may be of another kind."""
        return [content_id(chunk.content) for chunk in self.chunks]


def mine(
    questions: Sequence[QAPair], corpus: Corpus, retriever: Retriever, rule: NegativeRule, counts: MiningCounts
) -> Iterator[Example]:
    """Yield an example per question that has a gold chunk in the corpus, be it without any negative.

    Positives are the gold chunks, best-ranked first. Where a question names a document only, every chunk of it counts
    as gold, so that none becomes a negative, and the positive is the best-ranked one alone.
    """
    for question, scores in zip(questions, retriever.scores([each.question for each in questions]), strict=True):
        gold = np.array(corpus.gold.all(question), dtype=int)
        if not len(gold):
            counts.dropped.append((question.id, NO_GOLD))
            continue
        gold = gold[np.argsort(-scores[gold], kind="stable")]
        ranked = best(scores, rule.depth)
        negatives = list(_negatives(question, corpus, gold, scores, ranked[rule.skip :], rule, counts))
        named = set(corpus.gold.named(question))
        positives = [position for position in gold if position in named] or gold[:1]
        counts.examples += 1
        counts.negatives += len(negatives)
        counts.without_negatives += not negatives
        counts.positive_in_depth += bool(positives[0] in ranked)
        counts.positive_first += bool(positives[0] == ranked[0])
        yield Example(
            id=question.id,
            query=question.question,
            positives=[corpus.chunks[position].content for position in positives],
            negatives=[corpus.chunks[position].content for position in negatives],
            answers=question.answers,
        )


def _negatives(
    question: QAPair,
    corpus: Corpus,
    gold: np.ndarray,
    scores: np.ndarray,
    ranked: np.ndarray,
    rule: NegativeRule,
    counts: MiningCounts,
) -> Iterator[int]:
    """Yield the positions of up to `keep` chunks that pass every filter, and count what didn't."""
    keys = {corpus.keys[position] for position in gold}
    positions = set(gold.tolist())
    answers = [answer for answer in question.answers if normalize(answer) not in SAY_NOTHING]
    bar = np.inf if rule.ratio is None else rule.ratio * scores[gold[0]]
    kept = 0
    for position in ranked.tolist():
        if position in positions:
            counts.left_out[GOLD] += 1
        elif corpus.keys[position] in keys:
            counts.left_out[SAME] += 1
        elif rule.without_answers and answers and accuracy(text_of(corpus.chunks[position].content), answers):
            counts.left_out[ANSWERS] += 1
        elif scores[position] > bar:
            counts.left_out[CLOSE] += 1
        else:
            yield position
            kept += 1
            if kept == rule.keep:
                return


def best(scores: np.ndarray, depth: int) -> np.ndarray:
    """Return the positions of the `depth` highest of (chunks,) scores, best first; equal ones in the corpus' order."""
    found = np.arange(len(scores))
    if depth < len(scores):
        found = np.flatnonzero(scores >= np.partition(scores, -depth)[-depth])
    return found[np.argsort(-scores[found], kind="stable")][:depth]
