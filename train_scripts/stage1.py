"""Stage 1: contrastive pre-training on pairs of queries and documents (paper section 3.2).

    accelerate launch train_scripts/stage1.py
    accelerate launch train_scripts/stage1.py --learning_rate 1e-4 --output_dir runs/mine
    accelerate launch train_scripts/stage1.py --config train_scripts/recipes/paper/stage1.yaml --dataset my/nyxqa

Without arguments the tiny recipe runs: the Almanac's retriever from its tiny reader, in minutes on two cores.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from trl import ModelConfig

from dataset_builders.almanac import TINY_VLM, build
from nyx.errors import plain_errors
from train_scripts.arguments import parse_arguments
from train_scripts.data import DataArguments, Examples, read_validation
from train_scripts.fit import fit
from train_scripts.trainer import NyxTrainer, NyxTrainingArguments

ALMANAC = DataArguments.dataset


def parse(argv: Sequence[str] | None, recipe: str) -> tuple[DataArguments, NyxTrainingArguments, ModelConfig]:
    """Read a stage's recipe (by default the tiny one) and what the command line changes in it."""
    return parse_arguments(argv, recipe, DataArguments, NyxTrainingArguments, ModelConfig)  # type: ignore[return-value]


def prepare() -> None:
    """Log what happens; give every process one thread, which is fastest for small models.

    On the CPU "medium" lets oneDNN multiply float32 matrices, twice as fast as MKL on some machines. Its products are
    float32's, except on processors with matrix units (AMX): they multiply bfloat16, and add up float32.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        torch.set_float32_matmul_precision("medium")


def make_almanac(folder: str) -> None:
    """Write the Almanac if it is meant and isn't there, once however many processes there are."""
    if folder == ALMANAC:
        with PartialState().local_main_process_first():
            build(Path(folder))


def train(
    data: DataArguments,
    arguments: NyxTrainingArguments,
    adapter: ModelConfig,
    trainer_class: type[NyxTrainer] = NyxTrainer,
) -> Path:
    """Train on the dataset folder's `triplets` from `model_name_or_path`, by default the tiny reader."""
    if data.replay:
        raise ValueError(f"replay is {data.replay}, but stage 1 trains on all of its examples. Leave it out.")
    folder = Path(data.dataset)
    make_almanac(data.dataset)
    examples = Examples(folder / "triplets" / "train.parquet")
    examples.expect_utilities(arguments.utility_temperature)
    start = adapter.model_name_or_path or str(TINY_VLM)
    return fit(start, examples, read_validation(folder), data, arguments, adapter, trainer_class, "stage 1")


def main(argv: Sequence[str] | None = None) -> None:
    prepare()
    train(*parse(argv, "stage1"))


if __name__ == "__main__":
    with plain_errors():
        main()
