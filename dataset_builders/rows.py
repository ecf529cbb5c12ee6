"""Read rows that are pages: OBELICS' aligned lists, or content lists, from Parquet, JSON lines or the Hub."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
from datasets import load_dataset

from dataset_builders.documents import Find, Page, find_picture, find_pictures, find_remote, is_remote
from dataset_builders.fetch import Fetcher
from dataset_builders.schema import Dropped
from modeling_nyx.content_nyx import Content, to_content
from nyx.records import open_parquet

ROWS = 16
# Columns that hold a page: `content` in any spelling, or one of the spellings itself.
PAGES = ("content", "texts", "images", "text", "image", "messages")
NAMES = ("id", "doc_id", "source", "url", "general_metadata")
MAX_LINE = 64 * 2**20

Row = dict[str, Any]


def read_parquet(path: Path, dropped: Dropped, fetch: Fetcher | None = None) -> Iterator[Page]:
    """Read a Parquet file's rows; pictures are bytes or addresses."""
    with open_parquet(path) as file:
        yield from _pages(_parquet_rows(file, path, dropped), partial(find_remote, fetch=fetch), dropped, fetch)


def _parquet_rows(file: pq.ParquetFile, path: Path, dropped: Dropped) -> Iterator[tuple[str, Row]]:
    columns, number = _columns(file.schema_arrow.names, str(path)), -1
    for batch in file.iter_batches(batch_size=ROWS, columns=columns):
        for place in range(batch.num_rows):
            number += 1
            try:
                yield f"{path.name}#{number}", batch.slice(place, 1).to_pylist()[0]
            except ValueError as error:  # text that isn't UTF-8
                dropped(f"{path.name}#{number}", str(error))


def read_json_lines(path: Path, dropped: Dropped, fetch: Fetcher | None = None) -> Iterator[Page]:
    """Read a JSON object a line; pictures are paths relative to the file, and inside its folder."""
    find = partial(find_picture, base=path.parent, root=path.parent.resolve(), fetch=fetch)
    with path.open("rb") as file:
        yield from _pages(_json_rows(file, path, dropped), find, dropped, fetch)


def _json_rows(file: BinaryIO, path: Path, dropped: Dropped) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(_lines(file)):
        source = f"{path.name}#{number}"
        try:
            if line is None:
                raise ValueError(f"line of more than {MAX_LINE} bytes")
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"{row!r:.50} is no JSON object")
            _columns(list(row), "it")
        except (ValueError, RecursionError) as error:
            dropped(source, str(error))
            continue
        yield source, row


def read_hub(name: str, split: str, dropped: Dropped, fetch: Fetcher | None = None) -> Iterator[Page]:
    """Stream one split of a dataset, by its repository's name or its folder. Raises `ValueError` if it isn't there."""
    try:
        rows = load_dataset(name, split=split, streaming=True).decode(False)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(f"There is no folder {name} here, nor can a dataset be had by that name: {error}") from error
    if rows.column_names is not None:
        rows = rows.select_columns(_columns(rows.column_names, name))
    numbered = ((f"{name}#{number}", row) for number, row in enumerate(rows))
    yield from _pages(numbered, partial(find_remote, fetch=fetch), dropped, fetch)


def _pages(rows: Iterable[tuple[str, Row]], find: Find, dropped: Dropped, fetch: Fetcher | None) -> Iterator[Page]:
    """Make pages of rows; the pictures of the next rows are fetched while one is read."""
    ahead: deque[tuple[str, Row]] = deque()
    for source, row in rows:
        if fetch is None:
            yield from _page(row, source, find, dropped)
            continue
        images = row.get("images")
        fetch.begin(each for each in (images if isinstance(images, list) else ()) if is_remote(each))
        ahead.append((source, row))
        if len(ahead) > ROWS:
            source, row = ahead.popleft()
            yield from _page(row, source, find, dropped)
    for source, row in ahead:
        yield from _page(row, source, find, dropped)


def _columns(names: list[str], where: str) -> list[str]:
    found = [name for name in PAGES if name in names]
    if not found:
        raise ValueError(f"{where} lacks a page; it has {names}. Expected `content`, or aligned `texts` and `images`.")
    return [*(found[:1] if found[0] == "content" else found), *(name for name in NAMES if name in names)]


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines that aren't blank; None for one that is too long to be kept."""
    while line := file.readline(MAX_LINE):
        if len(line) < MAX_LINE:
            if line.strip():
                yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)
        yield None


def _page(row: Row, source: str, find: Find, dropped: Dropped) -> Iterator[Page]:
    try:
        source = _utf8(row.get("source") or row.get("url") or _address(row.get("general_metadata")) or source)
        name = next((_utf8(row[name]) for name in ("id", "doc_id") if row.get(name) is not None), None)
        items = _items(row)
    except (ValueError, RecursionError) as error:
        dropped(source, str(error))
        return
    yield find_pictures(items, find, source, name, dropped)


def _utf8(value: Any) -> str:
    """Spell a name or an address. Raises `ValueError` for half a character, which no file holds."""
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character in {text!r:.50}: {error.reason}") from error
    return text


def _address(metadata: Any) -> Any:
    """Return the page's address, which OBELICS keeps in JSON in a column."""
    try:
        return json.loads(metadata).get("url") if metadata else None
    except (TypeError, ValueError, AttributeError):
        return None


def _items(row: Row) -> Content:
    if row.get("content") is not None:
        return to_content(row["content"])
    if "texts" in row:
        return list(_aligned(row["texts"], row.get("images")))
    spelt = {name: row[name] for name in ("text", "image", "images") if name in row} or row.get("messages")
    if spelt is None:
        raise ValueError("the page is null")
    return to_content(spelt)


def _aligned(texts: Any, images: Any) -> Iterable[Row]:
    """Yield the items of aligned lists; a picture that is neither bytes nor an address costs no more than itself."""
    if not isinstance(texts, list) or not isinstance(images, list):
        raise ValueError(f"texts are {texts!r:.50} and images {images!r:.50}; expected two lists")
    if len(texts) != len(images):
        raise ValueError(f"{len(texts)} texts but {len(images)} images")
    if odd := [text for text in texts if not isinstance(text, str | None)]:
        raise ValueError(f"{odd[0]!r:.50} is among the texts; expected strings")
    for text, image in zip(texts, images, strict=True):
        if text:
            yield {"type": "text", "text": text}
        if image is not None:
            data = image.get("bytes") if isinstance(image, dict) else image
            yield {"type": "image", "image": image if data is None else data}
