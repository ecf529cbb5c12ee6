"""Read pages that mix text and pictures: Parquet as OBELICS has it, or a folder of Markdown with local pictures.

Both yield documents. What cannot be used is left out and told to `dropped`, with its reason; nothing is fetched, and
no picture outside the folder is read.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow.parquet as pq

from dataset_builders.schema import Document, content_id
from modeling_nyx.content_nyx import Content
from modeling_nyx.images_nyx import BadImage, load_image

# Called with a document's id or source, and why something of it was left out.
Dropped = Callable[[str, str], None]

FRONT_MATTER = re.compile(r"\A---\s*\n.*?\n---\s*(\n|\Z)", re.DOTALL)
ROWS = 16


def read_pages(source: Path, dropped: Dropped) -> Iterator[Document]:
    """Read a Parquet file, or a folder of Markdown. Raises `ValueError` for anything else."""
    if source.is_dir():
        return read_markdown(source, dropped)
    if source.suffix == ".parquet" and source.is_file():
        return read_obelics(source, dropped)
    raise ValueError(
        f"{source} is neither a folder of Markdown nor a .parquet file with aligned `texts` and `images`."
    )


def count_pages(source: Path) -> int:
    """Count the pages of a source without reading them."""
    return len(_markdown_files(source)) if source.is_dir() else pq.read_metadata(source).num_rows


def read_obelics(path: Path, dropped: Dropped) -> Iterator[Document]:
    """Read rows with aligned `texts` and `images` (bytes); `doc_id` and `url` are used where there are any."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if missing := {"texts", "images"} - set(names):
            raise ValueError(f"{path} lacks {sorted(missing)}; it has {names}. Expected OBELICS' aligned lists.")
        columns = [name for name in ("texts", "images", "doc_id", "url") if name in names]
        row = 0
        for batch in file.iter_batches(batch_size=ROWS, columns=columns):
            for each in batch.to_pylist():
                source = each.get("url") or f"{path.name}#{row}"
                row += 1
                if len(each["texts"]) != len(each["images"]):
                    dropped(source, f"{len(each['texts'])} texts but {len(each['images'])} images")
                    continue
                pairs = zip(each["texts"], each["images"], strict=True)
                items = [item for text, image in pairs for item in _aligned(text, image)]
                yield from _document(items, source, each.get("doc_id"), dropped)


def _aligned(text: str | None, image: Any) -> Content:
    data = image["bytes"] if isinstance(image, dict) else image
    texts: Content = [{"type": "text", "text": text}] if text else []
    return texts + ([{"type": "image", "image": data}] if data is not None else [])


def _markdown_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".md", ".markdown") and path.is_file())


def read_markdown(folder: Path, dropped: Dropped) -> Iterator[Document]:
    """Read every .md file below a folder; its pictures are paths relative to it, and must stay inside the folder."""
    files = _markdown_files(folder)
    if not files:
        raise ValueError(f"{folder} holds no .md file.")
    for path in files:
        source = path.relative_to(folder).as_posix()
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            dropped(source, "not UTF-8 text")
            continue
        items = list(_markdown_items(text, path.parent, folder.resolve(), source, dropped))
        yield from _document(items, source, None, dropped)


def _markdown_items(text: str, base: Path, root: Path, source: str, dropped: Dropped) -> Iterator[dict[str, Any]]:
    """Yield paragraphs, headings, cells and code as texts, and pictures where they stand."""
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise ImportError("Markdown needs markdown-it-py: pip install 'nyx-retriever[data]'") from error
    for block in MarkdownIt().enable("table").parse(FRONT_MATTER.sub("", text)):
        if block.type in ("fence", "code_block"):
            yield {"type": "text", "text": block.content}
        words = ""
        for token in block.children or ():
            if token.type != "image":
                words += " " if token.type in ("softbreak", "hardbreak") else token.content
                continue
            yield {"type": "text", "text": words.strip()}
            words = ""
            yield from _local_picture(str(token.attrs["src"]), base, root, source, dropped)
        yield {"type": "text", "text": words.strip()}


def _local_picture(target: str, base: Path, root: Path, source: str, dropped: Dropped) -> Content:
    if urlsplit(target).scheme or target.startswith("//"):
        dropped(source, f"remote picture not fetched: {target:.100}")
        return []
    path = (root / target.lstrip("/") if target.startswith("/") else base / unquote(target)).resolve()
    if not path.is_relative_to(root):
        dropped(source, f"picture outside the folder: {target:.100}")
        return []
    return [{"type": "image", "image": path}]


def _document(items: Content, source: str, name: str | None, dropped: Dropped) -> Iterator[Document]:
    """Yield the document of items whose pictures can all be read, if anything is left."""
    content: Content = []
    for item in items:
        if item["type"] == "text":
            content += [item] if item["text"].strip() else []
            continue
        try:
            load_image(item["image"])
            content.append(item)
        except BadImage as error:
            dropped(source, str(error))
    if content:
        yield Document(id=name or content_id(content), content=content, source=source)
    else:
        dropped(source, "empty page")
