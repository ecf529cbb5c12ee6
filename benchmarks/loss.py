"""The Matryoshka loss and its gradients on given embeddings, against sentence-transformers': time, memory, equality.

    python -m benchmarks.loss          # about ten minutes on two cores

Rival: `MatryoshkaLoss(CachedMultipleNegativesRankingLoss)` itself, on embeddings instead of a model's, at whichever of
its mini-batch sizes is fastest. Both run with torch's defaults, and again with float32 products as
`torch.set_float32_matmul_precision("medium")` computes them: on this CPU that is another library, no less precise.
Memory is the peak of a process of its own, above what it held before the loss.

How little of a training step this is: for 1024 queries × 4096 documents × 2048 values it takes 5·10¹⁰ floating-point
operations, a step of a model of 3 billion parameters on these contents, of 300 tokens each, 3·10¹⁶: two millionths.
It counts for large batches of cached gradients, whose memory it bounds.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
from torch import Tensor, nn

from benchmarks.measure import about, interleaved
from train_scripts.losses import matryoshka_info_nce

RESULTS = Path(__file__).parent / "results" / "loss.json"
DIMS, WEIGHTS, TEMPERATURE = [2048, 1024, 512, 256], [1.0, 1.0, 0.2, 0.2], 0.05
# Queries and documents, and the rival's mini-batches. Its default, 32, is never its best.
SHAPES = {(256, 1024): (32, 128, 256), (1024, 4096): (32, 256, 1024), (4096, 8192): (1024, 4096)}

Result = tuple[Tensor, Tensor, Tensor]


class Given(nn.Module):
    """Stands where sentence-transformers expects its model, of which the losses ask the size only."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def get_embedding_dimension(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        return iter([self])

    def __getitem__(self, index: int) -> nn.Module:
        return self


def embeddings(queries: int, documents: int, size: int) -> tuple[Tensor, Tensor]:
    """Draw unit vectors; query i is closest to document i."""
    torch.manual_seed(0)
    query_QE, document_DE = F.normalize(torch.randn(queries, size)), F.normalize(torch.randn(documents, size))
    document_DE[:queries] = F.normalize(document_DE[:queries] + query_QE)
    return query_QE, document_DE


def ours(query_QE: Tensor, document_DE: Tensor, dims: list[int]) -> Result:
    """Return the loss and its gradients."""
    query, document = (each.clone().requires_grad_() for each in (query_QE, document_DE))
    loss = matryoshka_info_nce(query, document, temperature=TEMPERATURE, dims=dims, weights=WEIGHTS)
    loss.backward()
    assert query.grad is not None and document.grad is not None
    return loss.detach(), query.grad, document.grad


def rival(query_QE: Tensor, document_DE: Tensor, dims: list[int], mini_batch: int) -> Result:
    """Return the same by sentence-transformers' classes, as its gradient cache calls them."""
    model: Any = Given(query_QE.shape[1])
    inner = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=mini_batch)
    MatryoshkaLoss(model, inner, dims, [weight / sum(WEIGHTS) for weight in WEIGHTS])  # puts itself into `inner`
    columns = (query_QE, *document_DE.split(len(query_QE)))
    parts = [[part.clone().requires_grad_() for part in column.split(mini_batch)] for column in columns]
    loss = inner.calculate_loss(parts, with_backward=True)
    query, *documents = (torch.cat([part.grad for part in column]) for column in parts)
    return loss, query, torch.cat(documents)


def difference(ours: Result, other: Result) -> dict[str, float]:
    """Return the largest differences, as shares of the loss and of the largest gradient."""
    names = ("loss", "queries' gradient", "documents' gradient")
    pairs = zip(names, ours, other, strict=True)
    return {name: float((a.double() - b).abs().max() / b.abs().max()) for name, a, b in pairs}


def peak(name: str, queries: int, documents: int, dims: list[int], mini_batch: int, connection: Any) -> None:
    """Send the MB that a loss took at most, above what was held before."""
    inputs = embeddings(queries, documents, dims[0])
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    resident = _resident("VmHWM")
    ours(*inputs, dims) if name == "ours" else rival(*inputs, dims, mini_batch)
    connection.send(_resident("VmHWM") - resident)


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def memory(name: str, queries: int, documents: int, dims: list[int], mini_batch: int = 0) -> float:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=peak, args=(name, queries, documents, dims, mini_batch, there))
    process.start()
    there.close()
    megabytes = here.recv()
    process.join()
    return round(megabytes, 1)


def race(queries: int, documents: int, dims: list[int], sizes: Sequence[int], runs: int) -> dict[str, Any]:
    """Time a batch with ours and with every mini-batch of the rival, and compare what they give."""
    inputs = embeddings(queries, documents, dims[0])
    calls: dict[str, Callable[[], Result]] = {"ours": partial(ours, *inputs, dims)}
    calls |= {f"mini-batch {size}": partial(rival, *inputs, dims, size) for size in sizes}
    times = interleaved(calls, runs)
    best = min(sizes, key=lambda size: times[f"mini-batch {size}"]["seconds"])
    exact = ours(inputs[0].double(), inputs[1].double(), dims)
    return {
        "times": times,
        "rival's best mini-batch": best,
        "rival / ours": round(times[f"mini-batch {best}"]["seconds"] / times["ours"]["seconds"], 2),
        "rival against ours": difference(rival(*inputs, dims, best), ours(*inputs, dims)),
        "ours against float64": difference(ours(*inputs, dims), exact),
        "rival against float64": difference(rival(*inputs, dims, best), exact),
    }


def measure(shapes: Mapping[tuple[int, int], Sequence[int]], dims: list[int], runs: int) -> dict[str, Any]:
    results = about("python -m benchmarks.loss", "torch", "sentence-transformers")
    results |= {"threads": torch.get_num_threads(), "dims": dims, "products": {}, "peak MB": {}}
    usual = torch.get_float32_matmul_precision()
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        results["products"][precision] = {
            f"{queries}×{documents}": race(queries, documents, dims, sizes, runs)
            for (queries, documents), sizes in shapes.items()
        }
    torch.set_float32_matmul_precision(usual)
    return results


def measure_memory(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the peaks of ours and of the rival at its best mini-batch, for every shape."""
    peaks = {}
    for name, each in next(iter(results["products"].values())).items():
        queries, documents = map(int, name.split("×"))
        shape = (queries, documents, results["dims"])
        peaks[name] = {
            "ours": memory("ours", *shape),
            "rival": memory("rival", *shape, each["rival's best mini-batch"]),
        }
    return peaks


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="tiny, in seconds, without memory; nothing is kept")
    args = parser.parse_args(argv)
    if args.dry:
        results = measure({(8, 32): (4, 8)}, [64, 32, 16, 8], 1)
    else:
        results = measure(SHAPES, DIMS, args.runs)
        results["peak MB"] = measure_memory(results)
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
