"""What both stages share: a model from its start, trained on examples, saved whole."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import ModelConfig, get_peft_config

from dataset_builders.schema import Example
from nyx.adapters import save_adapter
from nyx.models import load_encoder
from train_scripts.data import DataArguments
from train_scripts.model_card import CURVE
from train_scripts.provenance import record, refuse_another_run, write_record
from train_scripts.trainer import NyxTrainer, NyxTrainingArguments, Validation

logger = logging.getLogger(__name__)

LARGE = 10**9  # parameters that no CPU trains
# What the official code's list of names matches in Qwen2.5-VL.
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
# What TRL offers, and loading a start doesn't take.
NOT_TAKEN = ("dtype", "attn_implementation", "load_in_8bit", "load_in_4bit")


def load_start(name: str, data: DataArguments, arguments: NyxTrainingArguments, revision: str | None = None) -> Any:
    """Load what training starts from: a backbone, an instruct model, or a Nyx checkpoint.

    Only a Nyx checkpoint keeps its own instruction and pixel cap.
    """
    model = load_encoder(name, revision, dtype=torch.float32, device="cpu")  # the trainer places it
    if not model.processor.append_eos:
        stock = model.processor
        model.processor = type(stock)(
            stock.image_processor, stock.tokenizer, append_eos=True, query_instruction=data.query_instruction
        )
    elif data.query_instruction not in ("", model.processor.query_instruction):
        raise ValueError(
            f"query_instruction is {data.query_instruction!r}, but {name} was trained with "
            f"{model.processor.query_instruction!r}, which stays. Leave it out."
        )
    model.processor.tokenizer.chat_template = None
    if arguments.matryoshka_dimensions:
        largest, size = max(arguments.matryoshka_dimensions), model.config.text_config.hidden_size
        if largest > size:
            raise ValueError(f"matryoshka_dimensions reach {largest}, but {name} embeds in {size} dimensions.")
        model.config.matryoshka_dimensions = arguments.matryoshka_dimensions
    return model


def prepare_model(
    start: str, data: DataArguments, arguments: NyxTrainingArguments, adapter: ModelConfig | None
) -> Any:
    """Load the start, wrap it with an adapter if `use_peft` says so, and freeze what is not to be trained."""
    adapter = adapter or ModelConfig()
    refuse_not_taken(adapter)
    if arguments.save_adapter and not adapter.use_peft:
        raise ValueError("save_adapter came without an adapter to train. Say use_peft: true, or leave it out.")
    set_seed(arguments.seed)  # before an adapter draws its weights
    model = encoder = load_start(start, data, arguments, adapter.model_revision)
    refuse_large_on_cpu(start, encoder.num_parameters(), arguments)
    if adapter.use_peft:
        model = adapted(encoder, adapter)
    elif unused := adapter_options(adapter):
        logger.warning("All weights are trained: %s without use_peft: true.", ", ".join(unused))
    if data.freeze_vision:
        encoder.visual.requires_grad_(False)  # after wrapping: adapters there are frozen too
    return model


def adapter_options(options: ModelConfig) -> list[str]:
    """Return the options of an adapter that are not the defaults."""
    plain = vars(ModelConfig())
    return [
        name
        for name in plain
        if name.startswith(("lora_", "use_dora", "use_rs")) and getattr(options, name) != plain[name]
    ]


def refuse_not_taken(options: ModelConfig) -> None:
    """Raise `ValueError` for an option that would change nothing but the record."""
    for name in NOT_TAKEN:
        value = getattr(options, name)
        if value != getattr(ModelConfig, name):
            raise ValueError(
                f"{name} is {value!r}, but training takes float32 weights and its own attention; `bf16: true` "
                "computes in bfloat16. Leave it out."
            )


def refuse_large_on_cpu(start: str, parameters: int, arguments: NyxTrainingArguments) -> None:
    """Raise `ValueError` for a model that no CPU trains: the tiny recipes, which run unless one is named, say so."""
    if arguments.use_cpu and parameters > LARGE:
        raise ValueError(
            f"{start} has {parameters / 1e9:.1f} billion parameters, but this recipe trains on the CPU (use_cpu: "
            "true), as the tiny one does, which runs unless another is named. Name one, such as --config "
            "train_scripts/recipes/paper/stage1.yaml."
        )


def adapted(encoder: Any, adapter: ModelConfig) -> Any:
    """Wrap an encoder with the adapter that is to be trained."""
    from peft import get_peft_model

    adapter.lora_target_modules = adapter.lora_target_modules or LORA_TARGETS
    config: Any = get_peft_config(adapter)
    config.task_type = None  # an encoder: TRL's default expects a language-model head
    return get_peft_model(encoder, config)


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

    Beside the weights `curve.json` holds the losses and every evaluation, and `training.json` what ran: its `seconds`
    are those of training since it last went on, from the step that `went_on_from` says, if it did. Adapters are merged
    into the weights. Raises `ValueError` if `output_dir` holds checkpoints of another run to go on with.
    """
    if validation is None:
        arguments.eval_strategy, arguments.load_best_model_at_end = "no", False  # type: ignore[assignment]
    stop = early_stopping(arguments) if validation is not None else []
    model = prepare_model(start, data, arguments, adapter)
    trainer = trainer_class(model, arguments, validation=validation, train_dataset=examples, callbacks=stop)
    facts: dict[str, Any] = check_batches(trainer, len(examples))  # type: ignore[arg-type]
    output = Path(arguments.output_dir)
    about = record(stage, start, Path(data.dataset), [data, arguments, taken(adapter)])
    about["processes"] = facts["processes"]
    last = get_last_checkpoint(str(output)) if data.resume and output.is_dir() else None
    if last is not None:
        refuse_another_run(output, about)
        logger.warning("Going on from %s; `--resume false` starts anew.", last)
        facts["went_on_from"] = int(last.rpartition("-")[2])
    elif validation is not None:
        trainer.evaluate()
    # Training begins a history of its own, which its checkpoints keep.
    before = trainer.state.log_history if last is None else read_before(output)
    if trainer.is_world_process_zero():
        if last is None:
            remove_checkpoints(output)
        write_record(output, about)
        write_curve(output, before)
    ran = trainer.train(resume_from_checkpoint=last)
    save(trainer, output, before)
    if trainer.is_world_process_zero():
        facts |= {"steps": ran.global_step, "best_step": trainer.state.best_global_step}
        facts["seconds"] = round(ran.metrics["train_runtime"], 1)
        write_record(output, about | facts)
    return output


