"""How fast mixed documents are encoded, beside sentence-transformers on the same checkpoint, contents and cores.

    make bench-env
    .venv-bench/bin/python -m benchmarks.encode          # about 25 minutes on two idle cores
    .venv/bin/python -m benchmarks.encode --dry          # ours alone on a tiny model, in seconds

The rival is `SentenceTransformer.encode` at its best batch size of 1, 8, 16, 32 in the same dtype (bfloat16 where the
CPU has it, else float32), and with its full defaults. Reading and resizing the pictures is part of every run.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.encode_case import documents, write_checkpoint
from benchmarks.measure import about, interleaved, seconds_of
from modeling_nyx import NyxModel
from modeling_nyx.content_nyx import Content
from modeling_nyx.encode_nyx import TOKENS_ON_CPU
from modeling_nyx.rows_nyx import Row, filler, group_by_tokens
from modeling_nyx.workers_nyx import in_threads
from nyx.models import native_dtype

RESULTS = Path(__file__).parent / "results" / "encode.json"
BATCH_SIZES = (1, 8, 16, 32)
DEFAULT = "float32, batch 32"
DTYPE = native_dtype()
PRECISION = str(DTYPE).removeprefix("torch.")
ONE = f"{PRECISION}, batch 1"  # its best on the machines tried
Runs = dict[str, Callable[[], Any]]


def rival(folder: Path, dtype: torch.dtype, batch_size: int) -> Callable[[Sequence[Content]], np.ndarray]:
    """Return sentence-transformers' `encode_document` of a checkpoint by its stock classes."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype})

    def encode(contents: Sequence[Content]) -> np.ndarray:
        messages = [[{"role": "user", "content": content}] for content in contents]
        vectors = model.encode_document(messages, batch_size=batch_size, convert_to_tensor=True)
        return vectors.float().numpy()

    return encode


def as_files(contents: Sequence[Content], folder: Path) -> list[Content]:
    """Write the pictures of contents to files, which both sides read themselves."""
    folder.mkdir(parents=True)
    paths: dict[bytes, str] = {}

    def on_disk(item: dict[str, Any]) -> dict[str, Any]:
        if item["type"] == "text":
            return item
        path = paths.setdefault(item["image"], str(folder / f"{len(paths)}.jpg"))
        Path(path).write_bytes(item["image"])
        return {"type": "image", "image": path}

    return [[on_disk(item) for item in content] for content in contents]


def repeated(contents: Sequence[Content], different: int) -> list[Content]:
    """Put a few pictures into the place of all, over and over."""
    pictures = [item for content in contents for item in content if item["type"] == "image"]
    left = (pictures[number % different] for number in range(len(pictures)))
    return [[item if item["type"] == "text" else next(left) for item in content] for content in contents]


def linear_flops(model: NyxModel, rows: Sequence[Row]) -> float:
    """Count the floating-point operations of the linear layers on the tokens and patches that there are."""
    tokens = sum(len(row.ids) for row in rows)
    patches = sum(height * width for row in rows for height, width in row.grids)

    def weights(part: Any) -> int:
        return sum(each.weight.numel() for each in part.modules() if isinstance(each, torch.nn.Linear))

    tower = weights(model.visual.blocks) + model.visual.patch_embed.proj.weight.numel()
    merged = weights(model.visual.merger) / model.config.vision_config.spatial_merge_size**2
    return 2.0 * (tokens * weights(model.language_model) + patches * (tower + merged))


def matrix_rate(dtype: torch.dtype, size: int = 2048, device: str = "cpu") -> float:
    """Measure what the machine makes of one large product, in floating-point operations a second."""
    left, right = (torch.randn(size, size).to(device, dtype) for _ in range(2))

    def multiply() -> None:
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()

    return 2.0 * size**3 / min(seconds_of(multiply) for _ in range(10))


def grouped(model: NyxModel, contents: Sequence[Content]) -> list[list[Row]]:
    """Return an encoding's groups of rows."""
    rows = model.processor.rows(contents)
    return [[rows[i] for i in group] for group in group_by_tokens([len(row.ids) for row in rows], TOKENS_ON_CPU)]


def stages(model: NyxModel, contents: Sequence[Content], workers: int) -> Runs:
    """Return runs of preparing alone and of the forward passes alone, in the groups and workers of an encoding."""
    groups = grouped(model, contents)
    packed = [model.processor.pack_rows([filler(group), *group]) for group in groups]

    def prepare(group: Sequence[Row]) -> None:
        model.processor.pack_rows(group)

    def prepare_all() -> None:
        model.processor.rows(contents)
        list(in_threads(prepare, groups, workers))

    @torch.no_grad()
    def forward(batch: Any) -> None:
        model.embed(batch, {})

    return {"preprocess": prepare_all, "forward": lambda: list(in_threads(forward, packed, workers))}


@torch.no_grad()
def profile(model: NyxModel, contents: Sequence[Content]) -> dict[str, float]:
    """Return the shares of the forward passes' time on one thread by operation, the largest first, from 1 % on."""
    packed = [model.processor.pack_rows([filler(group), *group]) for group in grouped(model, contents)]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model.embed(packed[0], {})
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for batch in packed:
            model.embed(batch, {})
    torch.set_num_threads(before)
    taken = {each.key: each.self_cpu_time_total for each in profiler.key_averages()}
    every = sum(taken.values())
    largest = sorted(taken, key=taken.__getitem__, reverse=True)
    return {name: round(taken[name] / every, 3) for name in largest if taken[name] >= 0.01 * every}


