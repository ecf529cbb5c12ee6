"""The shape of Qwen2.5-VL-3B with random weights, on one GPU: encoding, a step of stage 1, a launch under ZeRO-2.

    python -m benchmarks.gpu            # under ten minutes
    python -m benchmarks.gpu --dry      # tiny, on the CPU; nothing is kept

Encoding, preprocessing included, is held against transformers' own model on padded batches with SDPA, in the order
given, and against sentence-transformers where it and torchvision are installed, each at the best of three batch sizes.
Ours is the median of three runs, a rival's time one run's. The step is the paper's recipe: 20 examples a device, LoRA,
pictures up to the cap of 400 tokens. The launch under ZeRO-2 trains a tiny model, on as many GPUs as there are. What
was measured is kept at once.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5_VLModel

from benchmarks.encode import linear_flops, matrix_rate
from benchmarks.encode_case import document, documents, write_checkpoint
from benchmarks.measure import about, interleaved, seconds_of
from benchmarks.train_step import contents_of, peak, quiet, step
from dataset_builders.schema import Example, write_records
from modeling_nyx import NyxModel
from modeling_nyx.content_nyx import Content
from modeling_nyx.encode_nyx import TOKENS
from modeling_nyx.modeling_nyx import last_token_embeddings
from modeling_nyx.rows_nyx import Row, group_by_tokens
from nyx.messages import to_messages
from nyx.models import native_dtype
from train_scripts import stage1
from train_scripts.arguments import RECIPES
from train_scripts.cost import TEXT, VISION
from train_scripts.fit import prepare_model
from train_scripts.trainer import NyxTrainer

RESULTS = Path(__file__).parent / "results" / "gpu.json"
BATCH_SIZES = (8, 32, 128)  # of the rivals
FEW = 8  # contents whose vectors are compared
DTYPE = native_dtype()  # bfloat16 on the GPUs this is for
ROOT = Path(__file__).parents[1]
ALL = 1_000_000_000
UNCHECKPOINTED = "--gradient_checkpointing false".split()


def _tokens(micro_batch: int, graphs: int) -> list[str]:
    return ["--micro_batch_tokens", str(micro_batch), "--graph_tokens", str(graphs)]


# How a step of the recipe is made: all in one pass, in several whose graphs are kept, and by the gradient cache.
STEPS = {
    "one pass": _tokens(ALL, ALL),
    "micro-batches of 8192 tokens": _tokens(8192, ALL),
    "micro-batches of 8192 tokens, embedded twice": _tokens(8192, 0),
    "micro-batches of 2048 tokens, embedded twice, no checkpointing": [*UNCHECKPOINTED, *_tokens(2048, 0)],
    "one pass, no checkpointing": [*UNCHECKPOINTED, *_tokens(ALL, ALL)],
}
SMALL = "--per_device_train_batch_size 2 --matryoshka_dimensions 64 16 --matryoshka_weights 1 0.2".split()
ON_CPU = "--use_cpu true".split()


def padded(model: Any, processor: Any, contents: Sequence[Content], batch_size: int) -> np.ndarray:
    """Encode as one would with transformers alone: padded batches in the order given."""
    parts = []
    for start in range(0, len(contents), batch_size):
        batch = processor(contents[start : start + batch_size]).to(model.device)
        with torch.no_grad():
            parts.append(last_token_embeddings(model(**batch).last_hidden_state, batch).cpu().numpy())
    return np.concatenate(parts)


def best(encode: Callable[[Sequence[Content], int], Any], contents: Sequence[Content]) -> dict[str, Any]:
    """Time a rival at several batch sizes, once each after a batch that isn't timed."""
    tried: dict[int, float | None] = {}
    for size in BATCH_SIZES:
        try:
            encode(contents[:size], size)
            tried[size] = round(seconds_of(partial(encode, contents, size)), 3)
        except torch.OutOfMemoryError:
            tried[size] = None
    fits = {size: seconds for size, seconds in tried.items() if seconds is not None}
    size = min(fits, key=fits.__getitem__)
    return {"seconds": fits[size], "batch size": size, "by batch size": tried}


