"""A vision-language model in this process, many prompts at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from modeling_nyx import NyxProcessor
from modeling_nyx.attention_nyx import use_nyx_attention
from modeling_nyx.content_nyx import neutralize, to_content
from modeling_nyx.encode_nyx import cpu_has_bfloat16
from modeling_nyx.images_nyx import BadImage
from modeling_nyx.rows_nyx import Row
from nyx.engines import Answer, ReaderError, Request
from nyx.models import default_device, fingerprint, whole_weights


class LocalEngine:
    """A local Qwen-VL model.

    Prompts of similar length, among as many as are waiting, go together up to `batch_tokens` tokens. A JSON schema is
    not enforced.
    """

    workers = 1
    at_once = 256

    def __init__(self, model: Any, processor: NyxProcessor, fingerprint: str, batch_tokens: int = 8192) -> None:
        self.model, self.processor, self.batch_tokens = model.eval(), processor, batch_tokens
        # Of what a checkpoint says of generating, its ends alone are kept: with a penalty on words that came before,
        # which are the documents', answers would not be greedy.
        ends = {processor.tokenizer.eos_token_id, *_listed(model.generation_config.eos_token_id)}
        pad = processor.tokenizer.pad_token_id
        model.generation_config = GenerationConfig(eos_token_id=sorted(ends), pad_token_id=pad)
        size = processor.image_processor.size
        self.identity = json.dumps([fingerprint, size["shortest_edge"], size["longest_edge"], "greedy"])

    @classmethod
    def load(cls, folder: str | Path, *, batch_tokens: int = 8192, device: str | None = None) -> "LocalEngine":
        """Load a vision-language model from a folder or repository; its own chat template makes the prompts.

        Raises `ValueError` for an encoder, for one without a chat template, or with damaged weights.
        """
        processor = NyxProcessor.from_pretrained(folder)
        if processor.tokenizer.chat_template is None:
            raise ValueError(f"{folder} has no chat template, so it cannot answer. Name a chat or instruct model.")
        architectures = AutoConfig.from_pretrained(folder).architectures or []
        if any(name.endswith("Model") for name in architectures):
            raise ValueError(
                f"{folder} is an encoder ({', '.join(architectures)}), so it cannot answer. Name a chat or instruct "
                "model."
            )
        with whole_weights(folder):
            model = AutoModelForImageTextToText.from_pretrained(folder)
        model = model.to(device or default_device())
        if model.device.type == "cpu" and model.dtype == torch.bfloat16 and not cpu_has_bfloat16():
            model = model.float()  # which such a CPU computes, instead of emulating
        use_nyx_attention(model)
        return cls(model, processor, fingerprint(folder), batch_tokens)

    def render(self, request: Request) -> tuple[str, list[Any]]:
        """Return the prompt as the chat template writes it, and its pictures in order."""
        special, content = self.processor.special_tokens, to_content(request.content)
        items = [
            {"type": "text", "text": neutralize(item["text"], special)}
            if item["type"] == "text"
            else {"type": "image"}
            for item in content
        ]
        messages = [
            {"role": "system", "content": [{"type": "text", "text": request.system}]},
            {"role": "user", "content": items},
        ]
        text = self.processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text, [item["image"] for item in content if item["type"] == "image"]

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answer greedily; a prompt beyond the window, or with an unreadable picture, is an error of its own."""
        rows: dict[int, Row] = {}
        for place, request in enumerate(requests):
            try:
                rows[place] = self._row(request)
            except ValueError as error:
                yield place, ReaderError(str(error))
        sizes = {place: (requests[place].max_tokens, len(row.ids)) for place, row in rows.items()}
        for group in groups(sizes, self.batch_tokens):
            answers = self._answers([rows[place] for place in group], requests[group[0]].max_tokens)
            yield from zip(group, answers, strict=True)

    def _row(self, request: Request) -> Row:
        row = self.processor.rendered_rows(*self.render(request))[0]
        window = self.processor.max_tokens - request.max_tokens
        if len(row.ids) > window:
            raise ReaderError(
                f"A prompt of {len(row.ids)} tokens came; the reader's window leaves {window}. Give it fewer "
                "or shorter documents."
            )
        return row

    def _answers(self, rows: list[Row], max_tokens: int) -> list[Answer]:
        try:
            return list(self._generate(rows, max_tokens))
        except BadImage as error:
            if len(rows) == 1:
                return [ReaderError(str(error))]
            return [answer for row in rows for answer in self._answers([row], max_tokens)]

    @torch.inference_mode()
    def _generate(self, rows: list[Row], max_tokens: int) -> list[str]:
        batch = self.processor.pad(rows, side="left").to(self.model.device)
        output = self.model.generate(**batch, max_new_tokens=max_tokens, do_sample=False)
        new = output[:, batch["input_ids"].shape[1] :]
        return [answer.strip() for answer in self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)]


def _listed(ids: int | list[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else ids


def groups(sizes: Mapping[int, tuple[int, int]], batch_tokens: int) -> list[list[int]]:
    """Group places by answer length, and those by prompt length, shortest first.

    No padded batch has more than `batch_tokens` prompt tokens, unless one prompt has by itself.
    """
    found: list[list[int]] = []
    for place in sorted(sizes, key=sizes.__getitem__):
        answer, prompt = sizes[place]
        if not found or sizes[found[-1][0]][0] != answer or (len(found[-1]) + 1) * prompt > batch_tokens:
            found.append([])
        found[-1].append(place)
    return found
