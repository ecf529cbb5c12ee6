"""A seed's world: its pages, questions and reader, what was trained in it, and outcomes question by question."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dataset_builders.almanac import TINY_VLM
from dataset_builders.schema import QAPair
from modeling_nyx.content_nyx import Content
from nyx.answers import rag
from nyx.metrics import mrr, recall_at_k
from nyx.models import load_encoder
from nyx.reader import Reader
from train_scripts import stage1, train_reader
from train_scripts.data import Examples, read_validation
from train_scripts.fit import fit
from train_scripts.scoring import Guide, encode

Outcomes = dict[str, dict[str, float]]  # by metric, each question's score

DRY_WORLD: dict[str, Any] = {
    "species": {"train": 8, "validation": 4, "test": 4},
    "triplets": {"train": 16, "validation": 4, "test": 4},
}
# Of a study's own trainings: the last weights, not the best. 44 of 110 steps reach stage 2's plateau.
LAST = ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
SHORT = ["--max_steps", "44", *LAST]
# Of the own reader's steps, for smaller ones: a quarter of an hour on one core.
SCALE = "0.12"
DRY_STEPS = ["--max_steps", "1", "--per_device_train_batch_size", "4"]


@dataclass(frozen=True)
class World:
    """A seed's world and all that was trained in it; `dry`: a tiny one, trained for a step."""

    folder: Path
    seed: int
    dry: bool = False

    @property
    def data(self) -> Path:
        return self.folder / "nyxqa"

    @property
    def steps(self) -> list[str]:
        return DRY_STEPS if self.dry else []

    @cached_property
    def guide(self) -> Guide:
        return Guide.read(self.data, "test")

    @cached_property
    def reader(self) -> Reader:
        return Reader.from_pretrained(TINY_VLM, cache=self.folder / "answers.sqlite")

    def on(self, guide: Guide) -> "World":
        """Return the same world with another test guide."""
        other = World(self.folder, self.seed, self.dry)
        other.__dict__["guide"] = guide
        return other

    def asking(self, questions: list[QAPair]) -> "World":
        """Return the same world with other questions on its test guide."""
        return self.on(Guide(self.guide.chunks, questions))

    def embed(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Embed the questions and documents of the guide by one of the world's checkpoints."""
        return encode(load_encoder(self.folder / name), self.guide)

    def retrieved(self, positions: np.ndarray, reader: Reader | None = None) -> Outcomes:
        """Score a ranking (questions, depth), and what a reader (the own one) answers from its first document."""
        chunks, golds = self.guide.chunks, [question.gold_ids for question in self.guide.questions]
        pairs = [([chunks[place].id for place in row], gold) for row, gold in zip(positions, golds, strict=True)]
        scores = {f"recall@{k}": self._named([recall_at_k(*pair, k) for pair in pairs]) for k in (1, 5)}
        scores["mrr"] = self._named([mrr(*pair) for pair in pairs])
        return scores | self.answered([[chunks[row[0]].content] for row in positions], reader)

    def answered(self, documents: Sequence[list[Content]], reader: Reader | None = None) -> Outcomes:
        """Score what the reader answers from documents, a list a question."""
        golds = [question.answers for question in self.guide.questions]
        answers = rag(reader or self.reader, self.guide.queries, golds, documents, show_progress=True)
        return {"answer EM": self._named(answers.em), "answer F1": self._named(answers.f1)}

    def _named(self, values: Sequence[float]) -> dict[str, float]:
        """Name every value by its question; the kind of question is the middle part."""
        names = (f"{self.seed}/{each.kind}/{place}" for place, each in enumerate(self.guide.questions))
        return dict(zip(names, values, strict=True))

    def arguments(self, output: Path, *others: str) -> list[str]:
        """Return the arguments of a training in this world; in a dry run it is a step long, whatever `others` say."""
        seeds = ["--seed", str(self.seed), "--data_seed", str(self.seed)]
        return ["--dataset", str(self.data), "--output_dir", str(output), *seeds, *others, *self.steps]

    def align(self, name: str, examples: Path, *arguments: str) -> str:
        """Train stage 2 on examples, mixed with stage 1's as its recipe says, unless it is there; returns its name."""
        output = self.folder / "studies" / name
        if not (output / "model.safetensors").exists():
            start = str(self.folder / "stage 1")
            given = self.arguments(output, "--model_name_or_path", start, *arguments)
            data, training, adapter = stage1.parse(given, "stage2")
            replayed = Examples(self.data / "triplets" / "train.parquet")
            mixed = Examples(examples).mixed(replayed, data.replay, self.seed)
            fit(start, mixed, read_validation(self.data), data, training, adapter, stage="stage 2")
        return f"studies/{name}"


def reader_of(world: World, width: int) -> Path:
    """Return the folder of a reader, trained beside the worlds unless it is there."""
    if width == train_reader.WIDTH:
        return TINY_VLM
    folder = world.folder.parent / "readers" / f"width{width}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as parent:
            aside = Path(parent) / folder.name
            if world.dry:  # trained for a step it would answer nothing right: the own one stands in
                shutil.copytree(TINY_VLM, aside)
            else:  # in a process of its own: it keeps to the CPU, where training the retrievers may not
                command = [sys.executable, "-m", "train_scripts.train_reader", "--output", str(aside)]
                subprocess.run([*command, "--width", str(width), "--scale", SCALE], check=True)
            aside.rename(folder)
    return folder
