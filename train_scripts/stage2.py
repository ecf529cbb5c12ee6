"""Stage 2: fine-tuning on the reader's feedback (paper section 3.3).

    accelerate launch train_scripts/stage2.py
    accelerate launch train_scripts/stage2.py --replay 0.3 --output_dir runs/mine
    accelerate launch train_scripts/stage2.py --config train_scripts/recipes/paper/stage2.yaml --dataset my/nyxqa

Without arguments the tiny recipe runs on the Almanac, and what it starts from is made if it isn't there: stage 1's
checkpoint and the reader's feedback on it.
"""

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from trl import ModelConfig

from nyx.errors import plain_errors
from train_scripts import collect_feedback, stage1
from train_scripts.data import DataArguments, Examples, read_validation
from train_scripts.fit import fit
from train_scripts.stage1 import ALMANAC, make_almanac, parse, prepare
from train_scripts.trainer import NyxTrainingArguments

STAGE1 = "runs/demo/stage1"


def make_start(data: DataArguments, start: str) -> None:
    """Run what comes before with the tiny recipes, if it is theirs and isn't there.

    Raises `ValueError` for anybody else's dataset without feedback: only its owner knows the reader.
    """
    feedback = Path(data.dataset) / "feedback" / "train.parquet"
    if (data.dataset, start) == (ALMANAC, STAGE1):
        make_almanac(data.dataset)
        if not (Path(start) / "model.safetensors").exists():
            stage1.train(*parse([], "stage1"))
        with PartialState().local_main_process_first():
            if not feedback.exists():
                collect_feedback.run(collect_feedback.parse([]))
    elif not feedback.exists():
        raise ValueError(
            f"No feedback at {feedback}. Collect it first: python train_scripts/collect_feedback.py "
            f"--dataset {data.dataset} --retriever {start} --reader MODEL"
        )


def train(data: DataArguments, arguments: NyxTrainingArguments, adapter: ModelConfig) -> Path:
    """Train on `feedback`, with a share of `replay` examples from `triplets`, from stage 1's checkpoint."""
    folder, start = Path(data.dataset), adapter.model_name_or_path or STAGE1
    make_start(data, start)
    examples = Examples(folder / "feedback" / "train.parquet")
    examples.expect_utilities(arguments.utility_temperature)
    if data.replay:
        replayed = Examples(folder / "triplets" / "train.parquet")
        examples = examples.mixed(replayed, data.replay, arguments.seed)
    return fit(start, examples, read_validation(folder), data, arguments, adapter, stage="stage 2")


def main(argv: Sequence[str] | None = None) -> None:
    prepare()
    train(*parse(argv, "stage2"))


if __name__ == "__main__":
    with plain_errors():
        main()
