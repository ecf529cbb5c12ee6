"""Search by Nyx's index against FAISS's, at 2048 values a page: time, memory, recall, building, starting.

    python -m benchmarks.search --model runs/demo/stage2      # after `make demo`; about half an hour on two cores

Every search is for the best ten of questions that nothing was tuned on. Rivals are FAISS's exact `IndexFlatIP` at
every size, and its graph `IndexHNSWFlat` and lists `IndexIVFFlat` at a size where the graph's building is affordable.
The rivals' own effort (`efSearch`, `nprobe`) is doubled until they, too, find 99 % of the exact ten.

What is searched is made by `benchmarks.search_case`, and kept in `runs/search`; another run by the same model only
measures.
"""

import argparse
import ctypes
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.measure import about, interleaved
from benchmarks.search_case import embed
from dataset_builders.questions_report import plotting
from nyx.funnel import DEPTH, RECALL
from nyx.index import Index
from nyx.models import shown
from nyx.ranking import top_by_dim
from nyx.records import Chunk

RESULTS = Path(__file__).parent / "results" / "search.json"
DIMS = [2048, 1024, 512, 256]
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
GRAPH = 100_000
SWEEP = 50_000
BATCH = 64


def chunks(count: int, words: int = 1) -> list[Chunk]:
    """Give every embedding a page to belong to."""
    texts = (" ".join(str(number) for number in range(i, i + words)) for i in range(count))
    return [Chunk(str(i), str(i), "s", [{"type": "text", "text": text}]) for i, text in enumerate(texts)]


def recall(scores: np.ndarray, exact: np.ndarray) -> float:
    """Return the share of results that are as good as the exact tenth."""
    return float((scores >= exact[:, -1:] - 1e-6).mean())


def held() -> float:
    """Return the MB that this process holds itself: mapped files, which the system takes back, aren't among them."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed isn't held either
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def built(build: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Build something, and say how long it took and what it holds."""
    before, start = held(), time.perf_counter()
    result = build()
    return result, {"seconds to build": round(time.perf_counter() - start, 2), "MB held": round(held() - before, 1)}


def flat(vectors: np.ndarray) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def graph(vectors: np.ndarray) -> Any:
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    return index


