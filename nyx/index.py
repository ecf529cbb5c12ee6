"""An index: a folder with vectors, documents and a manifest; search over it, exact or, if it is large, nearly so.

Each save writes a new generation of the files and then replaces the manifest, which names them: after a crash the
folder holds the old index or the new one. Vectors are mapped, not read, into memory, and the contents of documents are
read when they are found. What FAISS needs is built from the vectors in memory and never kept.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from modeling_nyx.content_nyx import Content, to_content
from nyx.funnel import Funnel, Plan, choose
from nyx.manifest import MANIFEST, Manifest, read_manifest
from nyx.ranking import top_by_dim
from nyx.records import Chunk, content_id, write_records
from nyx.stored_chunks import stored_chunks

LOCK = ".lock"


@dataclass(frozen=True)
class Hit:
    """One result: the chunk's id, its cosine with the query, its content and where it comes from."""

    id: str
    score: float
    content: Content
    source: str


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Index:
    """Chunks and their embeddings, searched by cosine.

    A large corpus is searched by a funnel, which finds 99 % of what exact search does; `exact=True` finds all.
    """

    def __init__(
        self, folder: Path | None, chunks: list[Chunk], vectors: np.ndarray, model_name: str, revision: str
    ) -> None:
        self.folder, self.chunks, self.vectors = folder, chunks, vectors
        self.model_name, self.revision = model_name, revision
        # Which save of the folder this index is, 0 before the first; and whether chunks came or went since.
        self.generation, self._unsaved = 0, True
        # How to search by whole embeddings, once measured; and what searches by the first so many values of them.
        self.plan: Plan | None = None
        self._funnels: dict[int, Funnel | None] = {}

    @classmethod
    def create(
        cls, folder: str | Path, chunks: Sequence[Chunk], vectors: np.ndarray, *, model_name: str, revision: str = ""
    ) -> "Index":
        """Make an index of chunks and their embeddings (chunks, dim), and save it. Refuses a folder that holds one."""
        folder = Path(folder)
        if (folder / MANIFEST).exists():
            raise ValueError(f"{folder} already holds an index. Open it to add to it, or choose another folder.")
        index = cls.of(chunks, vectors, model_name=model_name, revision=revision)
        index.folder = folder
        index.save()
        return index

    @classmethod
    def of(cls, chunks: Sequence[Chunk], vectors: np.ndarray, *, model_name: str, revision: str = "") -> "Index":
        """Make an index of chunks and their embeddings (chunks, dim) in memory; it has no folder to be saved to.

        Vectors are taken, not copied, where they can be: don't change them afterwards.
        """
        index = cls(None, [], np.empty((0, vectors.shape[-1]), dtype=np.float32), model_name, revision)
        index.add(chunks, vectors)
        return index

    @classmethod
    def open(cls, folder: str | Path, *, model_name: str | None = None, revision: str | None = None) -> "Index":
        """Open a saved index; with `model_name` or `revision`, refuse one that another model made.

        Revisions decide where both have one: the same model may be named in several ways, and be moved.
        Raises `ValueError` when the folder is no index, was made by a newer format, or its files are damaged.
        """
        folder = Path(folder)
        while True:
            manifest = read_manifest(folder)
            try:
                return cls._read(folder, manifest, model_name, revision)
            except (ValueError, OSError):
                if read_manifest(folder).generation == manifest.generation:
                    raise  # else a save replaced the files while they were read

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, model_name: str | None, revision: str | None) -> "Index":
        if revision and manifest.revision:
            same = revision == manifest.revision
        else:
            same = model_name in (None, manifest.model)
        if not same:
            made = f"{manifest.model} {manifest.revision}".strip()
            given = f"{model_name or manifest.model} {revision or manifest.revision}".strip()
            raise ValueError(
                f"{folder} was made with the model {made!r}, but is opened with {given!r}. Embeddings of different "
                "models cannot be compared: index the chunks again, or search with the first."
            )
        for kind, name in manifest.files.items():
            path = folder / Path(name).name
            if not path.exists() or _checksum(path) != manifest.checksums[kind]:
                raise ValueError(
                    f"{path} is missing or damaged: it does not match {MANIFEST}. Index the chunks again."
                )
        vectors = _mapped(folder / Path(manifest.files["vectors"]).name)
        chunks = stored_chunks(folder / Path(manifest.files["documents"]).name)
        if vectors.shape != (len(chunks), manifest.dim):
            raise ValueError(f"{folder} holds vectors of shape {vectors.shape} for {len(chunks)} chunks. Index again.")
        index = cls(folder, chunks, vectors, manifest.model, manifest.revision)
        index.generation, index._unsaved, index.plan = manifest.generation, False, manifest.search
        return index

    def add(self, chunks: Sequence[Chunk], vectors: np.ndarray) -> int:
        """Add chunks, and return how many ids are new; `save` keeps them.

        A chunk takes the place of another one with its id: with its vector if the content is another, and where only
        source or document are, with the vector that is there. Raises `ValueError` on odd vectors, and on chunks
        without id or content, or with one id for two contents.
        """
        if vectors.shape != (len(chunks), self.vectors.shape[1]):
            expected = (len(chunks), self.vectors.shape[1])
            raise ValueError(f"Vectors of shape {vectors.shape} came for {len(chunks)} chunks; expected {expected}.")
        if not np.allclose(
            np.einsum("ce,ce->c", vectors, vectors), 1, atol=2e-3
        ):  # no copy; what isn't finite is not 1
            raise ValueError("Vectors must be finite and of norm 1, as the model gives them.")
        places = {chunk.id: place for place, chunk in enumerate(self.chunks)}
        others = self.update(chunks)
        self._replace({places[chunks[at].id]: at for at in others if chunks[at].id in places}, chunks, vectors)
        new = [at for at in others if chunks[at].id not in places]
        if new:
            self._unsaved, self.plan = True, None
            self.chunks += [chunks[position] for position in new]
            added = (vectors if len(new) == len(chunks) else vectors[new]).astype(np.float32, copy=False)
            self.vectors = np.concatenate([self.vectors, added]) if len(self.vectors) else added
            self._funnels.clear()
        return len(new)

    def update(self, chunks: Sequence[Chunk]) -> list[int]:
        """Take over source and document of chunks that are here with the same content; `save` keeps them.

        Returns the positions of the others, which are to be embedded and added. Raises `ValueError` as `add` does.
        """
        places, others = {chunk.id: place for place, chunk in enumerate(self.chunks)}, []
        for at in distinct(chunks):
            place, chunk = places.get(chunks[at].id), chunks[at]
            if place is None or not _same_content(self.chunks[place], chunk):
                others.append(at)
            elif (self.chunks[place].document_id, self.chunks[place].source) != (chunk.document_id, chunk.source):
                self._unsaved, self.chunks[place] = True, chunk
        return others

    def _replace(self, positions: dict[int, int], chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
        """Put chunks and their vectors in the places of others, by their positions."""
        if positions:
            self._unsaved, self.plan = True, None
            self.vectors = np.array(self.vectors)  # what is mapped cannot be written to
            self._funnels.clear()
        for place, at in positions.items():
            self.chunks[place], self.vectors[place] = chunks[at], vectors[at]

    def remove(self, ids: Iterable[str]) -> int:
        """Remove chunks by their ids, and return how many there were; `save` keeps that.

        The vectors left are copied into memory. Raises `ValueError` if no chunk would be left.
        """
        ids = {ids} if isinstance(ids, str) else set(ids)
        kept = [position for position, chunk in enumerate(self.chunks) if chunk.id not in ids]
        if not kept:
            raise ValueError(f"Nothing would be left of {len(self.chunks)} chunks. Remove the index's folder instead.")
        gone = len(self.chunks) - len(kept)
        if gone:
            self._unsaved, self.plan = True, None
            self.chunks, self.vectors = [self.chunks[position] for position in kept], self.vectors[kept]
            self._funnels.clear()
        return gone

    @property
    def ids(self) -> set[str]:
        return {chunk.id for chunk in self.chunks}

    def save(self) -> None:
        """Write the next generation of the files, then the manifest, then remove the last generation.

        Does nothing if no chunk came or went since the last save. Raises `ValueError` if the folder changed meanwhile,
        or if there is none; a failure leaves it as it was.
        """
        if self.folder is None:
            raise ValueError("This index has no folder. Make it with Index.create, which takes one.")
        if not self._unsaved:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / LOCK):  # one save at a time: the second finds what the first one left
            self._write(self.folder)

    def _write(self, folder: Path) -> None:
        old = self._saved(folder)
        generation = self.generation + 1
        files = {"vectors": f"vectors-{generation}.safetensors", "documents": f"documents-{generation}.parquet"}
        aside = folder / f".generation-{generation}.partial"
        try:
            save_file({"vectors": self.vectors}, aside)
            os.replace(aside, folder / files["vectors"])
            write_records(self.chunks, folder / files["documents"])
            manifest = Manifest(
                model=self.model_name,
                revision=self.revision,
                dim=self.vectors.shape[1],
                count=len(self.chunks),
                generation=generation,
                files=files,
                checksums={kind: _checksum(folder / name) for kind, name in files.items()},
                search=self.plan,
            )
            aside.write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        except BaseException:
            for name in (aside.name, *files.values()):
                (folder / name).unlink(missing_ok=True)
            raise
        os.replace(aside, folder / MANIFEST)
        self.generation, self._unsaved = generation, False
        for name in old.files.values() if old else ():
            (folder / Path(name).name).unlink(missing_ok=True)
        self.chunks = stored_chunks(folder / files["documents"])

    def prepare(self, queries: np.ndarray | None = None) -> None:
        """Get ready to search by whole embeddings, which else the first search does.

        The codes of a large corpus are built and, unless the manifest says so already, how to use them is measured: by
        `queries` (queries, dim) if they are given, else by pages half way between the index's. A saved index keeps
        what was found.
        """
        dim = self.vectors.shape[1]
        if queries is not None:
            self._funnels[dim] = choose(self.vectors, dim, self._checked(queries))
        funnel = self._funnel(dim)
        if funnel is None or funnel.plan == self.plan:
            return
        self.plan = funnel.plan
        if self._unsaved or self.folder is None:
            return
        with FileLock(self.folder / LOCK):
            if saved := self._saved(self.folder):
                aside = self.folder / f".{MANIFEST}.partial"
                aside.write_text(json.dumps(asdict(replace(saved, search=self.plan)), indent=2) + "\n")
                os.replace(aside, self.folder / MANIFEST)

    def _saved(self, folder: Path) -> Manifest | None:
        """Return what the folder holds. Raises `ValueError` if that isn't what this index was opened or saved as."""
        saved = read_manifest(folder) if (folder / MANIFEST).exists() else None
        found = saved.generation if saved else 0
        if found != self.generation:
            raise ValueError(
                f"{folder} was saved by another run since it was opened here (generation {found}; expected "
                f"{self.generation}). Nothing was written: open it again, and change that."
            )
        return saved

    def _funnel(self, dim: int) -> Funnel | None:
        if dim not in self._funnels:
            plan = self.plan if dim == self.vectors.shape[1] else None
            self._funnels[dim] = Funnel.build(self.vectors, dim, plan) if plan else choose(self.vectors, dim)
        return self._funnels[dim]

    def rank(
        self, query_vectors: np.ndarray, k: int, dim: int | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and cosines of the best k chunks, each (queries, k), by the first `dim` values if given.

        `exact` compares with every chunk, however large the corpus.
        """
        queries = self._checked(query_vectors)
        if k < 1:
            raise ValueError(f"k is {k}; expected at least 1.")
        dim = self.vectors.shape[1] if dim is None else dim
        if not 1 <= dim <= self.vectors.shape[1]:
            raise ValueError(f"dim is {dim}; expected 1 to {self.vectors.shape[1]}, the size of the embeddings.")
        funnel = None if exact else self._funnel(dim)
        if funnel is None or not funnel.pays(k):
            return top_by_dim(queries, self.vectors, k, [dim])[dim]
        return funnel.search(queries, k)

    def _checked(self, queries: np.ndarray) -> np.ndarray:
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"Queries of shape {queries.shape}; expected (queries, {self.vectors.shape[1]}).")
        if not np.isfinite(queries).all():
            raise ValueError("Queries must be finite, as the model gives them.")
        return queries.astype(np.float32)

    def search(
        self, query_vectors: np.ndarray, k: int, dim: int | None = None, exact: bool = False
    ) -> list[list[Hit]]:
        """Return the best k chunks of each query (queries, dim), best first; the arguments are `rank`'s."""
        positions, scores = self.rank(query_vectors, k, dim, exact)
        return [
            [self._hit(int(position), float(score)) for position, score in zip(row, values, strict=True)]
            for row, values in zip(positions, scores, strict=True)
        ]

    def _hit(self, position: int, score: float) -> Hit:
        chunk = self.chunks[position]
        return Hit(chunk.id, score, chunk.content, chunk.source)


def _same_content(first: Chunk, second: Chunk) -> bool:
    return first.content == second.content or content_id(first.content) == content_id(second.content)


def distinct(chunks: Sequence[Chunk]) -> list[int]:
    """Return the first position of every id.

    Raises `ValueError` for a chunk without id or content, and where two contents have the same id.
    """
    first: dict[str, int] = {}
    for position, chunk in enumerate(chunks):
        if not isinstance(chunk.id, str) or not chunk.id:
            raise ValueError(f"Chunk {position} of {len(chunks)} has the id {chunk.id!r}; expected a string.")
        try:
            to_content(chunk.content)
        except ValueError as error:
            raise ValueError(f"Chunk {chunk.id}: {error}") from error
        other = chunks[first.setdefault(chunk.id, position)]
        if other is not chunk and content_id(other.content) != content_id(chunk.content):
            raise ValueError(f"Two chunks with different content have the id {chunk.id}. Give each its own.")
    return list(first.values())


def _mapped(path: Path) -> np.ndarray:
    """Map the vectors (chunks, dim) of a file into memory; pages of it are read when they are looked at."""
    try:
        with safe_open(path, framework="pt") as file:  # numpy's would copy
            vectors = file.get_tensor("vectors").numpy()
    except SafetensorError as error:
        raise ValueError(f"{path.parent} holds no readable vectors ({error}). Index the chunks again.") from error
    if vectors.dtype != np.float32 or vectors.ndim != 2:
        found = f"{vectors.dtype} of shape {vectors.shape}"
        raise ValueError(f"{path} holds {found}; expected float32 (chunks, dim). Index the chunks again.")
    return vectors
