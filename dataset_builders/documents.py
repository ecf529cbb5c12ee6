"""Make a document of what was read: find its pictures, and leave out what cannot be used, with its reason."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dataset_builders.fetch import Fetcher
from dataset_builders.schema import Document, Dropped, content_id
from modeling_nyx.content_nyx import Content
from modeling_nyx.images_nyx import BadImage, load_image

# Returns the file or the bytes that a picture's address stands for. Raises `ValueError` with why there is none.
Find = Callable[[Any], Path | bytes]

MAX_PICTURES = 1000


@dataclass(frozen=True)
class Page:
    """What a source says of a page: texts, and pictures that were found, whether they can be read or not."""

    source: str
    name: str | None
    content: Content


def find_pictures(items: Content, find: Find, source: str, name: str | None, dropped: Dropped) -> Page:
    """Make a page of items, with the pictures that can be found."""
    content: Content = []
    pictures = 0
    for item in items:
        if item["type"] == "text":
            content += [item] if _is_text(item["text"], source, dropped) else []
            continue
        pictures += 1
        if pictures > MAX_PICTURES:
            continue
        try:
            content.append({"type": "image", "image": find(item["image"])})
        except (ValueError, OSError, RuntimeError) as error:  # urlsplit and resolve raise all for odd targets
            dropped(source, f"{error}: {str(item['image']):.100}")
    if pictures > MAX_PICTURES:
        dropped(source, f"{pictures - MAX_PICTURES} pictures beyond the first {MAX_PICTURES}")
    return Page(source, name, content)


def make_document(page: Page, dropped: Dropped) -> Iterator[Document]:
    """Yield the document of a page without the pictures that cannot be read, if anything is left."""
    content: Content = []
    for item in page.content:
        try:
            if item["type"] == "image":
                load_image(item["image"])
            content.append(item)
        except BadImage as error:
            dropped(page.source, str(error))
    if content:
        yield Document(id=page.name or content_id(content), content=content, source=page.source)
    else:
        dropped(page.source, "empty page")


def _is_text(text: str, source: str, dropped: Dropped) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        dropped(source, f"half a character in the text {text!r:.50}: {error.reason}")
        return False
    return bool(text.strip())


def find_picture(target: Any, base: Path, root: Path, fetch: Fetcher | None = None) -> Path | bytes:
    """Find a picture by its bytes, data: address, path within `root`, or, where there is `fetch`, remote address."""
    if isinstance(target, bytes):
        return target
    url = urlsplit(str(target))
    if url.scheme == "data":
        return _from_data(url.path)
    if url.scheme or url.netloc:
        return find_remote(str(target), fetch)
    place = unquote(url.path, errors="surrogateescape")
    if not place:
        raise ValueError("picture without a source")
    path = (root / place.lstrip("/") if place.startswith("/") else base / place).resolve()
    if not path.is_relative_to(root):
        raise ValueError("picture outside the folder")
    return path


def find_remote(target: Any, fetch: Fetcher | None) -> Path | bytes:
    """Find a picture of a file that comes from elsewhere: by its bytes or remote address alone.

    A path in such a file is somebody else's, and never followed.
    """
    if isinstance(target, bytes):
        return target
    address = str(target)
    if address.startswith("//"):
        address = f"https:{address}"
    if not is_remote(address):
        raise ValueError("picture without its bytes")
    if fetch is None:
        raise ValueError("remote picture not fetched")
    return fetch(address)


def is_remote(target: Any) -> bool:
    return isinstance(target, str) and target.lower().startswith(("http://", "https://"))


def _from_data(path: str) -> bytes:
    head, _, data = path.partition(",")
    if not head.lower().endswith(";base64"):
        raise ValueError("picture in a data: address that is not base64")
    return base64.b64decode("".join(unquote(data).split()), validate=True)
