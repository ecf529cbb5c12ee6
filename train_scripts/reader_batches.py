"""Lessons as batches for the tiny VLM: several questions after one prompt, answered one after the other."""

from collections.abc import Iterator
from random import Random
from typing import Any

import torch
from torch import Tensor

from dataset_builders.almanac_lessons import KINDS, Lesson, page_lesson, picture_lesson, plate_lesson
from dataset_builders.almanac_pages import Content

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
IGNORED = -100

# Phase → how often a batch of each sort is drawn: 0 lone pictures, 1–3 that many pages, "plate" a page of two
# nameless moths, "absent" questions that no document answers.
MIXES: dict[str, dict[int | str, float]] = {
    "begin": {0: 0.5, 1: 0.5},
    "one page": {0: 0.1, 1: 0.75, "plate": 0.15},
    "pages": {0: 0.05, 1: 0.35, 2: 0.25, 3: 0.25, "plate": 0.1},
    "refuse": {0: 0.04, 1: 0.36, 2: 0.25, 3: 0.22, "plate": 0.1, "absent": 0.03},
}
LESSONS_PER_BATCH: dict[int | str, int] = {0: 32, 1: 28, 2: 24, 3: 20, "plate": 24, "absent": 32}
QUESTIONS = 6


def draw_lesson(rng: Random, sort: int | str, phase: str, split: Any = "train") -> Lesson:
    if sort == 0:
        return picture_lesson(rng, split)
    if sort == "plate":
        return plate_lesson(rng, QUESTIONS, split)
    if sort == "absent":
        return page_lesson(rng, 0, QUESTIONS, unanswerable=1.0, split=split)
    options: dict[str, Any] = {"kinds": ("fact",), "pictured": 0.0} if phase == "begin" else {"kinds": KINDS}
    unanswerable = 0.15 if phase == "refuse" else 0.0
    return page_lesson(rng, int(sort), QUESTIONS, unanswerable=unanswerable, split=split, **options)


def render(lesson: Lesson) -> tuple[str, list[Any]]:
    """Write a lesson as the text its chat template would give, and list its pictures."""
    text = ""
    images: list[Any] = []

    def add(content: Content) -> str:
        images.extend(item["image"] for item in content if item["type"] == "image")
        return "".join(item["text"] if item["type"] == "text" else IMAGE for item in content)

    for document in lesson.documents:
        text += f"Document: {add(document)}\n"
    for question in lesson.questions:
        text += f"Question: {add(question.content)}\nAnswer: {question.answer}<|im_end|>\n"
    return text, images


def batch_lessons(processor: Any, lessons: list[Lesson]) -> dict[str, Tensor]:
    """Turn lessons into a right-padded batch with `labels` (all tokens) and `answers` (bool, those of answers).

    Shapes: (lessons, length); both refer to the token *at* a position, not after it.
    """
    texts, images = zip(*(render(lesson) for lesson in lessons), strict=True)
    batch = dict(processor(text=list(texts), images=list(images), padding=True, return_tensors="pt"))
    ids, mask = batch["input_ids"], batch.pop("attention_mask").bool()
    tokenizer = processor.tokenizer
    image_tokens = tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|vision_end|>"])
    batch["labels"] = ids.masked_fill(~mask | torch.isin(ids, torch.tensor(image_tokens)), IGNORED)
    opening = tokenizer("Answer:", add_special_tokens=False)["input_ids"]
    batch["answers"] = answer_positions(ids, opening, tokenizer.convert_tokens_to_ids("<|im_end|>"))
    return batch


def answer_positions(ids: Tensor, opening: list[int], end: int) -> Tensor:
    """Mark the tokens between `opening` and `end`, the end included."""
    opened = torch.zeros_like(ids)
    width = len(opening)
    starts = (ids.unfold(1, width, 1) == torch.tensor(opening)).all(-1)
    opened[:, width:] = starts[:, :-1].long() if ids.shape[1] > width else 0
    closed = torch.zeros_like(ids)
    closed[:, 1:] = (ids[:, :-1] == end).long()
    return (opened - closed).cumsum(1) > 0


def lesson_batches(
    processor: Any, phases: dict[str, int], seed: int, process: int, processes: int
) -> Iterator[dict[str, Tensor]]:
    """Yield a batch a step, phase after phase; its lessons depend on the seed, the step and the process alone."""
    schedule = [phase for phase, count in phases.items() for _ in range(count)]
    for step, phase in enumerate(schedule):
        mix = MIXES[phase]
        sort = Random(f"{seed} {step}").choices(list(mix), list(mix.values()))[0]
        rng = Random(f"{seed} {step} {process}")
        count = LESSONS_PER_BATCH[sort] // processes
        yield batch_lessons(processor, [draw_lesson(rng, sort, phase) for _ in range(count)])
