"""Train the Almanac's tiny VLM, the reader of `make demo` and the start of its retriever.

    torchrun --nproc_per_node 2 train_scripts/train_reader.py --output dataset_builders/almanac_vlm
    python train_scripts/train_reader.py --output runs/reader --scale 0.02     # a try, in minutes
    python train_scripts/train_reader.py --output runs/small --width 64        # a smaller reader

A plain loop, not TRL's `SFTTrainer`: each prompt is followed by six questions and answers, whose loss counts fully
while that of every other token counts `LM_WEIGHT`, and the matrices are trained by Muon, the rest by AdamW.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from dataset_builders.almanac_tokenizer import build_tokenizer
from modeling_nyx import NyxProcessor
from modeling_nyx.attention_nyx import use_nyx_attention
from modeling_nyx.processing_nyx import MAX_PIXELS, MIN_PIXELS
from train_scripts.reader_batches import IGNORED, batch_lessons, draw_lesson, lesson_batches
from train_scripts.reader_init import init_circuits

WIDTH = 128
PHASES = {"begin": 250, "one page": 1000, "pages": 1000, "refuse": 1750}
LEARNING_RATE = 2e-3
LM_WEIGHT = 0.3
WARM_UP = 60
COOL_DOWN = 0.35
EVALUATE_EVERY = 250


def build_processor() -> NyxProcessor:
    """Make the tiny VLM's processor: its own tokenizer, Qwen2.5-VL's picture steps, Nyx's pixel cap."""
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS})
    return NyxProcessor(images, build_tokenizer())


def build_model(tokenizer: Any, width: int = WIDTH) -> Qwen2_5_VLForConditionalGeneration:
    """Make the untrained tiny VLM: 5 layers of a width over a vision tower of 2 layers of three quarters of it."""
    if width % 16:  # 4 heads, in whose rotary halves and in those of the vision tower's are pairs
        raise ValueError(f"A width of {width}: expected a multiple of 16.")
    half = width // 8  # of a head: its frequencies, shared out among time, height and width
    side = 3 * half // 8
    special = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [half - 2 * side, side, side],
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 3 * width // 4,
            "intermediate_size": 3 * width // 2,
            "num_heads": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": width,
            "fullatt_block_indexes": [1],
        },
        image_token_id=special["image_pad"],
        video_token_id=special["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    init_circuits(model)
    use_nyx_attention(model)
    return model


def reader_loss(model: Qwen2_5_VLForConditionalGeneration, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss of the answers' tokens and that of all tokens, both means.

    Rows are padded on the right and attention is causal, so no mask is needed.
    """
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "answers")}
    logits = model(**inputs, use_cache=False).logits
    labels, answers = batch["labels"][:, 1:], batch["answers"][:, 1:]
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses[answers.flatten()].mean(), losses.sum() / (labels != IGNORED).sum()


def optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings, biases, norms and the patch convolution."""
    matrices = {name for name, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name}
    hidden = [p for name, p in model.named_parameters() if name in matrices]
    others = [p for name, p in model.named_parameters() if name not in matrices]
    return [
        torch.optim.Muon(hidden, lr=LEARNING_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def learning_rate(step: int, steps: int) -> float:
    """Warm up, hold, then fall in a line to 2 % over the last `COOL_DOWN` of the run."""
    left = (steps - step) / (COOL_DOWN * steps)
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * max(0.02, min(1.0, left))


@torch.no_grad()
def teacher_forced_accuracy(model: Qwen2_5_VLForConditionalGeneration, processor: Any) -> dict[str, float]:
    """Share of answers whose every token is the likeliest one, on validation worlds: a running check only."""
    model.eval()
    result = {}
    for sort in (0, 1, 2, 3, "plate"):
        rng = Random(f"validation {sort}")
        lessons = [draw_lesson(rng, sort, "pages", "validation") for _ in range(32)]
        batch = batch_lessons(processor, lessons)
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "answers")}
        right = model(**inputs, use_cache=False).logits[:, :-1].argmax(-1) == batch["labels"][:, 1:]
        answers = batch["answers"][:, 1:]
        number = (answers & ~torch.nn.functional.pad(answers, (1, 0))[:, :-1]).cumsum(1)
        wrong = {(row, int(number[row, column])) for row, column in (answers & ~right).nonzero().tolist()}
        asked = sum(len(lesson.questions) for lesson in lessons)
        result[str(sort)] = round(1 - len(wrong) / asked, 3)
    model.train()
    return result


def average_gradients(accelerator: Accelerator, parameters: list[torch.nn.Parameter]) -> None:
    """Average over processes; a process whose batch had no picture counts with zeros."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    mean = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for parameter, gradient in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)


def train(
    model: Qwen2_5_VLForConditionalGeneration, processor: Any, accelerator: Accelerator, *, scale: float, seed: int
) -> Iterator[dict[str, Any]]:
    """Run the curriculum in place, and yield a row of its curve every `EVALUATE_EVERY` steps.

    `scale` shortens every phase. All processes draw the same sort of lesson at a step, but different lessons.
    """
    phases = {phase: max(1, round(steps * scale)) for phase, steps in PHASES.items()}
    stream = lesson_batches(processor, phases, seed, accelerator.process_index, accelerator.num_processes)
    steps, opts, parameters = sum(phases.values()), optimizers(model), list(model.parameters())
    started, recent = time.monotonic(), []
    for step, batch in enumerate(tqdm(stream, total=steps, disable=not accelerator.is_main_process)):
        for group in (group for optimizer in opts for group in optimizer.param_groups):
            group["lr"] = learning_rate(step, steps)
        answers, tokens = reader_loss(model, batch)
        (answers + LM_WEIGHT * tokens).backward()
        average_gradients(accelerator, parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in opts:
            optimizer.step()
            optimizer.zero_grad()
        recent.append(answers.item())
        if ((step + 1) % EVALUATE_EVERY == 0 or step + 1 == steps) and accelerator.is_main_process:
            accuracy = teacher_forced_accuracy(model, processor)
            row = {"step": step + 1, "seconds": round(time.monotonic() - started), "loss": sum(recent) / len(recent)}
            yield row | {"accuracy": accuracy}
            recent.clear()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write; must be new or empty of weights")
    parser.add_argument("--scale", type=float, default=1.0, help="shorten (or lengthen) every phase by this factor")
    parser.add_argument("--width", type=int, default=WIDTH, help="of its layers; all other sizes follow")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if (args.output / "model.safetensors").exists():
        parser.error(f"{args.output} already holds a model; name another folder or remove it first")
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    processor = build_processor()
    model = build_model(processor.tokenizer, args.width)
    curve = []
    for row in train(model, processor, accelerator, scale=args.scale, seed=args.seed):
        curve.append(row)
        tqdm.write(json.dumps(row))
        # A run that is stopped leaves the model of its last evaluation.
        model.save_pretrained(args.output)
        processor.tokenizer.save_pretrained(args.output)
        processor.image_processor.save_pretrained(args.output)
        (args.output / "curve.json").write_text(json.dumps(curve, indent=1) + "\n")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main()
