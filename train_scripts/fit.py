"""What both stages share: a model from its start, trained on examples, saved whole."""

import json
import logging
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import ModelConfig, get_peft_config

from dataset_builders.schema import Example
from nyx.adapters import save_adapter
from nyx.models import load_encoder
from train_scripts.data import DataArguments
from train_scripts.provenance import TRAINING, record
from train_scripts.trainer import NyxTrainer, NyxTrainingArguments, Validation

logger = logging.getLogger(__name__)


def load_start(name: str, data: DataArguments, arguments: NyxTrainingArguments) -> Any:
    """Load what training starts from: a backbone, an instruct model, or a Nyx checkpoint.

    Only a Nyx checkpoint keeps its own instruction and pixel cap.
    """
    model = load_encoder(name)
    if not model.processor.append_eos:
        stock = model.processor
        model.processor = type(stock)(
            stock.image_processor, stock.tokenizer, append_eos=True, query_instruction=data.query_instruction
        )
    model.processor.tokenizer.chat_template = None
    if arguments.matryoshka_dimensions:
        largest, size = max(arguments.matryoshka_dimensions), model.config.text_config.hidden_size
        if largest > size:
            raise ValueError(f"matryoshka_dimensions reach {largest}, but {name} embeds in {size} dimensions.")
        model.config.matryoshka_dimensions = arguments.matryoshka_dimensions
    model.visual.requires_grad_(not data.freeze_vision)
    return model


def fit(
    start: str,
    examples: "Dataset[Example]",
    validation: Validation | None,
    data: DataArguments,
    arguments: NyxTrainingArguments,
    adapter: ModelConfig | None = None,
    trainer_class: type[NyxTrainer] = NyxTrainer,
    stage: str = "contrastive training",
) -> Path:
    """Train, keep the best checkpoint if there is something to validate on, and save a complete folder.

    Beside the weights `curve.json` holds the losses and every evaluation, and `training.json` what ran. Adapters are
    merged into the weights.
    """
    model = load_start(start, data, arguments)
    peft = get_peft_config(adapter) if adapter is not None else None
    if arguments.save_adapter and peft is None:
        raise ValueError("save_adapter came without an adapter to train. Say use_peft: true, or leave it out.")
    if peft is not None:
        from peft import get_peft_model

        peft.task_type = None  # an encoder: TRL's default expects a language-model head
        model = get_peft_model(model, peft)
    if validation is None:
        arguments.eval_strategy, arguments.load_best_model_at_end = "no", False  # type: ignore[assignment]
    stop = [EarlyStoppingCallback(arguments.patience)] if arguments.patience and validation else []
    trainer = trainer_class(model, arguments, validation=validation, train_dataset=examples, callbacks=stop)
    # Said aloud, since `accelerate launch --cpu --num_processes 2` quietly starts one.
    processes, batch = trainer.accelerator.num_processes, arguments.train_batch_size // arguments.contrastive_batches
    logger.info(
        "%d examples; %d process(es), contrastive batches of %d, %d an update",
        len(examples),  # type: ignore[arg-type]
        processes,
        processes * batch,
        arguments.contrastive_batches,
    )
    output = Path(arguments.output_dir)
    last = get_last_checkpoint(str(output)) if data.resume and output.is_dir() else None
    if last is not None:
        logger.warning("Going on from %s; `--resume false` starts anew.", last)
    elif validation is not None:
        trainer.evaluate()
    before = trainer.state.log_history  # training begins a history of its own
    ran = trainer.train(resume_from_checkpoint=last)
    facts = {
        "examples": len(examples),  # type: ignore[arg-type]
        "steps": ran.global_step,
        "processes": trainer.accelerator.num_processes,
        "seconds": round(ran.metrics["train_runtime"], 1),
    }
    save(trainer, output, before)
    if trainer.is_world_process_zero():
        given = [data, arguments, adapter] if peft is not None else [data, arguments]
        about = record(stage, start, Path(data.dataset), given, **facts)
        (output / TRAINING).write_text(json.dumps(about, indent=1) + "\n")
    return output


def save(trainer: NyxTrainer, output: Path, before: list[dict[str, float]]) -> None:
    """Save the encoder, and its curve from before training on, in the first process.

    Adapters are merged into its weights; `save_adapter` keeps them alone too.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.is_world_process_zero():
        if trainer.args.save_adapter:
            save_adapter(model, output / "adapter")
        encoder = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
        encoder.save_pretrained(output)
        (output / "curve.json").write_text(json.dumps([*before, *trainer.state.log_history], indent=1) + "\n")
    trainer.accelerator.wait_for_everyone()
