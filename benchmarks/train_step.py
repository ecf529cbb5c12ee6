"""An update of contrastive training, against sentence-transformers' gradient cache: time, memory, loss, gradients.

    make bench-env && .venv-bench/bin/python -m benchmarks.train_step       # 75 minutes on two cores, 50 with bf16
    python -m benchmarks.train_step --dry                                   # ours alone, tiny, in seconds

Rival: `MatryoshkaLoss(CachedMultipleNegativesRankingLoss)` in `SentenceTransformerTrainer`, on the same checkpoint,
the same triplets of mixed contents (no picture and no document occurs twice), in the same precision (bf16 autocast
where the CPU has it, else float32), at whichever of its mini-batch sizes is fastest. Either side's own trainer runs:
making inputs, the gradient and the optimizer are in the time. Memory is the peak of a process of its own that trains
for one step.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback

from benchmarks.encode_case import document, picture, write_checkpoint
from benchmarks.measure import about, in_turn
from dataset_builders.schema import Example
from modeling_nyx import NyxModel
from nyx.messages import to_messages
from nyx.models import native_dtype
from train_scripts.trainer import NyxTrainer, NyxTrainingArguments

RESULTS = Path(__file__).parent / "results" / "train_step.json"
DIMS, WEIGHTS, TEMPERATURE = [512, 256, 128, 64], [0.4, 0.3, 0.2, 0.1], 0.05
MINI_BATCHES = (1, 4, 16)
BF16 = native_dtype() == torch.bfloat16  # what a CPU emulates, nobody trains in
SIDES = [252, 336, 420]  # of pictures that neither side's processor has to resize
# Ours: its defaults, and with the memory to compute nothing twice.
OURS: dict[str, dict[str, Any]] = {"ours": {}, "ours, graphs kept": {"graph_tokens": 16384}}


def triplets(count: int) -> list[Example]:
    """Make examples: a query of 15 words, every other with a picture, and two documents as `encode_case` has them."""
    random = np.random.default_rng(0)
    pages = [[document(random, 62, (index + shift) % 5, 337) for index in range(count)] for shift in (0, 2)]
    queries = [document(random, 15, index % 2, 337) for index in range(count)]
    return [Example(str(index), queries[index], [pages[0][index]], [pages[1][index]]) for index in range(count)]


def unresized(count: int) -> list[Example]:
    """Make examples whose pictures have the size they are looked at in, so that both sides see the same pixels."""
    random = np.random.default_rng(1)

    def content() -> list[dict[str, Any]]:
        width, height = (int(side) for side in random.choice(SIDES, 2))
        (words,) = document(random, 20, 0, 0)
        return [words, {"type": "image", "image": picture(width, height, random)}]

    return [Example(str(index), content(), [content()], [content()]) for index in range(count)]


class Stopwatch(TrainerCallback):
    """Takes the time from before the first batch is made to after the last step."""

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self.started


def step(trainer: Trainer) -> float:
    """Train for a step; returns its seconds."""
    watch = Stopwatch()
    trainer.add_callback(watch)
    trainer.train()
    trainer.remove_callback(watch)
    return watch.seconds


def settings(folder: Path, count: int, bf16: bool) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": count,
        "max_steps": 1,
        "learning_rate": 1e-5,
        "max_grad_norm": 0.0,  # gradients are compared as they come
        "lr_scheduler_type": "constant",
        "bf16": bf16,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }


def our_trainer(folder: Path, examples: list[Example], frozen: bool, bf16: bool = BF16, **options: Any) -> Trainer:
    model = NyxModel.from_pretrained(folder)
    model.visual.requires_grad_(not frozen)
    arguments = NyxTrainingArguments(
        temperature=TEMPERATURE,
        matryoshka_dimensions=[dim for dim in DIMS if dim <= model.config.text_config.hidden_size],
        matryoshka_weights=WEIGHTS[-sum(dim <= model.config.text_config.hidden_size for dim in DIMS) :],
        **settings(folder, len(examples), bf16),
        **options,
    )
    return quiet(NyxTrainer(model, arguments, train_dataset=examples))


def rival_trainer(folder: Path, examples: list[Example], frozen: bool, mini_batch: int, bf16: bool = BF16) -> Trainer:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
    from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments

    model: Any = SentenceTransformer(str(folder), device="cpu")
    model[0].model.visual.requires_grad_(not frozen)
    cached = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=mini_batch)
    data = Dataset.from_dict({name: list(range(len(examples))) for name in ("anchor", "positive", "negative")})

    def contents(rows: dict[str, list[int]]) -> dict[str, list[Any]]:
        found = [examples[index] for index in rows["anchor"]]
        return {
            "anchor": [to_messages(each.query) for each in found],
            "positive": [to_messages(each.positives[0]) for each in found],
            "negative": [to_messages(each.negatives[0]) for each in found],
        }

    data.set_transform(contents)
    arguments = SentenceTransformerTrainingArguments(
        **settings(folder, len(examples), bf16), prompts={"anchor": model.prompts["query"]}
    )
    loss = MatryoshkaLoss(model, cached, DIMS, WEIGHTS)
    return quiet(SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss))


def quiet(trainer: Any) -> Trainer:
    trainer.remove_callback(PrinterCallback)
    return trainer


class Gradients(TrainerCallback):
    """Keeps a model's gradients as the optimizer gets them."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.found = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}


def loss_and_gradients(trainer: Trainer, model: Any) -> tuple[float, dict[str, Tensor]]:
    """Train for a step; returns its loss and gradients."""
    gradients = Gradients(model)
    trainer.add_callback(gradients)
    return trainer.train().training_loss, gradients.found


