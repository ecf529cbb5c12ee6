"""Rank a corpus for queries, exactly and in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from modeling_nyx.content_nyx import Content
from modeling_nyx.modeling_nyx import truncate
from nyx.records import Chunk


def top(query_vectors: np.ndarray, document_vectors: np.ndarray, k: int, dim: int | None = None) -> np.ndarray:
    """Return the positions of the best k documents by cosine of the first `dim` values: (queries, k), best first."""
    scores = truncate(query_vectors, dim) @ truncate(document_vectors, dim).T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def rank(
    model: Any, chunks: Sequence[Chunk], queries: Sequence[Content], k: int = 100, show_progress: bool = False
) -> list[list[str]]:
    """Return the ids of the best k chunks of each query, best first."""
    documents = model.encode_documents([chunk.content for chunk in chunks], show_progress=show_progress)
    positions = top(model.encode_queries(queries, show_progress=show_progress), documents, k)
    return [[chunks[position].id for position in row] for row in positions]