def embed_all(model: Any, rows: Sequence[Row]) -> Callable[[], None]:
    """Prepare everything on the device; returns what embeds it, as `encode_documents` does by itself."""
    groups = group_by_tokens([len(row.ids) for row in rows], TOKENS)
    batches = [model.processor.pack_rows([rows[index] for index in group]).to(model.device) for group in groups]

    @torch.no_grad()
    def embed() -> None:
        for batch in batches:
            model.embed(batch, {}).cpu()

    return embed


def encode_ours(folder: Path, device: str, contents: list[Content], runs: int) -> tuple[dict[str, Any], np.ndarray]:
    """Time ours; returns the figures, and the embeddings."""
    model: Any = NyxModel.from_pretrained(folder, dtype=DTYPE).to(device).eval()
    rate = matrix_rate(DTYPE, 8192 if device == "cuda" else 512, device)
    rows = model.processor.rows(contents)
    tokens = sum(len(row.ids) for row in rows)
    calls: dict[str, Callable[[], Any]] = {
        "whole": partial(model.encode_documents, contents),
        "device": embed_all(model, rows),
    }
    times = {name: each["seconds"] for name, each in interleaved(calls, runs).items()}
    vectors = model.encode_documents(contents)
    alone = np.concatenate([model.encode_documents([content]) for content in contents[:FEW]])
    report = {
        "matrix TFLOP/s": round(rate / 1e12, 1),
        "tokens": tokens,
        "patches": sum(height * width for row in rows for height, width in row.grids),
        "seconds": times["whole"],
        "seconds on the device": times["device"],
        "documents/s": round(len(contents) / times["whole"], 2),
        "tokens/s": round(tokens / times["whole"]),
        "share of the matrix rate": round(linear_flops(model, rows) / times["whole"] / rate, 3),
        "least cosine with the same content alone": float((vectors[:FEW] * alone).sum(1).min()),
    }
    return report, vectors


def encode_padded(folder: Path, device: str, contents: list[Content]) -> tuple[dict[str, Any], np.ndarray]:
    """Time transformers' own model; returns the figures, and the embeddings of the first few contents."""
    model: Any = Qwen2_5_VLModel.from_pretrained(folder, dtype=DTYPE, attn_implementation="sdpa")
    encode = partial(padded, model.to(device).eval(), NyxModel.processor_class.from_pretrained(folder))
    return best(encode, contents), encode(contents[:FEW], FEW)


def encode_sentence_transformers(folder: Path, device: str, contents: list[Content]) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": DTYPE})

    def encode(some: Sequence[Content], size: int) -> Any:
        return model.encode_document([to_messages(content) for content in some], batch_size=size)

    return best(encode, contents)


def measure_encoding(folder: Path, device: str, count: int, runs: int) -> dict[str, Any]:
    """Time ours and the rivals on the same contents."""
    contents = documents(count)
    ours, vectors = encode_ours(folder, device, contents, runs)
    free()
    rival, theirs = encode_padded(folder, device, contents)
    free()
    report: dict[str, Any] = {"documents": count, "ours": ours, "transformers": rival}
    report["least cosine with transformers"] = float((vectors[:FEW] * theirs).sum(1).min())
    if find_spec("sentence_transformers") and find_spec("torchvision"):
        report["sentence-transformers"] = encode_sentence_transformers(folder, device, contents)
        free()
    for name in ("transformers", "sentence-transformers"):
        if name in report:
            report[name]["ours is times as fast"] = round(report[name]["seconds"] / ours["seconds"], 2)
    return report


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def examples(count: int, dry: bool) -> list[Example]:
    """Make examples of long pages with pictures at the cap, and questions, every other with a picture."""
    random, side = np.random.default_rng(0), 84 if dry else 560
    pages = [document(random, 200, 1, side) for _ in range(2 * count)]
    return [
        Example(str(index), document(random, 15, index % 2, side), [pages[index]], [pages[count + index]])
        for index in range(count)
    ]


