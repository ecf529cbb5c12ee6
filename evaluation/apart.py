"""Divide and conquer: text and pictures embedded apart, by one model that knows both, and their scores put together.

A content's parts are its text and each of its pictures. Score fusion: every part of the query counts with its best
part of the document. Averaging: a content's embedding is the mean of its parts'.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from dataset_builders.candidates import CHUNKS
from dataset_builders.corpus import Corpus
from dataset_builders.retrievers import Encoder
from modeling_nyx.content_nyx import Content, text_of

Encode = Callable[[list[Content]], np.ndarray]


def parts_of(content: Content) -> list[Content]:
    """Cut a content into its text, if it has any, and each of its pictures."""
    words = text_of(content)
    pictures: list[Content] = [[item] for item in content if item["type"] == "image"]
    return ([[{"type": "text", "text": words}]] if words else []) + pictures


class Apart:
    """Scores a corpus by score fusion."""

    def __init__(self, encoder: Encoder, corpus: Corpus) -> None:
        self._encoder = encoder
        blocks = [corpus.ids[start : start + CHUNKS] for start in range(0, len(corpus), CHUNKS)]
        found = [
            _embed_parts(corpus.contents(block), encoder.encode_documents)
            for block in tqdm(blocks, desc="embed parts")
        ]
        self._parts = np.concatenate([vectors for vectors, _ in found])
        counts = np.concatenate([np.bincount(owners) for _, owners in found])
        self._starts = counts.cumsum() - counts

    def scores(self, queries: Sequence[Content]) -> np.ndarray:
        parts, owners = _embed_parts(queries, self._encoder.encode_queries)
        rows = [fuse(parts[owners == place], self._parts, self._starts) for place in range(len(queries))]
        return np.stack(rows)


def fuse(query_parts: np.ndarray, document_parts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Score documents, whose parts begin at `starts`, for one query: the sum of its parts' best similarities."""
    return np.maximum.reduceat(query_parts @ document_parts.T, starts, axis=1).sum(0)


def apart_scores(
    model: Any, queries: Sequence[Content], documents: Sequence[Content]
) -> tuple[np.ndarray, np.ndarray]:
    """Score documents for queries by averaging, and by score fusion: two arrays (queries, documents)."""
    query_parts, query_of = _embed_parts(queries, model.encode_queries)
    document_parts, document_of = _embed_parts(documents, model.encode_documents)
    averaged = _means(query_parts, query_of) @ _means(document_parts, document_of).T
    similarities = query_parts @ document_parts.T
    starts = np.flatnonzero(np.diff(document_of, prepend=-1))
    best = np.maximum.reduceat(similarities, starts, axis=1)
    fused = np.add.reduceat(best, np.flatnonzero(np.diff(query_of, prepend=-1)), axis=0)
    return averaged, fused


def _embed_parts(contents: Sequence[Content], encode: Any) -> tuple[np.ndarray, np.ndarray]:
    """Embed every part; returns the vectors and the index of the content each belongs to, ascending."""
    parts = [(index, part) for index, content in enumerate(contents) for part in parts_of(content)]
    return encode([part for _, part in parts]), np.array([index for index, _ in parts])


def _means(vectors: np.ndarray, owners: np.ndarray) -> np.ndarray:
    means = np.add.reduceat(vectors, np.flatnonzero(np.diff(owners, prepend=-1)), axis=0)
    return means / np.linalg.norm(means, axis=1, keepdims=True)
