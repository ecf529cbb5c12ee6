"""Rank a corpus for queries, exactly."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from modeling_nyx.content_nyx import Content
from modeling_nyx.modeling_nyx import truncate
from nyx.records import Chunk

BLOCK = 4096  # documents compared at once


def top(query_vectors: np.ndarray, document_vectors: np.ndarray, k: int, dim: int | None = None) -> np.ndarray:
    """Return the positions of the best k documents by cosine of the first `dim` values: (queries, k), best first."""
    dim = query_vectors.shape[1] if dim is None else dim
    return top_by_dim(query_vectors, document_vectors, k, [dim])[dim][0]


def top_by_dim(
    query_vectors: np.ndarray, document_vectors: np.ndarray, k: int, dims: Sequence[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return positions and cosines of the best k documents, each (queries, k), by each prefix of the embeddings.

    One pass over the documents serves all prefixes: a prefix's inner products are the shorter one's and those of what
    it adds. It goes block by block, so that the documents may lie in a file. Of equal documents the first comes first.
    """
    for dim in dims:
        truncate(query_vectors[:0], dim)  # raises before the work rather than after it
    dims, k = sorted(set(dims)), min(k, len(document_vectors))
    best = {dim: _Best(len(query_vectors), k) for dim in dims}
    for start in range(0, len(document_vectors) if k else 0, BLOCK):
        block = document_vectors[start : start + BLOCK]
        dots = np.zeros((len(query_vectors), len(block)), dtype=np.float32)
        squares = np.zeros(len(block), dtype=np.float32)
        for low, dim in pairwise([0, *dims]):
            dots += query_vectors[:, low:dim] @ block[:, low:dim].T
            if dim == document_vectors.shape[1]:  # whole embeddings are taken as they are, as by `truncate`
                best[dim].add(dots, start)
            else:
                squares += np.einsum("de,de->d", block[:, low:dim], block[:, low:dim])
                best[dim].add(dots / np.maximum(np.sqrt(squares), 1e-12), start)
    for dim in dims:
        if dim < query_vectors.shape[1]:
            lengths = np.linalg.norm(query_vectors[:, :dim], axis=1, keepdims=True)
            best[dim].scores /= np.maximum(lengths, 1e-12)
    return {dim: (found.positions, found.scores) for dim, found in best.items()}


def best(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and scores of the best k of every row, best first; of equal ones the first comes first."""
    found = _Best(len(scores), min(k, scores.shape[1]))
    found.add(scores.astype(np.float32), 0)
    return found.positions, found.scores


class _Best:
    """The best k documents so far of every query, best first."""

    def __init__(self, queries: int, k: int) -> None:
        self.scores = np.full((queries, k), -np.inf, dtype=np.float32)
        self.positions = np.zeros((queries, k), dtype=np.int64)

    def add(self, scores: np.ndarray, start: int) -> None:
        """Take in the scores (queries, documents) of the documents from position `start` on."""
        queries, k = self.scores.shape
        least = self.scores[:, -1:]
        if scores.shape[1] > k and start == 0:
            least = np.nextafter(np.partition(scores, -k, axis=1)[:, [-k]], np.float32(-np.inf))
        # Of equals those already there are the first: a newcomer has to be better.
        rows, columns = np.divmod(np.flatnonzero(scores > least), scores.shape[1])
        if not len(rows):
            return
        counts = np.bincount(rows, minlength=queries)
        width = counts.max()
        places = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
        newcomers = np.full((queries, width), -np.inf, dtype=np.float32)
        positions = np.zeros((queries, width), dtype=np.int64)
        newcomers[rows, places], positions[rows, places] = scores[rows, columns], start + columns
        newcomers = np.concatenate([self.scores, newcomers], axis=1)
        order = np.argsort(-newcomers, axis=1, kind="stable")[:, :k]
        self.scores = np.take_along_axis(newcomers, order, axis=1)
        self.positions = np.take_along_axis(np.concatenate([self.positions, positions], axis=1), order, axis=1)


def rank(
    model: Any, chunks: Sequence[Chunk], queries: Sequence[Content], k: int = 100, show_progress: bool = False
) -> list[list[str]]:
    """Return the ids of the best k chunks of each query, best first."""
    documents = model.encode_documents([chunk.content for chunk in chunks], show_progress=show_progress)
    positions = top(model.encode_queries(queries, show_progress=show_progress), documents, k)
    return [[chunks[position].id for position in row] for row in positions]
