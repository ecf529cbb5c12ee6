"""Retrievers by name, as scorers of a corpus: BM25, a Nyx model or index, any sentence-transformers model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dataset_builders.schema import Chunk
from modeling_nyx import load_image
from modeling_nyx.content_nyx import Content, text_of
from nyx.index import MANIFEST, Index
from nyx.models import fingerprint, load_encoder

BM25_NAME = "bm25"
# Other models are recognised by this alone: a checkpoint of Qwen's classes may be pooled in any way.
SENTENCE_TRANSFORMER = "st:"
NAMES = f"{BM25_NAME}; an index' folder; a Nyx model; {SENTENCE_TRANSFORMER}MODEL for any SentenceTransformer"


class Retriever(Protocol):
    """Whatever scores a fixed corpus for queries."""

    def scores(self, queries: Sequence[Content]) -> np.ndarray:
        """Return how well each chunk fits each query, (queries, chunks): higher fits better."""
        ...


class Cosines:
    """An encoder of queries, and the embeddings of a corpus (chunks, dim), all of norm 1."""

    def __init__(self, encode_queries: Callable[[Sequence[Content]], np.ndarray], documents: np.ndarray) -> None:
        self._encode, self._documents = encode_queries, documents

    def scores(self, queries: Sequence[Content]) -> np.ndarray:
        return self._encode(queries) @ self._documents.T


def open_retriever(name: str, chunks: Sequence[Chunk]) -> Retriever:
    """Make the retriever that `name` stands for (`NAMES`) ready to score `chunks`.

    A model embeds the corpus at once; for a large one make an index before, which goes on after an interruption.
    Raises `ValueError` for an index that lacks a chunk, or a model that is no Nyx model.
    """
    contents = [chunk.content for chunk in chunks]
    if name == BM25_NAME:
        from nyx.bm25 import BM25

        return BM25(contents)
    if name.startswith(SENTENCE_TRANSFORMER):
        return _sentence_transformer(name.removeprefix(SENTENCE_TRANSFORMER), contents)
    if (Path(name) / MANIFEST).is_file():
        return _index(Path(name), chunks)
    try:
        encoder = load_encoder(name)
    except ValueError as error:
        raise ValueError(f"{error} A retriever is one of: {NAMES}.") from error
    return Cosines(encoder.encode_queries, encoder.encode_documents(contents, show_progress=True))


def retriever_facts(name: str) -> dict[str, str]:
    """Return what tells two runs' retrievers apart: the name, and a hash of what lies in the folder of that name."""
    folder = name.removeprefix(SENTENCE_TRANSFORMER)
    revision = (Path(folder) / MANIFEST).read_text() if (Path(folder) / MANIFEST).is_file() else fingerprint(folder)
    return {"retriever": name, "revision": revision}


def _index(folder: Path, chunks: Sequence[Chunk]) -> Cosines:
    index = Index.open(folder)
    index = Index.open(folder, model_name=index.model_name, revision=fingerprint(index.model_name))
    places = {chunk.id: place for place, chunk in enumerate(index.chunks)}
    if missing := [chunk.id for chunk in chunks if chunk.id not in places]:
        raise ValueError(
            f"{folder} lacks {len(missing)} of {len(chunks)} chunks, {missing[0]} first. Add them with `nyx index`."
        )
    return Cosines(
        load_encoder(index.model_name).encode_queries, index.vectors[[places[chunk.id] for chunk in chunks]]
    )


def _sentence_transformer(name: str, contents: Sequence[Content]) -> Cosines:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(
            f"{SENTENCE_TRANSFORMER}{name} needs sentence-transformers: pip install 'sentence-transformers>=6'"
        ) from error
    model = SentenceTransformer(name)
    # A model of texts reads the words, as BM25 does.
    spell: Callable[[Content], Any] = _message if model.supports("message") else text_of

    def encode_queries(queries: Sequence[Content]) -> np.ndarray:
        return model.encode_query([spell(query) for query in queries], normalize_embeddings=True)

    documents = [spell(content) for content in contents]
    return Cosines(encode_queries, model.encode_document(documents, normalize_embeddings=True, show_progress_bar=True))


def _message(content: Content) -> list[dict[str, Any]]:
    parts = [
        item if item["type"] == "text" else {"type": "image", "image": load_image(item["image"])} for item in content
    ]
    return [{"role": "user", "content": parts}]
