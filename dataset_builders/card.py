"""The card of a dataset folder: which configs and splits it has, what is in them, and how they were made.

`load_dataset(folder)`, and the same folder on the Hub, read the card's header: without a config's name they give `qa`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import DatasetCardData

from dataset_builders.schema import Chunk, Example, Preference, QAPair

CARD, STEPS = "README.md", "steps.json"
RECORDS: dict[str, type] = {"corpus": Chunk, "qa": QAPair, "triplets": Example, "feedback": Preference}
DEFAULT = "qa"
SPLITS = ("train", "validation", "test")
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
HOLDS = {
    "corpus": "chunks: contents that are retrieved as one",
    "qa": "questions, their answers, and the chunks that answer them (`gold_ids`)",
    "triplets": "queries with documents that fit and documents that don't",
    "feedback": "queries with documents from which a reader answered right, and documents from which it failed",
}
USE = """
Every query and document is a content: a list of `{"type": "text", "text": …}` and `{"type": "image", "image": …}`
items in reading order. Pictures are the bytes of files until they are used.

```python
from datasets import load_dataset

questions = load_dataset("NAME")  # qa
corpus = load_dataset("NAME", "corpus", split="test", streaming=True)
as_bytes = corpus.decode(False)  # pictures stay bytes
```
"""


def data_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the Parquet file of every split of every config that the folder has."""
    paths = {name: {split: folder / name / f"{split}.parquet" for split in SPLITS} for name in RECORDS}
    found = {name: {split: path for split, path in each.items() if path.is_file()} for name, each in paths.items()}
    return {name: each for name, each in found.items() if each}


def fingerprints(folder: Path) -> dict[str, str]:
    """Hash the files of each config: 16 hexadecimal digits, the same wherever the folder lies."""
    hashes = {}
    for name, splits in data_files(folder).items():
        digest = hashlib.sha256()
        for split, path in splits.items():
            with path.open("rb") as file:
                digest.update(split.encode() + hashlib.file_digest(file, "sha256").digest())
        hashes[name] = digest.hexdigest()[:16]
    return hashes


def write_card(folder: Path, step: str | None = None, facts: Mapping[str, Any] | None = None) -> Path:
    """Write the card of what the folder holds now; `step` is noted with its `facts`, earlier steps are kept."""
    if step is not None:
        steps = read_steps(folder) | {step: dict(facts or {})}
        _replace(folder / STEPS, json.dumps(steps, indent=1) + "\n")
    return _replace(folder / CARD, card_text(folder, str(folder)))


def card_text(folder: Path, name: str) -> str:
    """Write the card's text for the folder as `load_dataset(name)` finds it.

    Raises `ValueError` if there are no questions, which is what that call gives.
    """
    found = data_files(folder)
    if DEFAULT not in found:
        raise ValueError(
            f"{folder} is no NyxQA folder: there is no {DEFAULT}/{{{','.join(SPLITS)}}}.parquet. "
            "`python -m dataset_builders.almanac FOLDER` makes one, for example."
        )
    rows = {
        config: {split: pq.read_metadata(path).num_rows for split, path in splits.items()}
        for config, splits in found.items()
    }
    header = DatasetCardData(
        pretty_name="NyxQA",
        task_categories=["question-answering", "visual-question-answering"],
        tags=["retrieval", "multimodal", "interleaved"],
        size_categories=[_size(sum(sum(each.values()) for each in rows.values()))],
        configs=[_config(config, list(splits)) for config, splits in found.items()],
    )
    lines = [f"---\n{header.to_yaml()}\n---\n\n# NyxQA\n\nQuestions over pages that mix text and pictures."]
    lines += ["", *_table(("config", *SPLITS, "holds", "sha256"), _rows(rows, fingerprints(folder)))]
    lines += [USE.replace("NAME", name)]
    for step, facts in read_steps(folder).items():
        lines += [
            f"## Made by: {step}",
            "",
            *_table(("", ""), ((key, cell(fact)) for key, fact in facts.items())),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def read_steps(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what was noted of each step that made the folder."""
    path = folder / STEPS
    return json.loads(path.read_text()) if path.is_file() else {}


def cell(value: Any) -> str:
    """Spell a value so that it stays within its cell of a Markdown table."""
    return "`" + json.dumps(value, ensure_ascii=False).replace("|", "\\|") + "`"


def _config(name: str, splits: list[str]) -> dict[str, Any]:
    files = [{"split": split, "path": f"{name}/{split}.parquet"} for split in splits]
    return {"config_name": name, "data_files": files} | ({"default": True} if name == DEFAULT else {})


def _rows(rows: Mapping[str, Mapping[str, int]], hashes: Mapping[str, str]):  # type: ignore[no-untyped-def]
    for name, each in rows.items():
        counts = [str(each.get(split, "–")) for split in SPLITS]
        yield f"`{name}`", *counts, HOLDS[name], f"`{hashes[name]}`"


def _table(head, rows) -> list[str]:  # type: ignore[no-untyped-def]
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _size(rows: int) -> str:
    return next((name for bound, name in SIZES.items() if rows < bound), "n>10M")


def _replace(path: Path, text: str) -> Path:
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside.write_text(text)
    os.replace(aside, path)
    return path
