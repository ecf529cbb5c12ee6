"""Read pages that mix text and pictures: Parquet as OBELICS has it, or a folder of Markdown with local pictures.

Both yield documents. What cannot be used is left out and told to `dropped`, with its reason; nothing is fetched, and
no file outside the folder is read.
"""

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dataset_builders.markdown import read_items
from dataset_builders.schema import Document, content_id
from modeling_nyx.content_nyx import Content
from modeling_nyx.images_nyx import load_image
from nyx.records import open_parquet

# Called with a document's id or source, and why something of it was left out.
Dropped = Callable[[str, str], None]

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
    if source.is_dir():
        return len(_markdown_files(source))
    with open_parquet(source) as file:
        return file.metadata.num_rows


def read_obelics(path: Path, dropped: Dropped) -> Iterator[Document]:
    """Read rows with aligned `texts` and `images` (bytes); `doc_id` and `url` are used where there are any."""
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        if missing := {"texts", "images"} - set(names):
            raise ValueError(f"{path} lacks {sorted(missing)}; it has {names}. Expected OBELICS' aligned lists.")
        columns = [name for name in ("texts", "images", "doc_id", "url") if name in names]
        number = 0
        for batch in file.iter_batches(batch_size=ROWS, columns=columns):
            for place in range(batch.num_rows):
                yield from _aligned_row(batch.slice(place, 1), f"{path.name}#{number}", dropped)
                number += 1


def _aligned_row(row: Any, source: str, dropped: Dropped) -> Iterator[Document]:
    """Yield the document of a table of one row, if its lists can be used."""
    try:
        values = row.to_pylist()[0]
        source = str(values.get("url") or source)
        pairs = _pairs(values["texts"], values["images"])
    except ValueError as error:  # to_pylist too raises it, for text that isn't UTF-8
        dropped(source, str(error))
        return
    items: Content = []
    for text, image in pairs:
        data = image.get("bytes") if isinstance(image, dict) else image
        if text:
            items.append({"type": "text", "text": text})
        if isinstance(data, bytes):
            items.append({"type": "image", "image": data})
        elif image is not None:
            # A path or an address in a file is somebody else's, and never followed.
            dropped(source, f"picture without its bytes: {image!r:.200}")
    name = values.get("doc_id")
    yield from _document(items, source, None if name is None else str(name), dropped)


def _pairs(texts: Any, images: Any) -> list[tuple[str | None, Any]]:
    if not isinstance(texts, list) or not isinstance(images, list):
        raise ValueError(f"texts are {texts!r:.50} and images {images!r:.50}; expected two lists")
    if len(texts) != len(images):
        raise ValueError(f"{len(texts)} texts but {len(images)} images")
    if odd := [text for text in texts if not isinstance(text, str | None)]:
        raise ValueError(f"{odd[0]!r:.50} is among the texts; expected strings")
    return list(zip(texts, images, strict=True))


def _markdown_files(folder: Path) -> list[Path]:
    """List a folder's Markdown; what is hidden (`.git`, `.venv`) is no page."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in (".md", ".markdown")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def read_markdown(folder: Path, dropped: Dropped) -> Iterator[Document]:
    """Read every .md file below a folder; its pictures are paths relative to it. All must lie inside the folder."""
    files, root = _markdown_files(folder), folder.resolve()
    if not files:
        raise ValueError(f"{folder} holds no .md file.")
    for path in files:
        # A file's name may be any bytes, but a record's text is UTF-8.
        source = os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")
        if not path.resolve().is_relative_to(root):
            dropped(source, "page outside the folder")
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (UnicodeDecodeError, OSError) as error:
            dropped(source, str(error) if isinstance(error, OSError) else "not UTF-8 text")
            continue
        found = [item for block in read_items(text) for item in block]
        items = list(_with_pictures(found, path.parent, root, source, dropped))
        yield from _document(items, source, None, dropped)


def _with_pictures(items: Content, base: Path, root: Path, source: str, dropped: Dropped) -> Iterator[dict[str, Any]]:
    """Yield texts, and pictures with the file or the bytes that their target stands for."""
    for item in items:
        try:
            yield item if item["type"] == "text" else item | {"image": _find(item["image"], base, root)}
        except (ValueError, OSError, RuntimeError) as error:  # what urlsplit and resolve raise for odd targets
            dropped(source, f"{error}: {item['image']:.100}")


def _find(target: str, base: Path, root: Path) -> Path | bytes:
    """Return a picture's path, or the bytes in a data: address. Raises `ValueError` with why it has neither."""
    url = urlsplit(target)
    if url.scheme == "data":
        head, _, data = url.path.partition(",")
        if not head.lower().endswith(";base64"):
            raise ValueError("picture in a data: address that is not base64")
        return base64.b64decode("".join(unquote(data).split()), validate=True)
    if url.scheme or url.netloc:
        raise ValueError("remote picture not fetched")
    place = unquote(url.path, errors="surrogateescape")
    if not place:
        raise ValueError("picture without a source")
    path = (root / place.lstrip("/") if place.startswith("/") else base / place).resolve()
    if not path.is_relative_to(root):
        raise ValueError("picture outside the folder")
    return path


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
        except (ValueError, OSError) as error:
            dropped(source, str(error))
    if content:
        yield Document(id=name or content_id(content), content=content, source=source)
    else:
        dropped(source, "empty page")
