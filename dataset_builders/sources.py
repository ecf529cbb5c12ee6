"""Read pages that mix text and pictures, whatever they are kept in, as documents.

What cannot be used is left out and told to `dropped`, with its reason. Without `fetch` nothing but a named dataset
comes over the network, and no file outside the folder is read.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dataset_builders.documents import Page, make_document
from dataset_builders.fetch import Fetcher
from dataset_builders.folders import PAGES, PICTURES, list_files, of_kinds, read_folder
from dataset_builders.official import read_corpus
from dataset_builders.rows import read_hub, read_json_lines, read_parquet
from dataset_builders.schema import Document, Dropped
from nyx.records import open_parquet

__all__ = ["Dropped", "count_pages", "find_pages", "read_pages"]

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")
OFFICIAL = "corpus.json"


def read_pages(source: str | Path, dropped: Dropped, fetch: Fetcher | None = None) -> Iterator[Document]:
    """Read the documents of a source that `find_pages` knows."""
    for page in find_pages(source, dropped, fetch):
        yield from make_document(page, dropped)


def find_pages(source: str | Path, dropped: Dropped, fetch: Fetcher | None = None) -> Iterator[Page]:
    """Find the pages of a folder, a Parquet or JSON lines file, or a dataset's train split on the Hub (`org/name`).

    Raises `ValueError` for anything else.
    """
    path = Path(source)
    if (path / OFFICIAL).is_file():
        return _read_official(path, dropped)
    if path.is_dir():
        return read_folder(path, dropped, fetch)
    if path.suffix == ".parquet" and path.is_file():
        return read_parquet(path, dropped, fetch)
    if path.suffix == ".jsonl" and path.is_file():
        return read_json_lines(path, dropped, fetch)
    if path.exists():
        raise ValueError(f"{source} is a file. Name its folder, or a .parquet or .jsonl file.")
    if REPOSITORY.fullmatch(str(source)) and path.suffix not in (".parquet", ".jsonl"):
        return read_hub(str(source), "train", dropped, fetch)
    raise ValueError(
        f"{source} is neither a folder of pages, nor a .parquet or .jsonl file, nor a dataset's name (org/name)."
    )


def count_pages(source: str | Path) -> int | None:
    """Count the pages of a folder or a Parquet file without reading them; None where that is not possible."""
    path = Path(source)
    if path.is_dir() and not (path / OFFICIAL).is_file():
        files = list_files(path)
        return len(of_kinds(files, PAGES)) or len(of_kinds(files, PICTURES))
    if path.suffix != ".parquet" or not path.is_file():
        return None
    with open_parquet(path) as file:
        return file.metadata.num_rows


def _read_official(folder: Path, dropped: Dropped) -> Iterator[Page]:
    """Read the authors' corpus: each of its chunks is a page."""
    rows = json.loads((folder / OFFICIAL).read_text(encoding="utf-8"))
    for chunk in read_corpus(rows, folder / "images", partial(_told, dropped)):
        yield Page(chunk.source, chunk.id, chunk.content)


def _told(dropped: Dropped, row: str, reason: str) -> None:
    dropped(f"{OFFICIAL}, {row}", reason)
