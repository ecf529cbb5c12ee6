"""Make a question of what a visitor typed and dropped: words, and pictures where the words want them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modeling_nyx import BadImage, load_image, to_content
from modeling_nyx.content_nyx import Content
from modeling_nyx.images_nyx import image_size

LONGEST = 2000
MOST_PICTURES = 4
MOST_PIXELS = 25_000_000
MARK = re.compile(r"\[(\d)\]")


def read_question(words: str, pictures: Sequence[str | Path]) -> Content:
    """Return the question's content: `[1]` in the words is the first picture, and so on; unnamed ones come first.

    Raises `ValueError` for too much, for nothing, and for a picture that cannot be read. No message holds a path.
    """
    if len(pictures) > MOST_PICTURES or len(words) > LONGEST:
        raise ValueError(
            f"At most {MOST_PICTURES} pictures and {LONGEST} characters; {len(pictures)} and {len(words)} came."
        )
    loaded = [_load(number, path) for number, path in enumerate(pictures, 1)]
    named = {int(mark[1]) for mark in MARK.finditer(words)}
    first = [each for number, each in enumerate(loaded, 1) if number not in named]
    if not loaded and not words.strip():
        raise ValueError("Ask in words, with pictures, or both.")
    return to_content([*first, *_placed(words, loaded)])


def _placed(words: str, pictures: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Cut the words at marks that name a picture; other numbers in brackets are words."""
    start = 0
    for mark in MARK.finditer(words):
        if 1 <= int(mark[1]) <= len(pictures):
            yield {"type": "text", "text": words[start : mark.start()]}
            yield pictures[int(mark[1]) - 1]
            start = mark.end()
    yield {"type": "text", "text": words[start:].rstrip()}


def _load(number: int, path: str | Path) -> dict[str, Any]:
    try:
        width, height = image_size(path)
        if width * height > MOST_PIXELS:
            raise ValueError(f"Picture {number} has {width}×{height} pixels; at most {MOST_PIXELS // 10**6} million.")
        return {"type": "image", "image": load_image(path)}
    except BadImage as error:
        # Its own message names the upload's place on this machine.
        raise ValueError(
            f"Picture {number} cannot be read: JPEG, PNG, WebP, GIF and BMP can, up to {MOST_PIXELS // 10**6} million "
            "pixels."
        ) from error
