"""Retrievers by name, as scorers of a corpus: BM25, a Nyx model or index, any sentence-transformers model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dataset_builders.candidates import embed
from dataset_builders.corpus import Corpus
from modeling_nyx import load_image
from modeling_nyx.content_nyx import Content, text_of
from modeling_nyx.modeling_nyx import truncate
from nyx.index import Index
from nyx.manifest import MANIFEST, read_manifest
from nyx.messages import to_messages
from nyx.models import fingerprint, hash_files, load_encoder
from nyx.records import content_id

BM25_NAME = "bm25"
# Other models are recognised by this alone: a checkpoint of Qwen's classes may be pooled in any way.
SENTENCE_TRANSFORMER = "st:"
SENTENCE_FILES = (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model")
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

    def truncated(self, dim: int | None) -> "Cosines":
        """Compare the first `dim` values alone; None: all."""
        return Cosines(lambda queries: truncate(self._encode(queries), dim), truncate(self._documents, dim))


class Encoder(Protocol):
    """Whatever embeds contents, as unit vectors."""

    def encode_queries(self, contents: Sequence[Content]) -> np.ndarray: ...

    def encode_documents(self, contents: Sequence[Content]) -> np.ndarray: ...


class SentenceEncoder:
    """A SentenceTransformer as an encoder.

    One of messages takes any mixture. Any other takes the words, and a lone picture if it knows pictures (CLIP).
    """

    def __init__(self, name: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ImportError(
                f"{SENTENCE_TRANSFORMER}{name} needs sentence-transformers: pip install 'sentence-transformers>=6'"
            ) from error
        self._model = SentenceTransformer(name)

    def encode_queries(self, contents: Sequence[Content]) -> np.ndarray:
        return self._encode(self._model.encode_query, contents)

    def encode_documents(self, contents: Sequence[Content]) -> np.ndarray:
        return self._encode(self._model.encode_document, contents)

    def _encode(self, encode: Callable[..., np.ndarray], contents: Sequence[Content]) -> np.ndarray:
        """Embed words and pictures in calls of their own: a batch is of one kind."""
        spelled = [self._spell(content) for content in contents]
        vectors: dict[int, np.ndarray] = {}
        for kind in dict.fromkeys(map(type, spelled)):
            places = [place for place, each in enumerate(spelled) if type(each) is kind]
            found = encode([spelled[place] for place in places], normalize_embeddings=True)
            vectors |= dict(zip(places, found, strict=True))
        return np.stack([vectors[place] for place in range(len(spelled))])

    def _spell(self, content: Content) -> Any:
        if self._model.supports("message"):
            return to_messages(content)
        if len(content) == 1 and content[0]["type"] == "image" and self._model.supports("image"):
            return load_image(content[0]["image"])
        return text_of(content)


def open_retriever(name: str, corpus: Corpus, dim: int | None = None) -> Retriever:
    """Make the retriever that `name` stands for (`NAMES`) ready to score a corpus, by the first `dim` values or all.

    A model embeds the corpus at once; for a large one make an index before, which goes on after an interruption.
    Raises `ValueError` for an index that lacks a chunk, a model that is no Nyx model, or embeddings without `dim`
    values.
    """
    if name == BM25_NAME:
        if dim is not None:
            raise ValueError(f"{name} has no embeddings to cut to {dim} values.")
        from nyx.bm25 import BM25

        return BM25([_words(corpus.contents([chunk])[0]) for chunk in corpus.ids])
    if (Path(name) / MANIFEST).is_file():
        return _index(Path(name), corpus).truncated(dim)
    encoder = open_encoder(name)
    if dim is not None:  # refused before the corpus is embedded, which takes long
        truncate(encoder.encode_queries([[{"type": "text", "text": name}]]), dim)
    return Cosines(encoder.encode_queries, embed(corpus, encoder.encode_documents)).truncated(dim)


def open_encoder(name: str) -> Encoder:
    """Load a Nyx model or a SentenceTransformer; raises `ValueError` for any other."""
    if name.startswith(SENTENCE_TRANSFORMER):
        return SentenceEncoder(name.removeprefix(SENTENCE_TRANSFORMER))
    try:
        return load_encoder(name)
    except ValueError as error:
        raise ValueError(f"{error} A retriever is one of: {NAMES}.") from error


def retriever_facts(name: str) -> dict[str, str]:
    """Return what tells two runs' retrievers apart: the name, and a hash of what lies in the folder of that name."""
    folder = Path(name.removeprefix(SENTENCE_TRANSFORMER))
    if (folder / MANIFEST).is_file():
        revision = hash_files(folder, [folder / MANIFEST])
    elif name.startswith(SENTENCE_TRANSFORMER) and folder.is_dir():
        revision = hash_files(folder, _files_below(folder))
    else:
        revision = fingerprint(name.removeprefix(SENTENCE_TRANSFORMER))
    return {"retriever": name, "revision": revision}


def _files_below(folder: Path) -> list[Path]:
    """List what a SentenceTransformer may depend on: its modules lie in folders, each with weights and settings."""
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix in SENTENCE_FILES and path.is_file())
    return [path for path in paths if not path.relative_to(folder).parts[0].startswith("checkpoint-")]


def _words(content: Content) -> Content:
    """Leave out the pictures, so that they need not stay in memory."""
    return [item for item in content if item["type"] == "text"]


def _index(folder: Path, corpus: Corpus) -> Cosines:
    name = read_manifest(folder).model
    index = Index.open(folder, model_name=name, revision=fingerprint(name))
    places = {chunk.id: place for place, chunk in enumerate(index.chunks)}
    if missing := [chunk for chunk in corpus.ids if chunk not in places]:
        raise ValueError(
            f"{folder} lacks {len(missing)} of {len(corpus)} chunks, {missing[0]} first. Add them with `nyx index`."
        )
    keys = zip(corpus.ids, corpus.keys, strict=True)
    if stale := [chunk for chunk, key in keys if content_id(index.chunks[places[chunk]].content) != key]:
        raise ValueError(
            f"{folder} has another content for {len(stale)} of {len(corpus)} chunks, {stale[0]} first. Add them with "
            "`nyx index`."
        )
    return Cosines(load_encoder(name).encode_queries, index.vectors[[places[chunk] for chunk in corpus.ids]])
