"""Hard negatives: what a retriever ranks high for a question though it doesn't answer it (paper section 2.1)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dataset_builders.corpus import Corpus
from dataset_builders.gold import GoldChunks
from dataset_builders.retrievers import Retriever
from dataset_builders.schema import Example, QAPair
from modeling_nyx.content_nyx import Content, text_of
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


class Miner:
    """A corpus, the retriever that scores it, and the rule by which negatives are taken from it."""

    def __init__(self, corpus: Corpus, retriever: Retriever, rule: NegativeRule) -> None:
        self.corpus, self.retriever, self.rule = corpus, retriever, rule
        self.gold = GoldChunks(corpus.ids, [corpus.documents[chunk] for chunk in corpus.ids], corpus.sources)

    def mine(self, questions: Sequence[QAPair], counts: MiningCounts) -> Iterator[Example]:
        """Yield an example per question that has a gold chunk in the corpus, be it without any negative.

        Positives are the gold chunks, best-ranked first. Where a question names a document only, every chunk of it
        counts as gold, so that none becomes a negative, and the positive is the best-ranked one alone.
        """
        scored = self.retriever.scores([each.question for each in questions])
        for question, scores in zip(questions, scored, strict=True):
            gold = np.array(self.gold.all(question), dtype=int)
            if not len(gold):
                counts.dropped.append((question.id, NO_GOLD))
                continue
            gold = gold[np.argsort(-scores[gold], kind="stable")]
            ranked = best(scores, self.rule.depth)
            negatives = list(self._negatives(question, gold, scores, ranked[self.rule.skip :], counts))
            named = set(self.gold.named(question))
            positives = [position for position in gold if position in named] or gold[:1]
            counts.examples += 1
            counts.negatives += len(negatives)
            counts.without_negatives += not negatives
            counts.positive_in_depth += bool(positives[0] in ranked)
            counts.positive_first += bool(positives[0] == ranked[0])
            yield Example(
                id=question.id,
                query=question.question,
                positives=self._contents(positives),
                negatives=self._contents(negatives),
                answers=question.answers,
            )

    def _negatives(
        self, question: QAPair, gold: np.ndarray, scores: np.ndarray, ranked: np.ndarray, counts: MiningCounts
    ) -> Iterator[int]:
        """Yield the positions of up to `keep` chunks that pass every filter, and count what didn't."""
        rule, keys = self.rule, self.corpus.keys
        positions, same = set(gold.tolist()), {keys[position] for position in gold}
        answers = [answer for answer in question.answers if normalize(answer) not in SAY_NOTHING]
        bar = np.inf if rule.ratio is None else rule.ratio * scores[gold[0]]
        kept = 0
        for position in ranked.tolist():
            if position in positions:
                counts.left_out[GOLD] += 1
            elif keys[position] in same:
                counts.left_out[SAME] += 1
            elif rule.without_answers and answers and self._holds(position, answers):
                counts.left_out[ANSWERS] += 1
            elif scores[position] > bar:
                counts.left_out[CLOSE] += 1
            else:
                yield position
                kept += 1
                if kept == rule.keep:
                    return

    def _holds(self, position: int, answers: list[str]) -> bool:
        return bool(accuracy(text_of(self._contents([position])[0]), answers))

    def _contents(self, positions: Iterable[int]) -> list[Content]:
        return self.corpus.contents([self.corpus.ids[position] for position in positions])


def best(scores: np.ndarray, depth: int) -> np.ndarray:
    """Return the positions of the `depth` highest of (chunks,) scores, best first; equal ones in the corpus' order."""
    found = np.arange(len(scores))
    if depth < len(scores):
        found = np.flatnonzero(scores >= np.partition(scores, -depth)[-depth])
    return found[np.argsort(-scores[found], kind="stable")][:depth]
