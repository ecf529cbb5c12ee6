"""What a vision-language model is asked, and what an engine, that has one answer, must do."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modeling_nyx.content_nyx import Content, to_content
from modeling_nyx.images_nyx import image_key


class ReaderError(ValueError):
    """A request that got no usable answer; the message says why. The other requests go on."""


@dataclass(frozen=True)
class Request:
    """One thing to ask a vision-language model, which answers greedily."""

    # The instruction. Fixed text comes first, so that servers can cache what they made of it.
    system: str
    # The user's message, pictures inline in reading order.
    content: Content
    # JSON schema of the answer, which a server may enforce and a local model doesn't; None: plain text.
    schema: dict[str, Any] | None = None
    max_tokens: int = 32

    def key(self, engine: str) -> str:
        """Hash the request and the engine it is put to; raises `ValueError` for content that cannot be read."""
        content = [
            ["text", item["text"]] if item["type"] == "text" else ["image", image_key(item["image"])]
            for item in to_content(self.content)
        ]
        parts = [engine, self.system, content, self.schema, self.max_tokens]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


Answer = str | ReaderError


class Engine(Protocol):
    """What answers requests: a model in this process, or a server."""

    # Calls of `answer` that may run at the same time, each in a thread of its own.
    workers: int
    # Requests that one call takes at most.
    at_once: int

    @property
    def identity(self) -> str:
        """Which model it is, and how it sees pictures: a part of the key under which its answers are kept."""
        ...

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield each request's place and answer, in whatever order they come. Other errors end the whole run."""
        ...
