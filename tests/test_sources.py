"""Pages are read with their pictures in place; what is left out is told."""

import base64
import io
import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fpdf import FPDF

import dataset_builders.folders
from dataset_builders.chunks import chunk_documents
from dataset_builders.schema import write_records
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
    assert shown == [*before, "place | month", "marsh | May", "PICTURE"]
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


def test_a_page_outside_the_folder_is_not_read(folder, tmp_path):
    (tmp_path / "secret.md").write_text("secret")
    os.symlink(tmp_path / "secret.md", folder / "link.md")
    (folder / "loop.md").symlink_to("loop.md")
    documents, left_out = read(folder)
    assert [page.source for page in documents] == ["a.md"] and ("link.md", "page outside the folder") in left_out


def test_hidden_folders_are_no_pages(folder):
    for name in (".git", ".venv/deep"):
        (folder / name).mkdir(parents=True)
        (folder / name / "b.md").write_text("hidden")
    (folder / ".c.md").write_text("hidden")
    assert [page.source for page in read(folder)[0]] == ["a.md"] and count_pages(folder) == 3


@pytest.mark.parametrize(
    "target",
    ["/img/moth%20one.png", "img/moth%20one.png", "<img/moth one.png>", "img/moth%20one.png?raw=true#top"],
)
def test_every_spelling_of_a_picture_is_found(folder, target):
    (folder / "img" / "moth one.png").write_bytes(png(3))
    (folder / "a.md").write_text(f"![x]({target})")
    page, *_ = read(folder)[0]
    assert image_key(page.content[0]["image"]) == image_key(png(3))


def test_a_picture_in_its_address_is_decoded(folder):
    data = base64.b64encode(png(3)).decode()
    (folder / "a.md").write_text(
        f'![x](data:image/png;base64,{data})\n\n<img src="data:image/png;base64,{data[:60]}\n{data[60:]}">\n\n'
        "![y](data:image/svg+xml,%3Csvg%3E) ![z](data:image/png;base64,A)"
    )
    (page, _), left_out = read(folder)
    assert [image_key(item["image"]) for item in page.content] == [image_key(png(3))] * 2
    reasons = [reason for source, reason in left_out if source == "a.md"]
    assert len(reasons) == 2 and "a data: address that is not base64: data:image/svg" in reasons[0]
    assert "base64,A" in reasons[1] and not any("remote" in reason for reason in reasons)


def test_html_is_read_in_place(folder):
    (folder / "a.md").write_text(
        '<div>before <b>bold</b>\n<img src="img/moth.png" alt="x"> after</div>\n\n'
        'Inline <img src="/img/moth.png"/> picture. <img alt="no source">'
    )
    (page,), left_out = read(folder)
    shown = [item["text"] if item["type"] == "text" else "PICTURE" for item in page.content]
    assert shown == ["before bold", "PICTURE", "after", "Inline", "PICTURE", "picture."]
    assert left_out[0] == ("a.md", "picture without a source: ")


def test_odd_targets_are_left_out(folder):
    odd = ["http://[x", "img%00.png", "a" * 5000, "loop.png", "//host/x.png", "file:///etc/passwd"]
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "a.md").write_text("Words\n\n" + "\n\n".join(f"![x](<{target}>)" for target in odd))
    (page, _), left_out = read(folder)
    assert page.content == [text("Words")] and sum(source == "a.md" for source, _ in left_out) == len(odd)


def test_a_byte_order_mark_leaves_front_matter_in_front(folder):
    (folder / "a.md").write_bytes(b"\xef\xbb\xbf---\ntitle: x\n---\nWords")
    assert read(folder)[0][0].content == [text("Words")]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names must be Unicode")
def test_a_name_that_is_not_unicode_is_spelt(folder, tmp_path):
    (folder / "a.md").rename(folder / os.fsdecode(b"caf\xe9.md"))
    documents, _ = read(folder)
    assert [page.source for page in documents] == ["caf\\xe9.md"]
    write_records(chunk_documents(documents, len), tmp_path / "c.parquet")


def obelics(path, rows, **kinds):
    schema = pa.schema(
        {"texts": pa.list_(pa.string()), "images": pa.list_(pa.binary()), "doc_id": pa.string(), "url": pa.string()}
        | kinds
    )
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


def test_a_path_in_a_file_is_never_followed(folder, tmp_path):
    secret = str(tmp_path / "secret.png")
    path = obelics(tmp_path / "p.parquet", [{"texts": ["a"], "images": [secret]}], images=pa.list_(pa.string()))
    documents, left_out = read(path)
    assert documents[0].content == [text("a")] and "picture without its bytes" in left_out[0][1]
    kind = pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    pictures = [{"bytes": png(), "path": None}, {"bytes": None, "path": secret}]
    path = obelics(tmp_path / "s.parquet", [{"texts": [None, None], "images": pictures, "url": "u"}], images=kind)
    documents, left_out = read(path)
    assert [item["image"] for item in documents[0].content] == [png()]
    assert left_out[0][0] == "u" and "picture without its bytes" in left_out[0][1]


