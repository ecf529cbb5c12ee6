"""Read a folder of Markdown, HTML, PDF and pictures: every file is a page, a picture that no page shows is its own."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from dataset_builders import html, markdown, pdf
from dataset_builders.documents import Page, find_picture, find_pictures
from dataset_builders.fetch import Fetcher
from dataset_builders.schema import Dropped
from modeling_nyx.content_nyx import Content

MARKDOWN = (".md", ".markdown")
PAGES = (*MARKDOWN, ".html", ".htm", ".xhtml", ".pdf")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
MAX_BYTES = 16 * 2**20


def of_kinds(files: Iterable[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in suffixes]


def list_files(folder: Path) -> list[Path]:
    """List a folder's files; what is hidden (`.git`, `.venv`) is none."""
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )


def read_folder(folder: Path, dropped: Dropped, fetch: Fetcher | None = None) -> Iterator[Page]:
    """Read every page below a folder, then the pictures that none of them shows.

    A page's pictures are paths relative to it, and all must lie inside the folder. Of other kinds of files `dropped`
    hears how many there are.
    """
    files, root = list_files(folder), folder.resolve()
    pages, pictures = of_kinds(files, PAGES), of_kinds(files, PICTURES)
    if not pages and not pictures:
        raise ValueError(f"{folder} holds no page: expected {', '.join((*PAGES, *PICTURES))}.")
    shown: set[Path] = set()
    _count_others(files, dropped)

    def find(base: Path, target: Any) -> Path | bytes:
        picture = find_picture(target, base, root, fetch)
        if isinstance(picture, Path):
            shown.add(picture)
        return picture

    for path in pages:
        source = _source(path, folder)
        try:
            items = _read_page(path, root, partial(dropped, source))
        except (ValueError, OSError) as error:
            dropped(source, str(error))
            continue
        yield find_pictures(items, partial(find, path.parent), source, None, dropped)
    for path in pictures:
        if path.resolve() not in shown:
            source, items = _source(path, folder), [{"type": "image", "image": path}]
            yield find_pictures(items, lambda path: _inside(path, root), source, None, dropped)


def _count_others(files: Iterable[Path], dropped: Dropped) -> None:
    suffixes = Counter(path.suffix.lower() for path in files)
    for suffix in sorted(suffixes.keys() - {*PAGES, *PICTURES}):
        dropped(f"*{suffix}", f"{suffixes[suffix]} of a kind that isn't read")


def _source(path: Path, folder: Path) -> str:
    # A file's name may be any bytes, but a record's text is UTF-8.
    return os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")


def _inside(path: Path, root: Path) -> Path:
    if not path.resolve().is_relative_to(root):
        raise ValueError("page outside the folder")
    return path


def _read_page(path: Path, root: Path, told: Any) -> Content:
    """Return a page's items, pictures by their addresses. Raises `ValueError` with why it cannot be read."""
    _inside(path, root)
    if path.suffix.lower() == ".pdf":
        return pdf.read_items(path, told)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"page of {path.stat().st_size} bytes; the limit is {MAX_BYTES}")
    if path.suffix.lower() not in MARKDOWN:
        return html.read_items(path.read_bytes())
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    return [item for block in markdown.read_items(text) for item in block]
