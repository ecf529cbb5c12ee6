"""Search a large corpus in three steps: short codes find candidates, longer ones the best of them, vectors rank these.

Codes hold the first values of an embedding, at first four in four bits, then each in four: 32 and 128 bytes for 256
values, where all 2048 take 8192. FAISS compares the short ones hundreds of times faster than vectors; the vectors may
stay in a file, of which a query reads a few only. How many candidates it takes is measured against exact search, not
guessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from modeling_nyx.modeling_nyx import truncate
from nyx.ranking import BLOCK, top_by_dim

SMALL = 2**26  # numbers in a corpus that is better compared whole: milliseconds
PREFIX = 256  # values that are coded at first; twice as many when they tell too little
TOGETHER = 4  # values that share four bits of a code
RECALL, DEPTH = 0.99, 10  # share of the exact best ten that must be found
CANDIDATES = [100 * 2**step for step in range(8)]
COMPARED = 40  # candidates for each result whose vectors are read
PROBES = 200
SAMPLE = 2**14  # vectors that the codes are fitted to


@dataclass(frozen=True)
class Plan:
    """How an index is searched: values coded, candidates for the best ten, and the recall measured with these."""

    prefix: int
    candidates: int
    recall: float

    @classmethod
    def read(cls, values: Any, dim: int) -> "Plan | None":
        """Make a plan of what a manifest says. Raises `TypeError` or `ValueError` for what cannot be one."""
        if values is None:
            return None
        plan = cls(**values)
        if not all(isinstance(each, int) and each > 0 for each in (plan.prefix, plan.candidates)):
            raise TypeError(f"{plan} does not count in whole numbers")
        if plan.prefix % TOGETHER or plan.prefix > dim or not 0 <= plan.recall <= 1:
            raise ValueError(f"{plan} does not fit embeddings of {dim} values")
        return plan


class Funnel:
    """Codes of a corpus (an index of FAISS), and its vectors by their first `dim` values."""

    def __init__(self, vectors: np.ndarray, dim: int, codes: Any, plan: Plan) -> None:
        self.vectors, self.dim, self.codes, self.plan = vectors, dim, codes, plan

    @classmethod
    def build(cls, vectors: np.ndarray, dim: int, plan: Plan) -> "Funnel":
        return cls(vectors, dim, _encode(vectors, dim, plan.prefix), plan)

    def candidates(self, k: int) -> int:
        """Return how many candidates the short codes find for the best k."""
        return min(self.plan.candidates * -(-k // DEPTH), len(self.vectors))

    def pays(self, k: int) -> bool:
        """Say whether it is faster than exact search: candidates here and there take longer than vectors in a row."""
        return 10 * self.candidates(k) <= len(self.vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and cosines of the best k, each (queries, k), best first; of equals the first comes first.

        Every cosine is exact; that nothing better was missed isn't certain.
        """
        queries, candidates = truncate(queries, self.dim), self.candidates(k)
        found = _found(self.codes, _prefix(queries, self.plan.prefix), min(COMPARED * k, candidates), candidates)
        positions = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for row, (query, places) in enumerate(zip(queries, np.sort(found, axis=1), strict=True)):
            cosines = truncate(self.vectors[places], self.dim) @ query
            order = np.argsort(-cosines, kind="stable")[:k]
            positions[row], scores[row] = places[order], cosines[order]
        return positions, scores


def choose(vectors: np.ndarray, dim: int, probes: np.ndarray | None = None) -> Funnel | None:
    """Build the cheapest funnel that finds `RECALL` of the exact best ten of `probes` (queries, size), if any does.

    Returns None where exact search is better: for a small corpus, and if no prefix tells enough. Without probes, pages
    half way between two of the corpus are asked for, since questions, too, lie between pages.
    """
    if len(vectors) * dim < SMALL or dim < TOGETHER:
        return None
    probes = _midway(vectors) if probes is None else probes
    tenth = top_by_dim(probes, vectors, DEPTH, [dim])[dim][1][:, -1:]
    for prefix in _prefixes(dim):
        codes = _encode(vectors, dim, prefix)
        for candidates in CANDIDATES:
            funnel = Funnel(vectors, dim, codes, Plan(prefix, candidates, 0.0))
            if not funnel.pays(DEPTH):
                break
            # By score, not by position: what equals the tenth is as good.
            recall = float((funnel.search(probes, DEPTH)[1] >= tenth - 1e-6).mean())
            if recall >= RECALL:
                return Funnel(vectors, dim, codes, Plan(prefix, candidates, recall))
    return None


def _prefixes(dim: int) -> Iterator[int]:
    prefix = PREFIX
    while prefix < dim:
        yield prefix
        prefix *= 2
    yield dim - dim % TOGETHER


def _midway(vectors: np.ndarray) -> np.ndarray:
    first, second = np.random.default_rng(0).integers(len(vectors), size=(2, PROBES))
    middle = vectors[first] + vectors[second]
    return middle / np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-12)


def _encode(vectors: np.ndarray, dim: int, prefix: int) -> Any:
    faiss = _faiss()
    short = faiss.IndexPQFastScan(prefix, prefix // TOGETHER, 4, faiss.METRIC_INNER_PRODUCT)
    # Turned at random, no two values hold much more than others: four bits are enough for any.
    short = faiss.IndexPreTransform(faiss.RandomRotationMatrix(prefix, prefix), short)
    longer = faiss.IndexScalarQuantizer(prefix, faiss.ScalarQuantizer.QT_4bit, faiss.METRIC_INNER_PRODUCT)
    codes = faiss.IndexRefine(short, longer)
    codes.train(_prefix(truncate(vectors[:: -(-len(vectors) // SAMPLE)], dim), prefix))
    for start in range(0, len(vectors), BLOCK):
        codes.add(_prefix(truncate(vectors[start : start + BLOCK], dim), prefix))
    return codes


def _found(codes: Any, queries: np.ndarray, count: int, candidates: int) -> np.ndarray:
    """Return, for each query, the positions of the best `count` by longer codes of the `candidates` by short ones."""
    faiss = _faiss()
    threads = faiss.omp_get_max_threads()
    # Of a single query there is nothing to share out, and threads that wait for one another take longer than it does.
    faiss.omp_set_num_threads(1 if len(queries) == 1 else threads)
    try:
        return codes.search(queries, count, params=faiss.IndexRefineSearchParameters(k_factor=candidates / count))[1]
    finally:
        faiss.omp_set_num_threads(threads)


def _prefix(vectors: np.ndarray, prefix: int) -> np.ndarray:
    return np.ascontiguousarray(vectors[:, :prefix])


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "Search in a large corpus needs FAISS (or `exact=True`): pip install 'nyx-retriever[cpu]' (or [gpu])"
        ) from error
    return faiss
