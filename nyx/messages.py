"""Content as chat messages, for engines that take nothing else: sentence-transformers, vLLM's requests."""

from typing import Any

from modeling_nyx import load_image, to_content


def to_messages(content: Any) -> list[dict[str, Any]]:
    """Write a content, in any spelling, as a conversation of one message.

    Its pictures are decoded: RGB, upright, on white.
    `model.encode_document([to_messages(content) for content in contents])` gives sentence-transformers a list that
    is all of one kind and holds any order of text and pictures. Loaded with `trust_remote_code=True` it takes mixed
    lists too; its own classes refuse them, and some would read a transparent or turned picture otherwise.
    """
    parts = [
        item if item["type"] == "text" else {"type": "image", "image": load_image(item["image"])}
        for item in to_content(content)
    ]
    return [{"role": "user", "content": parts}]