def paper_arguments(folder: Path, output: Path, options: list[str]) -> list[str]:
    """Say the paper's recipe, for a few steps."""
    recipe = ["--config", str(RECIPES / "paper" / "stage1.yaml"), "--model_name_or_path", str(folder)]
    recipe += ["--query_instruction", ""]  # the checkpoint brings its own
    short = "--gradient_accumulation_steps 1 --max_steps 1 --eval_strategy no --save_strategy no".split()
    short += "--load_best_model_at_end false --logging_steps 1 --disable_tqdm true".split()
    return [*recipe, *short, "--output_dir", str(output), *options]


def measure_step(folder: Path, output: Path, options: list[str], dry: bool, runs: int) -> dict[str, Any]:
    """Time a step of the recipe; memory is the GPU's, or the process's on a CPU."""
    small = [*SMALL, *ON_CPU] if dry else []
    data, arguments, adapter = stage1.parse(paper_arguments(folder, output, [*small, *options]), "stage1")
    model = prepare_model(str(folder), data, arguments, adapter)
    batch = examples(arguments.train_batch_size, dry)
    trainer: Any = quiet(NyxTrainer(model, arguments, train_dataset=batch))
    size = contents_of(batch, trainer.encoder.processor)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        step(trainer)
        taken = [round(step(trainer), 3) for _ in range(runs)]
    except torch.OutOfMemoryError:
        return size | {"out of memory": True}
    finally:
        del model, trainer
        free()
    memory = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak()
    took = {"median seconds": statistics.median(taken), "seconds": taken}
    return size | took | {"peak memory, GiB": round(memory / 1024, 2)}


def launch_zero2(temporary: Path, dry: bool) -> dict[str, Any]:
    """Launch the recipe with a tiny model, as one would, with as many processes as GPUs (two on a CPU)."""
    processes = torch.cuda.device_count() or 2
    folder = write_checkpoint(temporary / "tiny", tiny=True)
    write_records(examples(2 * processes, dry=True), temporary / "nyxqa" / "triplets" / "train.parquet")
    launch = "launch --use_deepspeed --zero_stage 2 --mixed_precision bf16 --num_processes".split()
    command = [Path(sys.executable).with_name("accelerate"), *launch, processes, "--main_process_port", 29717]
    command += [ROOT / "train_scripts" / "stage1.py", *paper_arguments(folder, temporary / "zero2", SMALL)]
    command += ["--dataset", temporary / "nyxqa", "--max_steps", 2, *(ON_CPU if dry else [])]
    environment = os.environ | ({"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"} if dry else {})
    run = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"The launch under ZeRO-2 failed: {run.stderr[-3000:]}")
    told = json.loads((temporary / "zero2" / "training.json").read_text())
    return {"processes": told["processes"], "steps": told["steps"], "seconds": told["seconds"]}


def measure(temporary: Path, dry: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure one thing after the other, and keep what there is after each."""
    device, runs = ("cpu", 1) if dry else ("cuda", 3)
    packages = ("torch", "transformers", "sentence_transformers")
    results = about("python -m benchmarks.gpu", *(name for name in packages if find_spec(name)))
    results["device"] = platform.machine() if dry else torch.cuda.get_device_name()
    folder = temporary / "model"
    if dry:
        write_checkpoint(folder, tiny=True)
    else:
        write_checkpoint(folder, shape=(TEXT["Qwen2.5-VL-3B"], VISION), dtype=DTYPE, device=device)
    results["encode"] = measure_encoding(folder, device, 6 if dry else 128, runs)
    keep(results)
    results["ZeRO-2"] = launch_zero2(temporary, dry)
    keep(results)
    results["stage 1 step"] = {}
    for name, options in STEPS.items():
        results["stage 1 step"][name] = measure_step(folder, temporary / "out", options, dry, runs - 1 or 1)
        keep(results)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU; nothing is kept")
    args = parser.parse_args(argv)
    if not args.dry and not torch.cuda.is_available():
        parser.error("no GPU is there; --dry shows on a CPU what it does")

    def keep(results: dict[str, Any]) -> None:
        if not args.dry:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as temporary:
        results = measure(Path(temporary), args.dry, keep)
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