def scaling(model: NyxModel, folder: Path, base: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure documents a second against the size of the corpus, text, pictures, and cores."""
    sizes = (base // 4, base, base * 4)
    corpora = {
        "documents": {size: documents(size, 1) for size in sizes},
        "words per document": {words: documents(base, 2, words=words) for words in (15, 60, 240)},
        "pictures per document": {count: documents(base, 3, pictures=count) for count in (0, 1, 2, 4, 8)},
    }
    curves: dict[str, dict[str, float]] = {}
    for name, cases in corpora.items():
        curves[name] = {}
        for value, contents in cases.items():
            files = as_files(contents, folder / f"{name} {value}")
            seconds = interleaved({"ours": partial(model.encode_documents, files)}, rounds)["ours"]["seconds"]
            curves[name][str(value)] = round(len(files) / seconds, 2)
    files = as_files(documents(base, 4), folder / "processes")
    taken = interleaved({str(count): partial(_on_cores, model, files, count) for count in (1, 2)}, rounds)
    curves["cores"] = {count: round(len(files) / each["seconds"], 2) for count, each in taken.items()}
    return curves


def _on_cores(model: NyxModel, contents: Sequence[Content], count: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    model.encode_documents(contents)
    torch.set_num_threads(before)


def plot(curves: dict[str, dict[str, float]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(3 * len(curves), 2.8), layout="constrained")
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        axis.plot([float(value) for value in curve], list(curve.values()), marker="o")
        axis.set(xlabel=name, ylabel="documents/s", ylim=(0, None))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def compare(model: NyxModel, folder: Path, contents: list[Content], rounds: int) -> dict[str, Any]:
    """Time ours and the rival's on the same files, each at its best, and hold their vectors against each other."""
    ours = model.encode_documents
    native = {size: f"{PRECISION}, batch {size}" for size in BATCH_SIZES}
    theirs = {name: rival(folder, DTYPE, size) for size, name in native.items()}
    theirs[DEFAULT] = rival(folder, torch.float32, 32)
    again = repeated(contents, 8)
    runs: Runs = {"ours": partial(ours, contents), **{name: partial(run, contents) for name, run in theirs.items()}}
    runs |= {"ours, repeated": partial(ours, again), "rival, repeated": partial(theirs[ONE], again)}
    taken = interleaved(runs, rounds)
    best = min(native.values(), key=lambda name: taken[name]["seconds"])
    seconds = {name: each["seconds"] for name, each in taken.items()}
    return {
        "seconds": taken,
        "rival's best": best,
        "ratio to its best": round(seconds[best] / seconds["ours"], 2),
        "ratio to its full defaults": round(seconds[DEFAULT] / seconds["ours"], 2),
        "ratio, repeated pictures": round(seconds["rival, repeated"] / seconds["ours, repeated"], 2),
        "smallest cosine between both": round(float((ours(contents) * theirs[ONE](contents)).sum(1).min()), 5),
        "rival, batch 32 against alone": float(np.abs(theirs[native[32]](contents) - theirs[ONE](contents)).max()),
    }


def measure(folder: Path, dry: bool, rounds: int) -> dict[str, Any]:
    checkpoint = write_checkpoint(folder / "model", tiny=dry)
    model = NyxModel.from_pretrained(checkpoint, dtype=DTYPE).eval()
    contents = as_files(documents(6 if dry else 64), folder / "pictures")
    rows, workers = model.processor.rows(contents), torch.get_num_threads()
    flops = linear_flops(model, rows)
    report: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "documents": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "pictures": sum(len(row.grids) for row in rows),
        "patches": sum(height * width for row in rows for height, width in row.grids),
        "linear GFLOP": round(flops / 1e9, 1),
    }
    alone = np.concatenate([model.encode_documents([content]) for content in contents])
    report["ours, together against alone"] = float(np.abs(model.encode_documents(contents) - alone).max())
    if not dry:
        report |= compare(model, checkpoint, contents, rounds)
    parts = interleaved(
        {"encode": partial(model.encode_documents, contents), **stages(model, contents, workers)}, rounds
    )
    rate = matrix_rate(DTYPE)
    seconds = {name: each["seconds"] for name, each in parts.items()}
    return report | {
        "parts": parts,
        "documents per second": round(len(rows) / seconds["encode"], 2),
        "tokens per second": round(report["tokens"] / seconds["encode"], 1),
        f"{PRECISION} matrix GFLOP/s of the machine": round(rate / 1e9, 1),
        "share of it": round(flops / seconds["encode"] / rate, 3),
        "encode / max(preprocess, forward)": round(
            seconds["encode"] / max(seconds["preprocess"], seconds["forward"]), 3
        ),
        "shares of the forward passes": profile(model, contents),
        "documents per second against": scaling(model, folder / "scaling", 4 if dry else 64, 1 if dry else 3),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="a tiny model, without the rival")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, help="where results go: benchmarks/results/encode.json unless dry")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), args.dry, args.rounds)
    command = "python -m benchmarks.encode" + (" --dry" if args.dry else "")
    packages = ("torch", "transformers", "sentence-transformers", "pillow")
    text = json.dumps(about(command, *packages) | {"threads": args.threads} | report, indent=1)
    print(text)  # noqa: T201
    output = args.output or (None if args.dry else RESULTS)
    if output:
        output.write_text(text + "\n")
        plot(report["documents per second against"], output.with_suffix(".png"))


if __name__ == "__main__":
    main()
