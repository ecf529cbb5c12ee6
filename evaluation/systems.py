"""What is compared, by name: every retriever of `open_retriever`, divide and conquer, and the controls."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from dataset_builders.corpus import Corpus
from dataset_builders.retrievers import NAMES, SENTENCE_TRANSFORMER, Retriever, open_encoder, open_retriever
from dataset_builders.retrievers import retriever_facts as facts
from evaluation.apart import Apart
from evaluation.benchmark import Benchmark
from nyx.models import shown

APART = "apart:"
SYSTEMS = (
    f"{NAMES}; a model@DIM for the first values of its embeddings; {APART}MODEL: text and pictures embedded apart, "
    "scores fused; none, gold or random: no document, those that answer, others"
)


def none(benchmark: Benchmark, place: int, chunks: Sequence[str]) -> list[str]:
    """Give no document."""
    return []


def gold(benchmark: Benchmark, place: int, chunks: Sequence[str]) -> list[str]:
    """Give the documents that answer."""
    kept = set(chunks)
    return [chunk for chunk in benchmark.gold[place] if chunk in kept]


def random(benchmark: Benchmark, place: int, chunks: Sequence[str], depth: int = 100) -> list[str]:
    """Give documents that don't answer, the same ones whenever it is the same question."""
    right, rng = set(benchmark.gold[place]), Random(benchmark.questions[place].id)
    drawn = rng.sample(chunks, min(depth + len(right), len(chunks)))
    return [chunk for chunk in drawn if chunk not in right][:depth]


# What each gives for a question, by its place among the benchmark's, out of chunks of one source.
CONTROLS: dict[str, Callable[[Benchmark, int, Sequence[str]], list[str]]] = {
    "none": none,
    "gold": gold,
    "random": random,
}


def open_system(name: str, corpus: Corpus) -> Retriever:
    """Make a retriever by name (`SYSTEMS`, less the controls) ready to score a corpus."""
    model, dim = split_dim(name)
    if not model.startswith(APART):
        return open_retriever(model, corpus, dim)
    if dim is not None:
        raise ValueError(f"{name}: scores are fused of whole embeddings; leave out @{dim}.")
    return Apart(open_encoder(model.removeprefix(APART)), corpus)


def split_dim(name: str) -> tuple[str, int | None]:
    """Take `MODEL@DIM` apart."""
    model, _, dim = name.rpartition("@")
    return (model, int(dim)) if model and dim.isdecimal() else (name, None)


def system_facts(name: str) -> dict[str, Any]:
    """Return what a system is called, without the machine's folders, and what tells it from others of that name."""
    if name in CONTROLS:
        return {"retriever": name, "revision": ""}
    model, dim = split_dim(name)
    prefix = APART if model.startswith(APART) else ""
    revision = facts(model.removeprefix(prefix))["revision"]
    prefix += SENTENCE_TRANSFORMER if model.removeprefix(prefix).startswith(SENTENCE_TRANSFORMER) else ""
    label = prefix + shown(model.removeprefix(prefix))
    return {"retriever": label if dim is None else f"{label}@{dim}", "revision": revision}
