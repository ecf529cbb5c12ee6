"""What a retriever finds for each question, kept line by line, so that no question is searched for twice."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataset_builders.corpus import Corpus
from modeling_nyx.content_nyx import Content
from nyx.ranking import top_by_dim

CHUNKS = 1024
QUERIES = 256

# Returns the positions and scores of the best chunks for each query, each (queries, depth), best first.
Search = Callable[[list[Content]], tuple[np.ndarray, np.ndarray]]


def retrieve(
    path: Path,
    about: dict[str, Any],
    queries: Iterable[tuple[str, Content]],
    ids: Sequence[str],
    load: Callable[[], Search],
    total: int,
) -> None:
    """Write the ids and scores of the best chunks for each query, best first, as JSON lines.

    `about` says what they depend on. Lines that are there are kept if they are about the same, and begun anew
    otherwise. `queries`: ids and contents; `total`: how many; `ids`: the chunks'; `load`: returns the search, if it is
    needed.
    """
    header = json.dumps(about, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _done(path, header, total)
    if done == total:
        return
    search, left = load(), islice(queries, done, None)
    with path.open("a") as file, tqdm(total=total, initial=done, desc="retrieve") as bar:
        while block := list(islice(left, QUERIES)):
            positions, scores = search([content for _, content in block])
            for (query, _), row, fits in zip(block, positions.tolist(), scores.tolist(), strict=True):
                line = {"id": query, "candidates": [ids[place] for place in row], "scores": fits}
                file.write(json.dumps(line) + "\n")
            file.flush()
            bar.update(len(block))


def nearest(encoder: Any, corpus: Corpus, depth: int) -> Search:
    """Embed a corpus, and return the search for the `depth` chunks of greatest cosine."""
    documents = embed(corpus, encoder.encode_documents)

    def search(queries: list[Content]) -> tuple[np.ndarray, np.ndarray]:
        vectors = encoder.encode_queries(queries)
        return top_by_dim(vectors, documents, depth, [vectors.shape[1]])[vectors.shape[1]]

    return search


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what `retrieve` wrote of each query."""
    with path.open() as file:
        next(file)
        yield from map(json.loads, file)


def read_candidates(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each query's id and its candidates' ids, best first."""
    return ((line["id"], line["candidates"]) for line in read_lines(path))


def _done(path: Path, header: str, total: int) -> int:
    """Count the queries that are done, in whole blocks, and cut off what follows; begin a file about others anew.

    Blocks are what is multiplied together, and another product would round otherwise.
    """
    with path.open("a+b") as file:
        file.seek(0)
        ends = [len(line) for line in file if line.endswith(b"\n")]
        file.seek(0)
        if not ends or file.readline() != header.encode() + b"\n":
            file.truncate(0)
            file.write(header.encode() + b"\n")
            return 0
        done = len(ends) - 1
        if done != total:
            done = done // QUERIES * QUERIES
        file.truncate(sum(ends[: done + 1]))
    return done


def embed(corpus: Corpus, encode: Callable[[list[Content]], np.ndarray]) -> np.ndarray:
    """Return the embeddings of a corpus (chunks, dim); no more than a block of it is in memory at once."""
    blocks = [corpus.ids[start : start + CHUNKS] for start in range(0, len(corpus), CHUNKS)]
    return np.concatenate([encode(corpus.contents(block)) for block in tqdm(blocks, desc="embed")])