def test_a_bad_row_is_left_out_alone(tmp_path):
    good = {"texts": ["a"], "images": [None], "doc_id": 7}
    rows = [{"texts": None, "images": [None]}, {"texts": ["a"], "images": None}, good]
    documents, left_out = read(obelics(tmp_path / "o.parquet", rows, doc_id=pa.int64()))
    assert [(page.id, page.source) for page in documents] == [("7", "o.parquet#2")]
    assert [source for source, _ in left_out] == ["o.parquet#0", "o.parquet#1"]
    assert "texts are None" in left_out[0][1] and "images None" in left_out[1][1]
    rows = [{"texts": [1, 2], "images": [None, None]}]
    documents, left_out = read(obelics(tmp_path / "i.parquet", rows, texts=pa.list_(pa.int64())))
    assert documents == [] and "1 is among the texts" in left_out[0][1]
    broken = pa.array([b"\xff"]).view(pa.string())
    table = {"texts": pa.array([["a"], ["b"]]), "images": pa.array([[None], [None]], pa.list_(pa.binary()))}
    pq.write_table(pa.table(table | {"url": pa.concat_arrays([broken, pa.array(["u"])])}), tmp_path / "u.parquet")
    documents, left_out = read(tmp_path / "u.parquet")
    assert [page.source for page in documents] == ["u"] and left_out[0][0] == "u.parquet#0"


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    for reading in (read, count_pages):
        with pytest.raises(ValueError, match="x.parquet cannot be read as Parquet"):
            reading(tmp_path / "x.parquet")


def test_other_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a folder of pages, nor"):
        read(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="holds no page"):
        read(tmp_path)
    (tmp_path / "page.md").touch()
    with pytest.raises(ValueError, match="page.md is a file. Name its folder"):
        read(tmp_path / "page.md")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="lacks a page; it has"):
        read(tmp_path / "x.parquet")


@pytest.fixture
def mixed(folder) -> Path:
    (folder / "b.html").write_text('<nav>x</nav><h1>Moths</h1><p>By night <img src="img/moth.png"> they fly.')
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica")
    pdf.cell(text="Printed moths")
    pdf.output(folder / "c.PDF")
    (folder / "img" / "lone.png").write_bytes(png(4))
    return folder


def test_a_folder_mixes_pages(mixed):
    documents, _ = read(mixed)
    assert [page.source for page in documents] == ["a.md", "b.html", "c.PDF", "img/lone.png"]
    shown = [[item["text"] if item["type"] == "text" else "PICTURE" for item in page.content] for page in documents]
    assert shown[1:] == [["Moths", "By night", "PICTURE", "they fly."], ["Printed moths"], ["PICTURE"]]


def test_files_of_other_kinds_are_counted(mixed):
    for name in ("notes.txt", "img/more.TXT", "LICENSE", ".hidden.txt"):
        (mixed / name).touch()
    left_out = read(mixed)[1]
    assert ("*.txt", "2 of a kind that isn't read") in left_out and ("*", "1 of a kind that isn't read") in left_out


def test_one_bad_page_stops_no_other(mixed, monkeypatch):
    monkeypatch.setattr(dataset_builders.folders, "MAX_BYTES", 300_000)
    (mixed / "bomb.html").write_text("<div>" * 50_000)
    (mixed / "huge.html").write_text("a" * 300_001)
    (mixed / "huge.md").write_text("a" * 300_001)
    (mixed / "broken.pdf").write_bytes(b"%PDF-1.7")
    (mixed / "many.html").write_text('Words <img src="img/moth.png">' * 1100)
    (mixed / "truncated.png").write_bytes(png()[:-30])
    documents, left_out = read(mixed)
    sources = [page.source for page in documents]
    assert sources == ["a.md", "b.html", "c.PDF", "many.html", "img/lone.png"]
    reasons = dict(left_out)
    assert "nested more than 512 tags" in reasons["bomb.html"] and "PDF cannot be read" in reasons["broken.pdf"]
    assert "the limit is 300000" in reasons["huge.html"] and "the limit is 300000" in reasons["huge.md"]
    assert "100 pictures beyond the first 1000" in reasons["many.html"]
    assert sum(item["type"] == "image" for item in documents[3].content) == 1000
    assert ["cannot be decoded" in reason for source, reason in left_out if source == "truncated.png"] == [True, False]


def test_the_authors_corpus_is_a_source(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(png())
    rows = [{"text": "a <|image|> b", "images": ["1.png"]}, {"text": "c", "images": ["../x.png"]}]
    (tmp_path / "corpus.json").write_text(json.dumps(rows))
    (page,), left_out = read(tmp_path)
    assert [item["type"] for item in page.content] == ["text", "image", "text"]
    assert left_out[0][0] == "corpus.json, row 1" and count_pages(tmp_path) is None
