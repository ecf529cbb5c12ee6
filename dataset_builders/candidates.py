"""What a retriever finds for each question, kept line by line, so that no question is searched for twice."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dataset_builders.corpus import Corpus
from modeling_nyx.content_nyx import Content
from nyx.ranking import top

CHUNKS = 1024
QUERIES = 256


def retrieve(
    path: Path,
    about: dict[str, Any],
    queries: Iterable[tuple[str, Content]],
    corpus: Corpus,
    load: Callable[[], Any],
    depth: int,
    total: int,
) -> None:
    """Write the ids of the best `depth` chunks for each query, best first, as JSON lines.

    `about` says what they depend on. Lines that are there are kept if they are about the same, and begun anew
    otherwise. `queries`: ids and contents; `total`: how many; `load`: returns the encoder, if it is needed.
    """
    header = json.dumps(about, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _done(path, header, total)
    if done == total:
        return
    model = load()
    documents, left = _vectors(corpus, model), islice(queries, done, None)
    with path.open("a") as file, tqdm(total=total, initial=done, desc="retrieve") as bar:
        while block := list(islice(left, QUERIES)):
            found = top(model.encode_queries([content for _, content in block]), documents, depth)
            for (query, _), row in zip(block, found, strict=True):
                file.write(json.dumps({"id": query, "candidates": [corpus.ids[place] for place in row]}) + "\n")
            file.flush()
            bar.update(len(block))


def read_candidates(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each query's id and its candidates' ids, best first."""
    with path.open() as file:
        next(file)
        for line in file:
            found = json.loads(line)
            yield found["id"], found["candidates"]


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


def _vectors(corpus: Corpus, model: Any) -> np.ndarray:
    blocks = [corpus.ids[start : start + CHUNKS] for start in range(0, len(corpus), CHUNKS)]
    return np.concatenate([model.encode_documents(corpus.contents(block)) for block in tqdm(blocks, desc="embed")])
