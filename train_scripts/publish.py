"""Publish a model, a dataset or the demo: build the folder, load it back, upload it.

nyx publish model runs/demo/stage2 org/nyx
nyx publish dataset runs/demo/nyxqa org/nyxqa
nyx publish space space org/nyx-demo
"""

import json
import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import RepoCard
from huggingface_hub.constants import ENDPOINT

from dataset_builders.card import CARD, STEPS, card_text, data_files
from nyx.models import ENCODERS
from train_scripts.load_back import load_back
from train_scripts.model_card import model_card
from train_scripts.upload import Kind, check_name, reach, upload

# What a model's folder may hold for its loaders: weights without pickles, settings, templates, its own code.
MODEL_FILES = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*_nyx.py",
    "merges.txt",
    "1_Pooling/*.json",
    "2_Normalize/*.json",
)
SPACE_FILES = (".py", ".md", ".txt", ".css", ".js", ".jpg")
THUMBNAIL = "thumbnail.jpg"


def publish(
    kind: Kind,
    folder: Path,
    name: str,
    *,
    dry_run: bool = False,
    private: bool = False,
    revision: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Build, check and upload; returns what to tell the user: the files, then the card or the address.

    Raises `ValueError` when the folder isn't of that kind or doesn't load back, and `OSError` when the Hub doesn't
    take it. With `dry_run` nothing leaves the machine.
    """
    check_name(name)
    if not dry_run:
        reach(kind, name)
    with tempfile.TemporaryDirectory(prefix="nyx-publish-") as aside:
        staged = Path(aside)
        STAGE[kind](folder, name, staged)
        load_back(kind, staged)
        files = sorted(path for path in staged.rglob("*") if path.is_file())
        told = [f"{path.stat().st_size:>12,} {path.relative_to(staged).as_posix()}" for path in files]
        if dry_run:
            return [*told, "", (staged / CARD).read_text()]
        address = upload(staged, kind, name, private=private, revision=revision, overwrite=overwrite)
        return [*told, address]


def stage_model(folder: Path, name: str, staged: Path) -> None:
    """Gather a saved encoder's files and write its card."""
    path = folder / "config.json"
    if not path.is_file() or not list(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} is no model: expected config.json and *.safetensors. Save with `save_pretrained`.")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is broken: {error}.") from error
    if config.get("model_type") not in ENCODERS or not config.get("auto_map"):
        raise ValueError(
            f"{folder} holds a {config.get('model_type')} without Nyx's code. Load it with NyxModel.from_pretrained "
            "and save it with `save_pretrained`."
        )
    for pattern in MODEL_FILES:
        for each in folder.glob(pattern):
            _link(each, folder, staged)
    (staged / CARD).write_text(model_card(folder, name))


def stage_dataset(folder: Path, name: str, staged: Path) -> None:
    """Gather a dataset folder's Parquet files and write its card."""
    text = card_text(folder, name)
    for path in _dataset_files(folder):
        _link(path, folder, staged)
    (staged / CARD).write_text(text)


def _dataset_files(folder: Path) -> Iterator[Path]:
    for splits in data_files(folder).values():
        yield from splits.values()
    if (folder / STEPS).is_file():
        yield folder / STEPS


def stage_space(folder: Path, name: str, staged: Path) -> None:
    """Gather the demo's files, and the packages that it imports.

    Its header names the model and the dataset that NYX_MODEL and NYX_DATASET do, the same variables as the Space's.
    """
    if not (folder / "app.py").is_file() or "sdk: gradio" not in (folder / CARD).read_text():
        raise ValueError(f"{folder} is no Space: expected app.py, and README.md with `sdk: gradio` in its header.")
    for path in folder.iterdir():
        if path.suffix in SPACE_FILES:
            _link(path, folder, staged)
    for package in ("dataset_builders", "nyx", "modeling_nyx"):
        source = Path(str(find_spec(package).origin)).parent  # type: ignore[union-attr]
        for path in source.glob("*.py"):
            _link(path, source.parent, staged)
    card = RepoCard.load(folder / CARD, ignore_metadata_errors=True)
    for key in ("model", "dataset"):
        if named := os.environ.get(f"NYX_{key.upper()}"):
            card.data[f"{key}s"] = [named]
    card.data["thumbnail"] = f"{ENDPOINT}/spaces/{name}/resolve/main/{THUMBNAIL}"
    (staged / CARD).unlink()
    (staged / CARD).write_text(str(card))


def _link(path: Path, folder: Path, staged: Path) -> None:
    """Link a file into the staged folder at its place. Raises `ValueError` if it leads out of its own."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path} is a link that leads out of {folder}: put the file itself there.")
    target = staged / path.relative_to(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(path.resolve())


STAGE = {"model": stage_model, "dataset": stage_dataset, "space": stage_space}
