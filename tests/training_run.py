"""A short training that tests start with one process or two: prints what happened as JSON, saves the final weights.

python tests/training_run.py MODEL_FOLDER OUTPUT PER_DEVICE [--steps N] [--resume]
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils.data import Dataset, SequentialSampler
from transformers import TrainerCallback

from dataset_builders.schema import Chunk, Example, QAPair
from modeling_nyx import NyxModel
from tests.conftest import picture, text
from train_scripts.trainer import NyxTrainer, NyxTrainingArguments, Validation

WORDS = ["lives by the lagoon.", "feeds on oak.", "flies in May.", "spans forty mm.", "was recorded by Ada Silva."]


def spelt(index: int) -> str:
    return f"The moth {index} " + " ".join(WORDS[(index + step) % 5] for step in range(1 + index % 3))


class Pairs(Dataset):
    """Examples in blocks of eight: one with pictures and long texts, the next with short texts alone.

    Of each two blocks, which two processes share out, one example asks what one of the other block asks.
    """

    def __len__(self) -> int:
        return 320

    def __getitem__(self, index: int) -> Example:
        words, asked = spelt(index), spelt(index - 8 if index % 16 == 10 else index)
        if (index // 8) % 2:
            document, negative = [text(words)], [[text(words[::-1][:30])]]
        else:
            document = [text(words * (1 + index % 4)), picture(56 + 28 * (index % 2), 56, index), text("and more")]
            # Some examples have no negative, some share one.
            negative = [[picture(56, 56, index % 3)]] if index % 4 else []
        return Example(id=str(index), query=[text(asked[:20])], positives=[document], negatives=negative)


class InOrder(NyxTrainer):
    """Goes through the data in order, so that it is known which process sees what."""

    def _get_train_sampler(self, dataset: Dataset | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class StopAfter(TrainerCallback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        if state.global_step >= self.steps:
            control.should_training_stop = True


def validation() -> Validation:
    """Ask for the documents of the first examples, an odd number of them."""
    asked = [Pairs()[index] for index in range(21)]
    chunks = [Chunk(each.id, each.id, "", each.positives[0]) for each in asked]
    return Validation(chunks, [QAPair(each.id, each.query, [], [], None, [each.id], "mixed") for each in asked])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("per_device", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--stop", type=int, help="stop after so many steps, as if killed")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--deepspeed", help="a DeepSpeed configuration")
    args = parser.parse_args()
    torch.set_num_threads(1)
    arguments = NyxTrainingArguments(
        output_dir=str(args.output),
        per_device_train_batch_size=args.per_device,
        gradient_accumulation_steps=2,
        max_steps=args.steps,
        learning_rate=1e-3,
        lr_scheduler_type="linear",
        temperature=0.1,
        matryoshka_dimensions=[64, 16],
        micro_batch_tokens=120,
        logging_steps=1,
        save_strategy="steps",
        save_steps=args.stop or args.steps,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        max_grad_norm=1.0,
        deepspeed=args.deepspeed,
    )
    model = NyxModel.from_pretrained(args.model)
    model.processor  # noqa: B018  loaded before training, as it is saved with the weights
    trainer = InOrder(model, arguments, train_dataset=Pairs(), validation=validation())
    embedded = []
    encode = model.encode_documents
    model.encode_documents = lambda contents: embedded.append(len(contents)) or encode(contents)
    scores = trainer.evaluate()
    if args.stop:
        trainer.add_callback(StopAfter(args.stop))
    trainer.train(resume_from_checkpoint=args.resume or None)
    encoder = trainer.encoder
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if trainer.is_world_process_zero():
        save_file(
            {name: value.contiguous() for name, value in encoder.state_dict().items()}, args.output / "end.safetensors"
        )
        result = {
            "world": trainer.accelerator.num_processes,
            "losses": losses,
            "scores": {name: score for name, score in scores.items() if "@" in name or "mrr" in name},
            "embedded": embedded,
            "kind": str(trainer.accelerator.distributed_type),
        }
        (args.output / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