def compare_gradients(folder: Path) -> dict[str, float]:
    """Compute both sides' loss and gradients in float32, on the same pixels."""
    examples = unresized(4)
    ours = our_trainer(folder, examples, frozen=False, bf16=False, micro_batch_tokens=512, graph_tokens=1024)
    rival: Any = rival_trainer(folder, examples, frozen=False, mini_batch=4, bf16=False)
    our_loss, our_gradients = loss_and_gradients(ours, ours.model)
    their_loss, their_gradients = loss_and_gradients(rival, rival.model[0].model)
    assert our_gradients.keys() == their_gradients.keys()
    size = max(float(gradient.norm()) for gradient in their_gradients.values())
    apart = max(float((our_gradients[name] - each).norm()) for name, each in their_gradients.items())
    return {"loss": our_loss, "loss difference": abs(our_loss - their_loss), "gradient difference": apart / size}


def race(folder: Path, examples: list[Example], frozen: bool, runs: int, rivals: bool) -> dict[str, Any]:
    """Time steps of all sides in turns."""
    trainers = {name: our_trainer(folder, examples, frozen, **options) for name, options in OURS.items()}
    report: dict[str, Any] = {}
    if rivals:
        few = examples[:16]
        tried = {size: best_of_two(rival_trainer(folder, few, frozen, size)) for size in MINI_BATCHES}
        best = min(tried, key=tried.__getitem__)
        report = {"rival's seconds at 16 triplets by mini-batch": tried, "rival's mini-batch": best}
        trainers["rival"] = rival_trainer(folder, examples, frozen, best)
    report |= in_turn({name: partial(step, trainer) for name, trainer in trainers.items()}, runs)
    for name in OURS if rivals else ():
        report[name]["times as fast"] = round(report["rival"]["seconds"] / report[name]["seconds"], 2)
    return report


def best_of_two(trainer: Trainer) -> float:
    return round(min(step(trainer), step(trainer)), 2)


def memory(folder: Path, side: str, count: int, frozen: bool, **options: int) -> dict[str, float]:
    """Train for a step in a process of its own; returns its peak memory, before the step and over all, in MB."""
    task = {"folder": str(folder), "side": side, "count": count, "frozen": frozen, "options": options}
    command = [sys.executable, "-m", "benchmarks.train_step", "--task", json.dumps(task)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"{task} failed: {run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def run_task(task: dict[str, Any]) -> None:
    make = our_trainer if task["side"] == "ours" else rival_trainer
    trainer = make(Path(task["folder"]), triplets(task["count"]), task["frozen"], **task["options"])
    before = peak()
    seconds = step(trainer)
    print(json.dumps({"before": before, "peak": peak(), "seconds": round(seconds, 2)}))  # noqa: T201


def peak() -> float:
    """Return the peak memory of this process; what `getrusage` says begins with the parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def memory_curve(folder: Path, counts: Sequence[int], frozen: bool, rival: int | None) -> dict[str, dict[int, Any]]:
    """Measure peak memory against the contrastive batch; of the others (`rival`'s mini-batch) for few."""
    curve = {"ours": {count: memory(folder, "ours", count, frozen) for count in counts}}
    if rival is not None:
        few, kept = counts[:2], "ours, graphs kept"
        curve[kept] = {count: memory(folder, "ours", count, frozen, **OURS[kept]) for count in few}
        curve["rival"] = {count: memory(folder, "rival", count, frozen, mini_batch=rival) for count in few}
    return curve


def plot(curves: dict[str, Any], path: Path) -> None:
    """Draw peak memory against the contrastive batch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for vision, sides in curves.items():
        for name, by_count in sides.items():
            peaks = [each["peak"] / 1024 for each in by_count.values()]
            axes.plot([int(count) for count in by_count], peaks, marker="o", label=f"{name}, vision {vision}")
    axes.set(xlabel="triplets in a contrastive batch", ylabel="peak memory, GiB", xscale="log", ylim=0)
    axes.set_xticks([int(count) for count in next(iter(next(iter(curves.values())).values()))])
    axes.get_xaxis().set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def contents_of(batch: list[Example], processor: Any) -> dict[str, int]:
    """Count what a step reads."""
    documents = [content for each in batch for content in (each.positives[0], each.negatives[0])]
    rows = processor.rows([each.query for each in batch], "query") + processor.rows(documents)
    return {
        "contents": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "patches": sum(height * width for row in rows for height, width in row.grids),
    }


def measure(folder: Path, count: int, runs: int, counts: Sequence[int], rivals: bool) -> dict[str, Any]:
    examples = triplets(count)
    results = about("python -m benchmarks.train_step", "torch", "transformers", "sentence-transformers")
    results |= {"threads": torch.get_num_threads(), "bf16": BF16} | contents_of(
        examples, NyxModel.from_pretrained(folder).processor
    )
    if rivals:
        results["the same in float32"] = compare_gradients(folder)
    states = {"trained": False, "frozen": True}
    results["steps"] = {name: race(folder, examples, frozen, runs, rivals) for name, frozen in states.items()}
    sys.stderr.write(json.dumps(results) + "\n")  # what took long is told before what takes long
    results["memory"] = {
        name: memory_curve(folder, counts, frozen, results["steps"][name].get("rival's mini-batch"))
        for name, frozen in states.items()
    }
    return results


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=16, help="triplets in a timed batch")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="ours alone, tiny, nothing is kept")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.task:
        run_task(args.task)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_checkpoint(Path(temporary) / "model", tiny=args.dry)
        output = Path(temporary) if args.dry else RESULTS.parent
        count, runs, counts = (4, 1, (2,)) if args.dry else (args.count, args.runs, (16, 64, 512))
        results = measure(folder, count, runs, counts, rivals=not args.dry)
        plot(results["memory"], output / "train_step_memory.png")
        (output / RESULTS.name).write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
