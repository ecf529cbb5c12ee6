"""Pages are read with their pictures in place; what is left out is told."""

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builders.sources import count_pages, read_pages
from modeling_nyx.images_nyx import image_key
from tests.conftest import colored, text

PAGE = """---
title: Moths
---
# Night moths

A first *line*
and a second. ![a moth](img/moth.png) After the picture.

| place | month |
|---|---|
| marsh | May |

![far](https://example.org/moth.png) ![out](../secret.png) ![none](img/none.png) ![root](/img/moth.png)
"""


def png(seed=1) -> bytes:
    buffer = io.BytesIO()
    colored(60, 60, seed).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    pages = tmp_path / "pages"
    (pages / "img").mkdir(parents=True)
    (pages / "img" / "moth.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png(2))
    (pages / "a.md").write_text(PAGE)
    (pages / "empty.md").write_text("")
    (pages / "latin.md").write_bytes(b"caf\xe9 \xff")
    return pages


def read(source):
    left_out = []
    return list(read_pages(source, lambda page, reason: left_out.append((page, reason)))), left_out


def test_markdown(folder):
    documents, left_out = read(folder)
    (page,) = documents
    shown = [item["text"] if item["type"] == "text" else "PICTURE" for item in page.content]
    before = ["Night moths", "A first line and a second.", "PICTURE", "After the picture."]
    assert shown == [*before, "place", "month", "marsh", "May", "PICTURE"]
    assert page.source == "a.md" and count_pages(folder) == 3
    assert [reason.split(":")[0] for _, reason in left_out] == [
        "remote picture not fetched",
        "picture outside the folder",
        "No such picture file",
        "empty page",
        "not UTF-8 text",
    ]


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    os.symlink(tmp_path / "secret.png", folder / "img" / "link.png")
    (folder / "a.md").write_text("Words ![x](img/link.png)")
    documents, left_out = read(folder)
    assert documents[0].content == [text("Words")] and "outside the folder" in left_out[0][1]


def obelics(path, rows):
    images = pa.list_(pa.binary())
    schema = pa.schema({"texts": pa.list_(pa.string()), "images": images, "doc_id": pa.string(), "url": pa.string()})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def test_obelics(tmp_path):
    good = {"texts": ["a", None, "b"], "images": [None, png(), None], "doc_id": "1", "url": "u1"}
    broken = {"texts": [None, "c"], "images": [b"no picture", None], "doc_id": "2", "url": "u2"}
    uneven = {"texts": ["d"], "images": [], "doc_id": "3", "url": "u3"}
    documents, left_out = read(obelics(tmp_path / "o.parquet", [good, broken, uneven]))
    assert [(each.id, each.source) for each in documents] == [("1", "u1"), ("2", "u2")]
    assert [item["type"] for item in documents[0].content] == ["text", "image", "text"]
    assert image_key(documents[0].content[1]["image"]) == image_key(png())
    assert documents[1].content == [text("c")]
    assert [page for page, _ in left_out] == ["u2", "u3"] and "1 texts but 0 images" in left_out[1][1]


def test_other_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a folder of Markdown nor"):
        read(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="holds no .md file"):
        read(tmp_path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"lacks \['images', 'texts'\]"):
        read(tmp_path / "x.parquet")
