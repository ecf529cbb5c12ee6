"""Read a visitor's own pages: uploads → chunks, in a folder that is gone when they are read."""

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from dataset_builders.chunks import chunk_documents, piece_counter
from dataset_builders.documents import Page, make_document
from dataset_builders.folders import MARKDOWN, PAGES, PICTURES, read_folder
from dataset_builders.schema import Dropped
from library import Told
from modeling_nyx.content_nyx import Content
from modeling_nyx.images_nyx import image_size
from nyx.records import Chunk, image_bytes
from questions import MOST_PIXELS

KINDS = (*PAGES, *PICTURES)
MOST_FILES = 20
MOST_BYTES = 40 * 10**6
MOST_CHUNKS = 300
# Reading brackets and stars alone takes seconds a megabyte, and MOST_CHUNKS are a third of one.
MOST_MARKDOWN = 10**6  # bytes
TOO_LARGE = f"picture of more than {MOST_PIXELS // 10**6} million pixels"


@dataclass(frozen=True)
class Pages:
    """What was read, pictures as bytes, and what was left out: (file, reason)."""

    chunks: list[Chunk]
    files: int
    left_out: list[tuple[str, str]]


def read_pages(uploads: Sequence[str | Path], told: Told) -> Pages:
    """Cut uploaded pages into chunks. A Markdown or HTML page finds its pictures among the uploads, by their names.

    Raises `ValueError` for too much; a file that cannot be read is left out.
    """
    paths = [Path(each) for each in uploads]
    size = sum(path.stat().st_size for path in paths)
    if not paths:
        raise ValueError(f"Choose files first: {', '.join(KINDS)}.")
    if len(paths) > MOST_FILES or size > MOST_BYTES:
        raise ValueError(
            f"At most {MOST_FILES} files, {MOST_BYTES // 10**6} MB together; {len(paths)} of {size / 1e6:.0f} MB came."
        )
    left_out: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="nyx-pages-") as name:
        folder = Path(name)

        def dropped(source: str, reason: str) -> None:
            # The reason may name the file by where it lies on this machine.
            left_out.append((source, reason.replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")))

        for path in paths:
            _place(path, folder, dropped)
        told((0, len(paths)), "reading pages")
        found = read_folder(folder, dropped) if any(folder.iterdir()) else iter(())
        documents = (document for page in found for document in make_document(_bounded(page, dropped), dropped))
        chunks = [_held(chunk) for chunk in islice(chunk_documents(documents, piece_counter()), MOST_CHUNKS + 1)]
    if len(chunks) > MOST_CHUNKS:
        chunks.pop()
        left_out.append(("the rest", f"more than {MOST_CHUNKS} pieces of page"))
    return Pages(_distinct(chunks), len(paths), left_out)


def _place(path: Path, folder: Path, dropped: Dropped) -> None:
    """Copy an upload under its bare name, if it is of a kind that is read."""
    if path.suffix.lower() not in KINDS:
        dropped(path.name, f"{path.suffix or 'no suffix'}; expected {', '.join(KINDS)}")
    elif (folder / path.name).exists():
        dropped(path.name, "another upload has its name")
    elif path.suffix.lower() in MARKDOWN and path.stat().st_size > MOST_MARKDOWN:
        dropped(path.name, f"Markdown of more than {MOST_MARKDOWN // 10**6} MB")
    elif path.suffix.lower() in PICTURES and _is_too_large(path):
        dropped(path.name, TOO_LARGE)
    else:
        shutil.copyfile(path, folder / path.name)


def _bounded(page: Page, dropped: Dropped) -> Page:
    """Leave out pictures that are too large, before they are decoded: HTML and PDF bring some along."""
    content: Content = []
    for item in page.content:
        if item["type"] == "image" and _is_too_large(item["image"]):
            dropped(page.source, TOO_LARGE)
        else:
            content.append(item)
    return replace(page, content=content)


def _is_too_large(picture: Path | bytes) -> bool:
    try:
        width, height = image_size(picture)
    except ValueError:
        return False  # what is wrong with it, its reader will say
    return width * height > MOST_PIXELS


def _held(chunk: Chunk) -> Chunk:
    """Hold a chunk's pictures in memory: their files go away."""
    items = [
        item if item["type"] == "text" else {"type": "image", "image": image_bytes(item["image"])}
        for item in chunk.content
    ]
    return replace(chunk, content=items)


def _distinct(chunks: Iterable[Chunk]) -> list[Chunk]:
    return list({chunk.id: chunk for chunk in chunks}.values())