def lists(vectors: np.ndarray) -> Any:
    count = 2 ** round(np.log2(4 * len(vectors) ** 0.5))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], count, faiss.METRIC_INNER_PRODUCT
    )
    index.train(vectors[:: max(1, len(vectors) // (64 * count))])
    index.add(vectors)
    return index


APPROXIMATE = (("IndexHNSWFlat", graph, "efSearch"), ("IndexIVFFlat", lists, "nprobe"))


def tune(index: Any, name: str, questions: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Double an approximate rival's effort until it finds enough."""
    effort = 16
    while True:
        faiss.ParameterSpace().set_index_parameter(index, name, effort)
        found = recall(index.search(questions, DEPTH)[0], exact)
        if found >= RECALL or effort >= 2048:
            return {name: effort, "recall@10": found}
        effort *= 2


def race(searches: dict[str, Callable[[np.ndarray], Any]], questions: np.ndarray, runs: int) -> dict[str, Any]:
    """Time every search for questions one at a time (another one each time), and for a batch of them."""

    def one_by_one(search: Callable[[np.ndarray], Any]) -> None:
        for question in singles:
            search(question[None])

    singles, batch = questions[:5], questions[5 : 5 + BATCH]
    single = interleaved({name: partial(one_by_one, search) for name, search in searches.items()}, runs)
    batched = interleaved({name: partial(search, batch) for name, search in searches.items()}, runs)
    return {
        "ms a single query": _milliseconds(single, len(singles)),
        f"ms a query in batches of {len(batch)}": _milliseconds(batched, len(batch)),
    }


def _milliseconds(times: dict[str, dict[str, float]], queries: int) -> dict[str, dict[str, float]]:
    return {
        name: {key.replace("seconds", "ms"): round(1000 * each / queries, 4) for key, each in values.items()}
        for name, values in times.items()
    }


def measure_size(vectors: np.ndarray, questions: np.ndarray, runs: int, rivals: bool) -> dict[str, Any]:
    """Hold Nyx's index of some size against FAISS's."""
    ours = Index.of(chunks(len(vectors)), vectors, model_name="benchmark")
    _, of_ours = built(ours.prepare)
    exact_flat, of_flat = built(lambda: flat(vectors))
    exact = exact_flat.search(questions, DEPTH)[0]
    report: dict[str, Any] = {"ours": dict(of_ours), "IndexFlatIP": of_flat}
    report["ours"] |= {"recall@10": recall(ours.rank(questions, DEPTH)[1], exact)}
    report["ours"] |= {"plan": vars(ours.plan) if ours.plan else "every vector is compared"}
    searches: dict[str, Callable[[np.ndarray], Any]] = {
        "ours": lambda asked: ours.rank(asked, DEPTH),
        "IndexFlatIP": lambda asked: exact_flat.search(asked, DEPTH),
    }
    for name, build, effort in APPROXIMATE if rivals else ():
        index, of_index = built(partial(build, vectors))
        report[name] = of_index | tune(index, effort, questions, exact)
        searches[name] = partial(_search, index)
    times = race(searches, questions, runs)
    ratios = {what: each["IndexFlatIP"]["ms"] / each["ours"]["ms"] for what, each in times.items()}
    return report | times | {"IndexFlatIP / ours": {what: round(ratio, 1) for what, ratio in ratios.items()}}


def _search(index: Any, asked: np.ndarray) -> Any:
    return index.search(asked, DEPTH)


def measure_start(folder: Path, vectors: np.ndarray, questions: np.ndarray) -> dict[str, float]:
    """Save an index of pages of 150 words, let the system forget its files, and open it in a process of its own."""
    index = Index.create(folder, chunks(len(vectors), 150), vectors, model_name="benchmark")
    index.prepare()
    del index
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(start, folder, questions[:2]).result()


def start(folder: Path, questions: np.ndarray) -> dict[str, float]:
    """Time what one who opens an index waits for, and say what it holds then."""
    before, clock = held(), [time.perf_counter()]
    opened = Index.open(folder)
    clock.append(time.perf_counter())
    opened.prepare()
    clock.append(time.perf_counter())
    for question in questions:
        opened.search(question[None], DEPTH)
        clock.append(time.perf_counter())
    names = ("open it, every checksum verified", "build its codes", "first query", "second query")
    times = {name: round(end - begin, 4) for name, (begin, end) in zip(names, pairwise(clock), strict=True)}
    return times | {"MB held": round(held() - before, 1)}


def measure_sweep(vectors: np.ndarray, questions: np.ndarray, dims: list[int], runs: int) -> dict[str, Any]:
    """Rank by every prefix: in one pass, and by a search for each."""

    def by_flat(dim: int) -> np.ndarray:
        cut = [np.ascontiguousarray(each[:, :dim]) for each in (vectors, questions)]
        for each in cut:
            faiss.normalize_L2(each)
        return flat(cut[0]).search(cut[1], DEPTH)[0]

    calls: dict[str, Callable[[], Any]] = {
        "one pass": lambda: top_by_dim(questions, vectors, DEPTH, dims),
        "IndexFlatIP a dimension": lambda: {dim: by_flat(dim) for dim in dims},
        "ours a dimension": lambda: {dim: top_by_dim(questions, vectors, DEPTH, [dim]) for dim in dims},
    }
    ours, rival, times = calls["one pass"](), calls["IndexFlatIP a dimension"](), interleaved(calls, runs)
    return {
        "pages": len(vectors),
        "questions": len(questions),
        "times": times,
        "largest difference of a cosine": max(float(np.abs(ours[dim][1] - rival[dim]).max()) for dim in dims),
        "IndexFlatIP / one pass": round(times["IndexFlatIP a dimension"]["seconds"] / times["one pass"]["seconds"], 2),
        "ours a dimension / one pass": round(times["ours a dimension"]["seconds"] / times["one pass"]["seconds"], 2),
    }


def plot(sizes: dict[str, Any], path: Path) -> None:
    """Draw milliseconds a query against the size of the corpus."""
    figure = plotting()(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for what in next(iter(sizes.values()))["IndexFlatIP / ours"]:
        for name, style in (("ours", "o-"), ("IndexFlatIP", "s--")):
            axes.plot([int(size) for size in sizes], [each[what][name]["ms"] for each in sizes.values()], style)
            axes.lines[-1].set_label(f"{name}, {what.removeprefix('ms ')}")
    axes.set(xscale="log", yscale="log", xlabel="pages", ylabel="milliseconds")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def measure(folder: Path, dims: list[int], sizes: Sequence[int], graph_size: int, sweep: int, runs: int) -> dict:
    """Measure everything on what was embedded."""
    vectors = np.asarray(np.load(folder / "corpus.npy", mmap_mode="r"))
    questions = np.load(folder / "questions.npy")
    found = top_by_dim(questions, vectors, DEPTH, [dims[-1], dims[0]])
    alone = np.einsum("qke,qe->qk", vectors[found[dims[-1]][0]], questions)
    results: dict[str, Any] = {
        "threads": faiss.omp_get_max_threads(),
        "values": dims[0],
        "questions": len(questions),
        f"recall@10 of the first {dims[-1]} values alone": recall(alone, found[dims[0]][1]),
        "all dimensions": measure_sweep(np.array(vectors[:sweep]), questions, dims, runs),
        "start": measure_start(folder / "index", vectors, questions),
        "sizes": {},
    }
    shutil.rmtree(folder / "index")
    for size in sizes:
        results["sizes"][str(size)] = measure_size(vectors[:size], questions, runs, rivals=size == graph_size)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained encoder")
    parser.add_argument("--folder", type=Path, default=Path("runs/search"), help="where 17 GB find room; 8 are kept")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="tiny, in seconds; nothing is kept")
    args = parser.parse_args(argv)
    how = "--dry" if args.dry else f"--runs {args.runs}"
    command = f"python -m benchmarks.search --model {shown(args.model)} {how}"
    results = about(command, "faiss-cpu", "numpy", "torch")
    if args.dry:
        with tempfile.TemporaryDirectory() as temporary:
            embed(Path(temporary), args.model, [64, 32, 16, 8], 2000, worlds=1, species=5, steps=5)
            results |= measure(Path(temporary), [64, 32, 16, 8], (1000, 2000), 1000, 1000, 1)
            plot(results["sizes"], Path(temporary) / "search.png")
    else:
        embed(args.folder, args.model, DIMS, max(SIZES), worlds=20, species=250, steps=400)
        results |= measure(args.folder, DIMS, SIZES, GRAPH, SWEEP, args.runs)
        plot(results["sizes"], RESULTS.with_suffix(".png"))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
