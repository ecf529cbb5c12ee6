"""Stage 1: contrastive pre-training on pairs of queries and documents (paper section 3.2).

    accelerate launch train_scripts/stage1.py
    accelerate launch train_scripts/stage1.py --learning_rate 1e-4 --output_dir runs/mine
    accelerate launch train_scripts/stage1.py --config train_scripts/recipes/paper/stage1.yaml --dataset my/nyxqa

Without arguments the tiny recipe runs: the Almanac's retriever from its tiny reader, in minutes on two cores.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from trl import ModelConfig, TrlParser

from dataset_builders.almanac import TINY_VLM, build
from train_scripts.data import DataArguments, Examples, read_validation
from train_scripts.fit import fit
from train_scripts.trainer import NyxTrainer, NyxTrainingArguments

RECIPES = Path(__file__).parent / "recipes"


def with_recipe(argv: Sequence[str] | None, recipe: str) -> list[str]:
    """Name the tiny recipe among the arguments, unless they name another."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--config" in arguments or {"-h", "--help"} & set(arguments):
        return arguments
    return ["--config", str(RECIPES / "tiny" / f"{recipe}.yaml"), *arguments]


def parse(argv: Sequence[str] | None, recipe: str) -> tuple[DataArguments, NyxTrainingArguments, ModelConfig]:
    """Read a recipe (by default the tiny one) and what the command line changes in it."""
    parser = TrlParser((DataArguments, NyxTrainingArguments, ModelConfig))  # type: ignore[arg-type]
    return parser.parse_args_and_config(with_recipe(argv, recipe))  # type: ignore[return-value]


def prepare() -> None:
    """Log what happens; on the CPU give every process one thread, which is fastest for small models."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not torch.cuda.is_available():
        torch.set_num_threads(1)


def make_almanac(folder: Path) -> None:
    """Write the Almanac where no dataset is, once however many processes there are."""
    with PartialState().local_main_process_first():
        if not (folder / "triplets" / "train.parquet").exists():
            build(folder)


def train(
    data: DataArguments,
    arguments: NyxTrainingArguments,
    adapter: ModelConfig,
    trainer_class: type[NyxTrainer] = NyxTrainer,
) -> Path:
    """Train on the dataset folder's `triplets` from `model_name_or_path`, by default the tiny reader."""
    folder = Path(data.dataset)
    make_almanac(folder)
    examples = Examples(folder / "triplets" / "train.parquet")
    start = adapter.model_name_or_path or str(TINY_VLM)
    return fit(start, examples, read_validation(folder), data, arguments, adapter, trainer_class, "stage 1")


def main(argv: Sequence[str] | None = None) -> None:
    prepare()
    train(*parse(argv, "stage1"))


if __name__ == "__main__":
    main()
