"""Score a retriever on a guide: what it finds, and what the reader makes of its best document."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from dataset_builders.almanac_pictures import picture
from dataset_builders.almanac_world import LOOKS_BY_SPLIT
from dataset_builders.schema import Chunk, QAPair, read_records
from modeling_nyx.content_nyx import Content
from nyx.answers import Answers, rag
from nyx.metrics import mean, recall_at_k, retrieval_scores
from nyx.ranking import top_by_dim
from nyx.reader import Reader

DEPTH = 100


@dataclass(frozen=True)
class Guide:
    """A corpus and the questions asked of it."""

    chunks: list[Chunk]
    questions: list[QAPair]

    @classmethod
    def read(cls, folder: Path, split: str) -> "Guide":
        corpus, qa = (folder / name / f"{split}.parquet" for name in ("corpus", "qa"))
        return cls(list(read_records(Chunk, corpus)), list(read_records(QAPair, qa)))

    @property
    def documents(self) -> list[Content]:
        return [chunk.content for chunk in self.chunks]

    @property
    def queries(self) -> list[Content]:
        return [question.question for question in self.questions]

    def gold_documents(self) -> list[Content]:
        """Return a document that answers, for each question: the first of its gold ones."""
        content = {chunk.id: chunk.content for chunk in self.chunks}
        return [content[question.gold_ids[0]] for question in self.questions]

    def retrieval(self, positions: np.ndarray) -> dict[str, float]:
        """Score a ranking (questions, depth) of positions in the corpus."""
        return retrieval_scores(self._ranked(positions), [question.gold_ids for question in self.questions])

    def found(self, positions: np.ndarray) -> list[float]:
        """Return each question's Recall@5 in a ranking (questions, depth)."""
        golds = (question.gold_ids for question in self.questions)
        return [recall_at_k(ids, gold, 5) for ids, gold in zip(self._ranked(positions), golds, strict=True)]

    def _ranked(self, positions: np.ndarray) -> list[list[str]]:
        return [[self.chunks[position].id for position in row] for row in positions]

    def answers(self, reader: Reader, documents: Sequence[list[Content]]) -> Answers:
        """Let the reader answer every question from its documents."""
        golds = [question.answers for question in self.questions]
        return rag(reader, self.queries, golds, documents, show_progress=True)

    def by_kind(self, values: Sequence[float]) -> dict[str, float]:
        """Average values over the questions of each kind."""
        groups = defaultdict(list)
        for question, value in zip(self.questions, values, strict=True):
            groups[question.kind].append(value)
        return {kind: mean(found) for kind, found in groups.items()}


def retriever_row(name: str, guide: Guide, positions: np.ndarray, reader: Reader) -> tuple[dict[str, Any], Answers]:
    """Score a ranking and the reader's answers from its first document."""
    answers = guide.answers(reader, [[guide.chunks[row[0]].content] for row in positions])
    by_kind = {
        "recall@5_by_kind": guide.by_kind(guide.found(positions)),
        "answer_em_by_kind": guide.by_kind(answers.em),
    }
    return {"retriever": name, **guide.retrieval(positions), **answers.scores(), **by_kind}, answers


def reader_row(name: str, guide: Guide, documents: Sequence[list[Content]], reader: Reader) -> dict[str, Any]:
    """Score the reader on documents that no retriever chose."""
    answers = guide.answers(reader, documents)
    return {"retriever": name, **answers.scores(), "answer_em_by_kind": guide.by_kind(answers.em)}


def encode(model: Any, guide: Guide) -> tuple[np.ndarray, np.ndarray]:
    """Embed a guide's questions and documents."""
    queries = model.encode_queries(guide.queries, show_progress=True)
    return queries, model.encode_documents(guide.documents, show_progress=True)


def dimension_rows(guide: Guide, queries: np.ndarray, documents: np.ndarray, dims: Sequence[int]) -> list[dict]:
    """Score the ranking by each prefix of the embeddings."""
    ranked = top_by_dim(queries, documents, DEPTH, dims)
    return [{"dim": dim, **guide.retrieval(ranked[dim][0])} for dim in dims]


def order_wins(guide: Guide, queries: np.ndarray, documents: np.ndarray) -> tuple[int, int]:
    """Count order questions whose right page scores above its twin, the same page with its pictures swapped.

    A twin has the same texts; its pictures, by content, are the page's in the other order.
    """
    twins: dict[tuple, list[int]] = defaultdict(list)
    for position, chunk in enumerate(guide.chunks):
        texts = tuple(item["text"] for item in chunk.content if item["type"] == "text")
        images = frozenset(item["image"] for item in chunk.content if item["type"] == "image")
        twins[texts, images].append(position)
    twin = {pair[i]: pair[1 - i] for pair in twins.values() if len(pair) == 2 for i in (0, 1)}
    places = {chunk.id: position for position, chunk in enumerate(guide.chunks)}
    wins = asked = 0
    for question, query in zip(guide.questions, queries, strict=True):
        right = places[question.gold_ids[0]]
        if question.kind == "order" and right in twin:
            asked += 1
            wins += bool(query @ documents[right] > query @ documents[twin[right]])
    return wins, asked


def random_documents(guide: Guide, seed: int = 0) -> list[list[Content]]:
    """Choose a document that is not gold for each question."""
    rng, chosen = Random(seed), []
    for question in guide.questions:
        others = [chunk for chunk in guide.chunks if chunk.id not in question.gold_ids]
        chosen.append([rng.choice(others).content])
    return chosen


def replaced_pictures(guide: Guide, seed: int = 0) -> list[list[Content]]:
    """Give gold documents with every picture replaced by one of a moth that looks different."""
    rng, replaced = Random(seed), []
    for document in guide.gold_documents():
        items = [
            {"type": "image", "image": picture(rng.choice(LOOKS_BY_SPLIT["test"]), rng)}
            if item["type"] == "image"
            else item
            for item in document
        ]
        replaced.append([items])
    return replaced
