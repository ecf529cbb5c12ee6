"""Content: the one form of queries and documents, and how the other spellings turn into it.

A content list holds `{"type": "text", "text": str}` and `{"type": "image", "image": picture}` in reading order; a
picture is a PIL image, a path or the bytes of a file. A plain string is always text, never a path.
"""

import base64
from collections.abc import Mapping, Sequence
from os import PathLike
from types import NoneType
from typing import Any

from PIL import Image

Content = list[dict[str, Any]]

IMAGE_MARK = "<|image|>"
ACCEPTED = (
    "a string; a picture (PIL image); a content list of {'type': 'text', 'text': ...} and {'type': 'image', 'image': "
    "...} items, or {'type': 'image', 'url': a data URI}; {'text': ..., 'image': ...}, one or a list of each, in the "
    "order of the keys; {'text': text with <|image|> marks, 'images': list}; {'texts': [...], 'images': [...]} "
    "aligned; a chat message or a list of them"
)


def to_content(value: Any) -> Content:
    """Turn any accepted spelling into a content list, in which neighbouring texts are one.

    Raises `ValueError`, naming what came and what is accepted, for anything else, for content that holds neither a
    picture nor a character, and where `<|image|>` marks and pictures differ in number.
    """
    content = _joined(_items(value))
    if not any(item["type"] == "image" or item["text"].strip() for item in content):
        raise ValueError(f"Empty content: {value!r:.100} holds neither text nor a picture. Leave it out.")
    return content


def text_of(content: Content) -> str:
    """Join the texts of a content list by single spaces."""
    return " ".join(item["text"].strip() for item in content if item["type"] == "text")


def _items(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if isinstance(value, (Image.Image, bytes, PathLike)):
        return [{"type": "image", "image": value}]
    if isinstance(value, Mapping):
        return _from_mapping({key: item for key, item in value.items() if item is not None}, value)
    if isinstance(value, Sequence) and not isinstance(value, bytearray):
        return [item for part in value for item in _items(part)]
    raise ValueError(f"Unknown content: {type(value).__name__} {value!r:.100}. Accepted: {ACCEPTED}.")


def _from_mapping(given: dict[str, Any], original: Any) -> list[dict[str, Any]]:
    """Read one dictionary, its null entries (Parquet's) already left out."""
    if "content" in given:
        return _items(given["content"])
    kind = given.get("type")
    if kind == "text" and isinstance(given.get("text"), str):
        return [{"type": "text", "text": given["text"]}]
    if kind == "image" and {"image", "url"} & given.keys():
        picture = _picture(given["image"]) if "image" in given else _from_data_uri(given["url"])
        return [{"type": "image", "image": picture}]
    if kind == "message" and "message" in given:
        return _items(given["message"])
    if kind is None and "texts" in given:
        return _from_aligned(given["texts"], given.get("images"))
    if kind is None and "images" in original and isinstance(given.get("text", ""), str):
        return _from_marks(given.get("text", ""), given.get("images", []))
    if kind is None and {"text", "image"} & given.keys():
        return _from_parts(given)
    raise ValueError(f"Unknown content: {original!r:.200}. Accepted: {ACCEPTED}.")


def _from_parts(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Read texts and pictures, one or a list of each, in the order of the keys, as sentence-transformers does."""
    items: list[dict[str, Any]] = []
    for kind in (key for key in given if key in ("text", "image")):
        values = given[kind] if isinstance(given[kind], (list, tuple)) else [given[kind]]
        if kind == "text" and not all(isinstance(value, str) for value in values):
            raise ValueError(f"Unknown content: {given!r:.200}. Accepted: {ACCEPTED}.")
        items += [{"type": kind, kind: value if kind == "text" else _picture(value)} for value in values]
    return items


def _picture(value: Any) -> Any:
    """Pass a picture on; Parquet's `{"bytes", "path"}` becomes its bytes or path."""
    if isinstance(value, Mapping) and (value.get("bytes") is not None or value.get("path") is not None):
        return value["bytes"] if value.get("bytes") is not None else value["path"]
    if isinstance(value, (Image.Image, bytes, str, PathLike)):
        return value
    raise ValueError(f"Unknown picture: {type(value).__name__}. Expected a PIL image, a path or a file's bytes.")


def _from_data_uri(url: Any) -> bytes:
    """Read a picture inside its address, as transformers' server passes it on; no other address is followed."""
    head, _, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not (head.startswith("data:image/") and head.endswith(";base64")):
        raise ValueError(f"Unknown picture: {url!r:.60}. Expected its bytes inside: data:image/png;base64,…")
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ValueError(f"Unknown picture: {url!r:.60} is no base64 ({error}).") from error


def _from_aligned(texts: Any, images: Any) -> list[dict[str, Any]]:
    if not isinstance(texts, (list, tuple)) or not isinstance(images, (list, tuple, NoneType)):
        raise ValueError(f"Expected lists of texts and images, not {type(texts).__name__}, {type(images).__name__}.")
    images = [None] * len(texts) if images is None else images
    if len(texts) != len(images):
        raise ValueError(f"{len(texts)} texts and {len(images)} images: aligned lists must be equally long.")
    items: list[dict[str, Any]] = []
    for text, image in zip(texts, images, strict=True):
        if not isinstance(text, (str, NoneType)):
            raise ValueError(f"Unknown text: {type(text).__name__} {text!r:.50}. Expected a string or null.")
        items += [{"type": "text", "text": text}] if text else []
        items += [{"type": "image", "image": _picture(image)}] if image is not None else []
    return items


def _from_marks(text: str, images: Any) -> list[dict[str, Any]]:
    if not isinstance(images, (list, tuple)):
        raise ValueError(f"Expected a list of images, not {type(images).__name__}.")
    parts = text.split(IMAGE_MARK)
    if len(parts) - 1 != len(images):
        raise ValueError(f"The text has {len(parts) - 1} {IMAGE_MARK} marks but came with {len(images)} pictures.")
    items: list[dict[str, Any]] = [{"type": "text", "text": parts[0]}]
    for image, part in zip(images, parts[1:], strict=True):
        items += [{"type": "image", "image": _picture(image)}, {"type": "text", "text": part}]
    return items


def _joined(items: list[dict[str, Any]]) -> Content:
    """Join neighbouring texts, and leave out empty ones.

    Special tokens that two texts spell together are then as visible as any other.
    """
    content: Content = []
    for item in items:
        if item["type"] == "text" and content and content[-1]["type"] == "text":
            content[-1] = {"type": "text", "text": content[-1]["text"] + item["text"]}
        elif item["type"] == "image" or item["text"]:
            content.append(item)
    return content


def neutralize(text: str, special_tokens: Sequence[str]) -> str:
    """Break literal special tokens in users' text, so that they are read as the characters they are.

    A zero-width space after the first character keeps a tokenizer, and a chat template whose output is tokenized as
    one string, from taking `<|image_pad|>` for a picture.
    """
    for token in special_tokens:
        if token in text:
            text = text.replace(token, token[0] + "\u200b" + token[1:])
    return text
