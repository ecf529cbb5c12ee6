"""Scores of answers and of rankings."""

import math
import re
import string
from collections import Counter
from collections.abc import Collection, Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """Lower case, without punctuation, articles and extra spaces: SQuAD's normalisation."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """Return 1.0 if the prediction equals a gold answer after normalisation, else 0.0."""
    return float(any(normalize(prediction) == normalize(gold) for gold in _some(golds)))


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the largest F1 of shared words with a gold answer; two empty answers share all."""
    return max(_f1(normalize(prediction).split(), normalize(gold).split()) for gold in _some(golds))


def _f1(predicted: list[str], gold: list[str]) -> float:
    shared = sum((Counter(predicted) & Counter(gold)).values())
    if not predicted or not gold:
        return float(predicted == gold)
    return 2 * shared / (len(predicted) + len(gold))


def accuracy(prediction: str, golds: Sequence[str]) -> float:
    """Return 1.0 if a gold answer's words occur in the prediction one after the other, else 0.0."""
    words = f" {normalize(prediction)} "
    return float(any(f" {normalize(gold)} " in words for gold in _some(golds) if normalize(gold)))


def _some(golds: Sequence[str]) -> Sequence[str]:
    if isinstance(golds, str) or not golds:
        raise ValueError(f"Expected a list of at least one gold answer, not {golds!r}.")
    return golds


def recall_at_k(ranked_ids: Sequence[str], gold_ids: Collection[str], k: int) -> float:
    """Return 1.0 if one of the first k is gold, else 0.0: any chunk that states the fact is enough."""
    return float(any(ranked in gold_ids for ranked in ranked_ids[:k]))


def mrr(ranked_ids: Sequence[str], gold_ids: Collection[str]) -> float:
    """Return one over the rank of the first gold one, 0.0 if there is none."""
    return next((1 / rank for rank, ranked in enumerate(ranked_ids, 1) if ranked in gold_ids), 0.0)


def ndcg_at_k(ranked_ids: Sequence[str], gold_ids: Collection[str], k: int) -> float:
    """Return the discounted gain of the gold ones among the first k, over that of the best possible ranking."""
    gain = sum(1 / math.log2(rank + 1) for rank, ranked in enumerate(ranked_ids[:k], 1) if ranked in gold_ids)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(gold_ids)) + 1))
    return gain / best if best else 0.0


def mean(values: Collection[float]) -> float:
    return sum(values) / len(values)


def retrieval_scores(
    rankings: Sequence[Sequence[str]], golds: Sequence[Collection[str]], ks: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """Average Recall@k, MRR and nDCG@10 over queries."""
    pairs = list(zip(rankings, golds, strict=True))
    scores = {f"recall@{k}": mean([recall_at_k(ranked, gold, k) for ranked, gold in pairs]) for k in ks}
    scores["mrr"] = mean([mrr(ranked, gold) for ranked, gold in pairs])
    return scores | {"ndcg@10": mean([ndcg_at_k(ranked, gold, 10) for ranked, gold in pairs])}
