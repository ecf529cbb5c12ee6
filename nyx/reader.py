"""The reader: a vision-language model that answers questions from documents, every answer kept on disk."""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForImageTextToText

from modeling_nyx import NyxProcessor
from modeling_nyx.attention_nyx import use_nyx_attention
from modeling_nyx.content_nyx import Content, neutralize, to_content
from modeling_nyx.images_nyx import image_key
from modeling_nyx.rows_nyx import Row
from nyx.models import fingerprint

logger = logging.getLogger(__name__)

INSTRUCTION = "Answer the question from the documents, in as few words as possible."


@dataclass(frozen=True)
class Prompt:
    """Documents in reading order (there may be none) and the question about them."""

    documents: list[Content]
    question: Content

    @property
    def content(self) -> Content:
        """The user's message: every document, then the question, pictures where they stand."""
        parts = [({"type": "text", "text": "Document: "}, document) for document in self.documents]
        parts.append(({"type": "text", "text": "Question: "}, self.question))
        return [item for label, content in parts for item in (label, *content, {"type": "text", "text": "\n"})]


class AnswerCache:
    """Answers by key in an SQLite file (or in memory), so that none is asked for twice."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path or ":memory:")
        self._database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        read = "SELECT answer FROM answers WHERE key = ?"
        found = ((key, self._database.execute(read, (key,)).fetchone()) for key in keys)
        return {key: row[0] for key, row in found if row}

    def put(self, answers: dict[str, str]) -> None:
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", answers.items())


class Reader:
    """A local Qwen-VL model that answers greedily, many prompts at a time."""

    def __init__(
        self,
        model: Any,
        processor: NyxProcessor,
        fingerprint: str,
        *,
        cache: Path | None = None,
        batch_tokens: int = 8192,
        max_new_tokens: int = 32,
    ) -> None:
        self.model, self.processor, self.fingerprint = model.eval(), processor, fingerprint
        self.batch_tokens, self.max_new_tokens = batch_tokens, max_new_tokens
        self.cache = AnswerCache(cache)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        cache: Path | None = None,
        batch_tokens: int = 8192,
        max_new_tokens: int = 32,
        device: str | None = None,
    ) -> "Reader":
        """Load a vision-language model from a folder; its own chat template makes the prompts.

        `cache` is an SQLite file that keeps every answer by model, prompt, pictures and settings, so that a run that
        was stopped goes on where it was. Raises `ValueError` for a folder without a chat template.
        """
        processor = NyxProcessor.from_pretrained(folder)
        if processor.tokenizer.chat_template is None:
            raise ValueError(f"{folder} has no chat template, so it cannot answer. Name a chat or instruct model.")
        model = AutoModelForImageTextToText.from_pretrained(folder).to(device or _best_device())
        use_nyx_attention(model)
        return cls(
            model,
            processor,
            fingerprint(folder),
            cache=cache,
            batch_tokens=batch_tokens,
            max_new_tokens=max_new_tokens,
        )

    def render(self, prompt: Prompt) -> tuple[str, list[Any]]:
        """Return the prompt as the chat template writes it, and its pictures in order."""
        special, content = self.processor.special_tokens, []
        for item in to_content(prompt.content):
            text = item["type"] == "text"
            content.append({"type": "text", "text": neutralize(item["text"], special)} if text else {"type": "image"})
        messages = [
            {"role": "system", "content": [{"type": "text", "text": INSTRUCTION}]},
            {"role": "user", "content": content},
        ]
        text = self.processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text, [item["image"] for item in prompt.content if item["type"] == "image"]

    def answer(self, prompts: Sequence[Prompt], show_progress: bool = False) -> list[str]:
        """Answer prompts greedily, in the order given.

        Prompts of similar length go together up to `batch_tokens` tokens; each batch's answers are kept at once.
        Raises `ValueError` for a prompt longer than the model's window.
        """
        rendered = [self.render(prompt) for prompt in prompts]
        keys = [self._key(text, images) for text, images in rendered]
        answers = self.cache.get(set(keys))
        todo = {key: pair for key, pair in zip(keys, rendered, strict=True) if key not in answers}
        rows = {key: self._row(text, images) for key, (text, images) in todo.items()}
        with tqdm(total=len(rows), desc="read", disable=not show_progress) as bar:
            for group in _groups({key: len(row.ids) for key, row in rows.items()}, self.batch_tokens):
                found = dict(zip(group, self._generate([rows[key] for key in group]), strict=True))
                self.cache.put(found)
                answers |= found
                bar.update(len(group))
        return [answers[key] for key in keys]

    def _row(self, text: str, images: list[Any]) -> Row:
        row = self.processor.rendered_rows(text, images)[0]
        window = self.processor.max_tokens - self.max_new_tokens
        if len(row.ids) > window:
            raise ValueError(
                f"A prompt of {len(row.ids)} tokens came; the reader's window leaves {window}. Give it fewer "
                "or shorter documents."
            )
        return row

    @torch.inference_mode()
    def _generate(self, rows: list[Row]) -> list[str]:
        batch = self.processor.pad(rows, side="left").to(self.model.device)
        tokenizer = self.processor.tokenizer
        output = self.model.generate(
            **batch,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = output[:, batch["input_ids"].shape[1] :]
        return [answer.strip() for answer in tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _key(self, text: str, images: list[Any]) -> str:
        size = self.processor.image_processor.size
        settings = [self.max_new_tokens, size["shortest_edge"], size["longest_edge"]]
        parts = [self.fingerprint, text, [image_key(image) for image in images], settings]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _groups(lengths: dict[str, int], batch_tokens: int) -> list[list[str]]:
    """Group keys, shortest first, so that no padded batch has more than `batch_tokens` tokens."""
    groups: list[list[str]] = []
    for key in sorted(lengths, key=lengths.__getitem__):
        if not groups or (len(groups[-1]) + 1) * lengths[key] > batch_tokens:
            groups.append([])
        groups[-1].append(key)
    return groups


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
