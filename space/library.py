"""Chunks that can be searched: an index and the encoder that made it, for many visitors at once."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modeling_nyx.content_nyx import Content
from nyx.index import Hit, Index
from nyx.manifest import read_manifest
from nyx.models import fingerprint, load_encoder
from nyx.records import Chunk, load_records

BATCH = 16
FLOAT = 4  # bytes
# Hears how much of a piece of work is done: (done, of how many), and its name.
Told = Callable[[tuple[int, int], str], Any]


class Retriever:
    """An encoder by its name. A backbone keeps state while it embeds, so only one visitor's content is at a time."""

    def __init__(self, encoder: Any, name: str) -> None:
        self.encoder, self.name, self._busy = encoder, name, threading.Lock()

    @classmethod
    def load(cls, name: str) -> "Retriever":
        return cls(load_encoder(name), name)

    def embed(self, question: Content) -> np.ndarray:
        """Return a question's vector (1, dim)."""
        with self._busy:
            return self.encoder.encode_queries([question])

    def read(self, chunks: Sequence[Chunk], told: Told) -> "Library":
        """Embed chunks, a few at a time, so that others' questions need not wait for all of them."""
        parts = []
        for start in range(0, len(chunks), BATCH):
            told((start, len(chunks)), "embedding pages")
            with self._busy:
                parts.append(self.encoder.encode_documents([chunk.content for chunk in chunks[start : start + BATCH]]))
        return Library(self, Index.of(chunks, np.concatenate(parts), model_name=self.name))


class Library:
    """What a visitor searches."""

    def __init__(self, retriever: Retriever, index: Index) -> None:
        self.retriever, self.index = retriever, index
        whole = index.vectors.shape[1]
        trained = retriever.encoder.config.matryoshka_dimensions or ()
        # The dimensions that the retriever was trained to be cut to, the whole embedding first.
        self.dims = sorted({whole, *(dim for dim in trained if dim < whole)}, reverse=True)
        for dim in self.dims:  # so that no visitor waits for a dimension to be made ready
            index.search(index.vectors[:1], 1, dim)

    def __len__(self) -> int:
        return len(self.index.chunks)

    def embed(self, question: Content) -> tuple[np.ndarray, float]:
        """Return a question's vector (1, dim), and the seconds it took."""
        started = time.perf_counter()
        vector = self.retriever.embed(question)
        return vector, time.perf_counter() - started

    def search(self, vector: np.ndarray, k: int, dim: int) -> tuple[list[Hit], float]:
        """Return the best k chunks for a question's vector (1, dim), and the seconds it took."""
        started = time.perf_counter()
        # Another dimension than its own needs no codes, which would be made, and kept, for whatever number is asked.
        hits = self.index.search(vector, k, dim, exact=dim not in self.dims)[0]
        return hits, time.perf_counter() - started

    def size(self, dim: int) -> int:
        """Return the bytes that the vectors take, cut to `dim`."""
        return len(self) * dim * FLOAT


def open_library(model: str, index: str, dataset: str, split: str, told: Told) -> Library:
    """Open the index in a folder, or embed a dataset's corpus. Raises `ValueError`, `OSError` with what is amiss."""
    if not dataset:
        name = model or read_manifest(Path(index)).model
        retriever = Retriever.load(name)
        return Library(retriever, Index.open(index, model_name=name, revision=fingerprint(name)))
    if not model:
        raise ValueError(f"Which model embeds {dataset}? Name it with --model (or NYX_MODEL).")
    return Retriever.load(model).read(list(load_records(Chunk, dataset, "corpus", split)), told)


def is_checkpoint(folder: str) -> bool:
    return (Path(folder) / "config.json").is_file()