def taken(options: ModelConfig | None) -> ModelConfig:
    """Return the options that a run takes: without `use_peft`, none of an adapter."""
    options = options or ModelConfig()
    return options if options.use_peft else ModelConfig(model_revision=options.model_revision)


def early_stopping(arguments: NyxTrainingArguments) -> list[EarlyStoppingCallback]:
    """Make what stops a run by `patience`. Raises `ValueError` if nothing says which evaluation is better."""
    if not arguments.patience:
        return []
    if arguments.eval_strategy == "no" or arguments.metric_for_best_model is None:
        raise ValueError(
            f"patience is {arguments.patience}, but there is no evaluation to wait for, or no measure of it. Set "
            "eval_strategy and metric_for_best_model, or leave patience out."
        )
    return [EarlyStoppingCallback(arguments.patience)]


def remove_checkpoints(output: Path) -> None:
    """Remove an earlier run's checkpoints: the next run would go on from them as if they were this one's."""
    while output.is_dir() and (old := get_last_checkpoint(str(output))):
        logger.warning("Starting anew: removing %s.", old)
        shutil.rmtree(old)


def write_curve(output: Path, rows: list[dict[str, float]]) -> None:
    (output / CURVE).write_text(json.dumps(rows, indent=1) + "\n")


def read_before(output: Path) -> list[dict[str, float]]:
    """Return what the run that goes on logged before it began to train."""
    path = output / CURVE
    return [row for row in json.loads(path.read_text()) if row["step"] == 0] if path.is_file() else []


def check_batches(trainer: NyxTrainer, examples: int) -> dict[str, int]:
    """Log and return how many examples and processes there are; raise `ValueError` if they don't make one update."""
    processes, batches = trainer.accelerator.num_processes, trainer.args.contrastive_batches
    update = trainer.args.train_batch_size * processes
    if examples < update:
        raise ValueError(
            f"{examples} examples came, but one update takes {update}: per_device_train_batch_size × "
            "gradient_accumulation_steps × processes. Lower one of them."
        )
    # Said aloud, since `accelerate launch --cpu --num_processes 2` quietly starts one.
    order = "in the file's order" if trainer.args.train_sampling_strategy == "sequential" else "shuffled"
    line = "%d examples, %s; %d process(es), contrastive batches of %d, %d an update"
    logger.info(line, examples, order, processes, update // batches, batches)
    return {"examples": examples, "processes": processes}


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
        write_curve(output, [*before, *trainer.state.log_history])
    trainer.accelerator.wait_for_everyone()
