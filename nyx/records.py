"""How records are kept in Parquet: pictures as bytes, ids as hashes of content."""

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value, load_dataset
from PIL import Image as PILImage

from modeling_nyx.content_nyx import Content, to_content
from modeling_nyx.images_nyx import image_key, load_image

# What is read at once, be it for one row.
ROWS_PER_GROUP = 256
BYTES_PER_GROUP = 2**22  # of pictures


@dataclass(frozen=True)
class Chunk:
    """A part of a document that is retrieved as one."""

    id: str
    document_id: str
    source: str
    content: Content


Record = TypeVar("Record")

_TEXT = Value("string")
_CONTENT = List({"type": _TEXT, "text": _TEXT, "image": Image()})
_FIELDS = {
    "id": _TEXT,
    "document_id": _TEXT,
    "source": _TEXT,
    "modality": _TEXT,
    "kind": _TEXT,
    "content": _CONTENT,
    "question": _CONTENT,
    "query": _CONTENT,
    "positives": List(_CONTENT),
    "negatives": List(_CONTENT),
    "answers": List(_TEXT),
    "options": List(_TEXT),
    "gold_ids": List(_TEXT),
    "correct_option": Value("int32"),
    "utilities": List(Value("float32")),
}
CONTENTS = ("content", "question", "query")
CONTENT_LISTS = ("positives", "negatives")


def features(record: type) -> Features:
    """Return the typed columns of a record."""
    return Features({each.name: _FIELDS[each.name] for each in dataclasses.fields(record)})


def content_id(content: Content) -> str:
    """Hash a content list: its texts and its pictures' bytes (or pixels), in order. 24 hexadecimal digits."""
    parts = [
        ["text", item["text"]] if item["type"] == "text" else ["image", image_key(item["image"])] for item in content
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def image_bytes(image: Any) -> bytes:
    """Return a picture as the bytes of a file: a file's own, or a PIL image's as PNG, upright as it is encoded."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, PILImage.Image):
        buffer = io.BytesIO()
        load_image(image).save(buffer, format="PNG")
        return buffer.getvalue()
    return Path(image).read_bytes()


def as_row(content: Content) -> list[dict[str, Any]]:
    """Spell a content as Parquet holds it: every item has all keys, pictures are bytes."""
    return [
        {"type": "text", "text": item["text"], "image": None}
        if item["type"] == "text"
        else {"type": "image", "text": None, "image": {"bytes": image_bytes(item["image"]), "path": None}}
        for item in content
    ]


def _row(record: Any) -> dict[str, Any]:
    row = {each.name: getattr(record, each.name) for each in dataclasses.fields(record)}
    for name in CONTENTS:
        if name in row:
            row[name] = as_row(row[name])
    for name in CONTENT_LISTS:
        if name in row:
            row[name] = [as_row(content) for content in row[name]]
    return row


def _picture_bytes(row: dict[str, Any]) -> int:
    contents = [row[name] for name in CONTENTS if name in row]
    contents += [content for name in CONTENT_LISTS for content in row.get(name, ())]
    return sum(len(item["image"]["bytes"]) for content in contents for item in content if item["image"])


@contextmanager
def record_writer(path: Path, kind: type) -> Iterator[Callable[[Any], None]]:
    """Give a function that adds a record of one kind to a Parquet file.

    The file appears whole when the block ends, or, if that fails, not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    schema = features(kind).arrow_schema
    rows: list[dict[str, Any]] = []
    size = 0
    try:
        with pq.ParquetWriter(aside, schema) as writer:

            def write(record: Any) -> None:
                nonlocal size
                rows.append(_row(record))
                size += _picture_bytes(rows[-1])
                if len(rows) == ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows.clear()
                    size = 0

            yield write
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_records(records: Iterable[Any], path: Path) -> int:
    """Write records of one kind as Parquet, and return how many. The file appears whole or not at all.

    Raises `ValueError` if there is none: a kind without records has no columns.
    """
    rows, count = iter(records), 0
    first = next(rows, None)
    if first is None:
        raise ValueError(f"No records to write to {path}.")
    with record_writer(path, type(first)) as write:
        for record in chain([first], rows):
            write(record)
            count += 1
    return count


def write_dropped(left_out: Sequence[dict[str, str]], path: Path) -> None:
    """Write what a step left out, a JSON object with its `reason` a line; without any, remove an earlier run's."""
    if not left_out:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside.write_text("".join(json.dumps(each) + "\n" for each in left_out))
    os.replace(aside, path)


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; whatever is found wrong with it, then or while it is read, is a `ValueError` naming it."""
    # Buffering ahead would hold the whole file.
    with naming_damage(path), pq.ParquetFile(path, pre_buffer=False) as file:
        yield file


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Raise `ValueError` with the file's name for whatever Arrow finds wrong with it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error


def batches(file: pq.ParquetFile, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file, some hundred at a time, and never those of two groups together (`BYTES_PER_GROUP`)."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(batch_size=ROWS_PER_GROUP, row_groups=[group], columns=columns)


def read_records(record: type[Record], path: Path) -> Iterator[Record]:
    """Read records of one kind, pictures as bytes.

    Raises `ValueError` when the file lacks a column, naming those it has, and for a row that is no such record.
    """
    names = [each.name for each in dataclasses.fields(record)]  # type: ignore[arg-type]
    with open_parquet(path) as file:
        missing = set(names) - set(file.schema_arrow.names)
        if missing:
            raise ValueError(
                f"{path} has columns {file.schema_arrow.names}, but {record.__name__} needs {sorted(missing)} too."
            )
        number = 0
        for batch in batches(file, names):
            for place in range(batch.num_rows):
                try:
                    found = from_row(record, batch.slice(place, 1).to_pylist()[0])
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{path}, row {number}: {error}") from error
                yield found
                number += 1


def load_records(record: type[Record], name: str, config: str, split: str) -> Iterator[Record]:
    """Stream records of one split of a dataset, by its folder or its repository's name; pictures come as bytes."""
    rows = load_dataset(name, config, split=split, streaming=True).decode(False)
    for row in rows.select_columns([each.name for each in dataclasses.fields(record)]):  # type: ignore[arg-type]
        yield from_row(record, row)


def from_row(record: type[Record], row: dict[str, Any]) -> Record:
    """Make a record of a Parquet row.

    Raises `ValueError` for one without an id or content, or with a picture that isn't a file's bytes.
    """
    if not isinstance(row["id"], str) or not row["id"]:
        raise ValueError(f"The id is {row['id']!r}; expected a string.")
    for name in CONTENTS:
        if name in row:
            row[name] = read_content(row[name])
    for name in CONTENT_LISTS:
        if name in row:
            row[name] = [read_content(content) for content in row[name]]
    return record(**row)


def read_content(value: Any) -> Content:
    """Make a content of what Parquet holds. Raises `ValueError` for what is none."""
    content = to_content(value)
    for item in content:
        # A path in a file is somebody else's: following it would read, and hand on, any file of this machine.
        if item["type"] == "image" and not isinstance(item["image"], bytes):
            raise ValueError(f"The picture is {item['image']!r:.200}; expected a file's bytes.")
    return content
