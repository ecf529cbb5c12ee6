"""`nyx train`: a recipe → a retriever."""

from enum import StrEnum
from typing import Annotated

import typer

from nyx.errors import extra

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


class Stage(StrEnum):
    """What is trained: on pairs, or on a reader's feedback."""

    stage1 = "stage1"
    stage2 = "stage2"


def train_command(
    context: typer.Context,
    stage: Annotated[Stage, typer.Argument(help="contrastive pre-training, or fine-tuning on feedback")],
) -> None:
    """Train a retriever in this process, as the tiny recipe says, or another that `--config` names.

    The tiny recipe is for models as small as the Almanac's own, on a CPU. For a backbone of your own there is
    `--config train_scripts/recipes/paper/stage1.yaml` (or `stage2.yaml`), for GPUs.
    Whatever else follows changes the recipe; `nyx train stage1 -- --help` lists it. Several processes:
    `accelerate launch train_scripts/stage1.py`, with the same options.

        nyx train stage1 --dataset runs/demo/nyxqa --output_dir runs/mine --learning_rate 1e-4

        nyx train stage2 --model_name_or_path runs/demo/stage1 --dataset runs/demo/nyxqa --output_dir runs/aligned
    """
    with extra("train"):
        from train_scripts import stage1, stage2
    module = {Stage.stage1: stage1, Stage.stage2: stage2}[stage]
    stage1.prepare()
    folder = module.train(*stage1.parse(context.args, stage))  # type: ignore[attr-defined]
    typer.echo(f"Checkpoint: {folder}")
