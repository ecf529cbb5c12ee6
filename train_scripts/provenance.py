"""What a run was: kept beside its weights as `training.json`, and told by the model's card."""

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from dataset_builders.card import fingerprints
from nyx.models import fingerprint, shown

TRAINING = "training.json"
PACKAGES = ("nyx-retriever", "torch", "transformers", "accelerate", "peft", "datasets")
# Where a run writes and how it reports, what is said elsewhere, and what transformers fills in by itself.
LEFT_OUT = set(
    "output_dir logging_dir run_name dataset model_name_or_path resume hub_token hub_model_id report_to disable_tqdm "
    "accelerator_config dataloader_pin_memory dataloader_drop_last do_eval debug "
    "remove_unused_columns greater_is_better".split()
)
# What may change when a run goes on.
HOW_LONG = set(
    "max_steps num_train_epochs eval_steps save_steps save_total_limit logging_steps patience "
    "micro_batch_tokens graph_tokens".split()
)


def record(stage: str, start: str, dataset: Path, arguments: list[Any]) -> dict[str, Any]:
    """Say what runs: the arguments that aren't the defaults, on what data, from which start, where, with what.

    A start that was trained here brings its own record along.
    """
    before = Path(start) / TRAINING
    origin = {"name": shown(start), "sha256": fingerprint(start)[:16] if Path(start).is_dir() else None}
    return {
        "stage": stage,
        "start": origin | ({"training": json.loads(before.read_text())} if before.is_file() else {}),
        "dataset": {"name": shown(dataset), "sha256": fingerprints(dataset)},
        "arguments": {name: value for each in arguments for name, value in _changed(each)},
        "hardware": hardware(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "commit": commit(),
    }


def write_record(output: Path, about: dict[str, Any]) -> None:
    """Keep a record beside the weights: when the run begins, and again, with what came of it, when it ends."""
    output.mkdir(parents=True, exist_ok=True)
    aside = output / f".{TRAINING}.partial"
    aside.write_text(json.dumps(about, indent=1) + "\n")
    aside.replace(output / TRAINING)


def refuse_another_run(output: Path, about: dict[str, Any]) -> None:
    """Raise `ValueError` if a folder's checkpoints are of a run with other data, another start or other arguments.

    How long to train and how often to look may change, and what is added to the dataset.
    """
    path = output / TRAINING
    if not path.is_file():
        return
    old, new = json.loads(path.read_text()), json.loads(json.dumps(about))
    differ = [name for name in ("stage", "start") if old[name] != new[name]]
    if "processes" in old and old["processes"] != new["processes"]:
        differ.append(f"processes were {old['processes']}, are {new['processes']}")
    before, today = old["dataset"], new["dataset"]
    if before["name"] != today["name"] or not before["sha256"].items() <= today["sha256"].items():
        differ.append("dataset")
    was, now = old["arguments"], new["arguments"]
    for name in sorted((was.keys() | now.keys()) - HOW_LONG):
        if was.get(name) != now.get(name):
            differ.append(f"{name} was {was.get(name)}, is {now.get(name)}")
    if differ:
        raise ValueError(
            f"{output} holds checkpoints of another run: {'; '.join(differ)}. Name another --output_dir, or start "
            "anew with --resume false."
        )


def hardware() -> str:
    """Name the accelerators, or say how many cores the CPU has."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} CPU cores, {platform.machine()}"


def commit() -> str | None:
    """Return the commit of the checkout that this file is in, marked if files differ from it; None outside of one.

    What benchmarks write may differ: one that follows another runs the same code.
    """
    try:
        # An environment may lie in another project's checkout.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = _git("status", "--porcelain", "--untracked-files=no", ":/", ":(top,exclude)benchmarks/results")
        return _git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def _changed(arguments: Any) -> Iterator[tuple[str, Any]]:
    """Yield a dataclass' fields that differ from their defaults, as they were given."""
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments) if field.init}
    if isinstance(arguments, TrainingArguments):
        # One training step takes all contrastive batches of an update.
        batches = given.pop("contrastive_batches")
        given["gradient_accumulation_steps"] = batches
        given["per_device_train_batch_size"] //= batches
    for field in dataclasses.fields(arguments):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        value = given.get(field.name, default)
        filled_in = default is None and not value
        if field.name not in LEFT_OUT and value != default and not filled_in:
            yield field.name, value if isinstance(value, (bool, int, float, str, list, dict)) else str(value)
