"""Rows of content lists and of aligned lists become documents, whatever file they come from."""

import base64
import json

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dataset_builders.rows
from dataset_builders.documents import make_document
from dataset_builders.rows import read_hub, read_json_lines, read_parquet
from dataset_builders.schema import Chunk, content_id, write_records
from modeling_nyx.images_nyx import image_key
from tests.conftest import text
from tests.test_sources import png


def read(reader, *arguments, **options):
    left_out = []

    def dropped(page, reason):
        left_out.append((page, reason))

    pages = reader(*arguments, dropped, **options)
    return [document for page in pages for document in make_document(page, dropped)], left_out


def lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_json_lines_of_every_spelling(tmp_path):
    (tmp_path / "moth.png").write_bytes(png())
    moth = {"type": "image", "image": "moth.png"}
    path = lines(
        tmp_path / "a.jsonl",
        {"id": 7, "source": "s", "content": [{"type": "text", "text": "a"}, moth]},
        {"content": "words"},
        "",
        {"text": "a", "image": "moth.png"},
        {"text": "a<|image|>b", "images": ["moth.png"]},
        {"texts": ["a", None], "images": [None, "moth.png"]},
        {"messages": [{"role": "user", "content": [moth]}]},
        {"image": f"data:image/png;base64,{base64.b64encode(png()).decode()}"},
    )
    documents, left_out = read(read_json_lines, path)
    assert not left_out and (documents[0].id, documents[0].source) == ("7", "s")
    assert documents[1].id == content_id([text("words")]) and documents[1].source == "a.jsonl#1"
    kinds = ["".join(item["type"][0] for item in page.content) for page in documents]
    assert kinds == ["ti", "t", "ti", "tit", "ti", "i", "i"]
    keys = {image_key(item["image"]) for page in documents for item in page.content if item["type"] == "image"}
    assert keys == {image_key(png())}


def test_a_bad_line_is_left_out_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_builders.rows, "MAX_LINE", 300_000)
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    bad = {
        "{": "Expecting",
        "[1]": "is no JSON object",
        "[" * 200_000: "recursion",
        '{"content": ' + "[" * 5000 + "]" * 5000 + "}": "recursion",
        '{"x": 1}': "lacks a page",
        '{"content": 1}': "Unknown content",
        '{"content": "\\ud800"}': "half a character",
        '{"id": "\\ud800", "text": "a"}': "half a character in '\\ud800'",
        '{"url": "http://\\ud800", "text": "a"}': "half a character in 'http://",
        '{"source": "\\ud800", "text": "a"}': "half a character",
        '{"content": null}': "the page is null",
        '{"content": null, "messages": null}': "the page is null",
        '{"texts": null, "content": null}': "texts are None",
        '{"text": "' + "a" * 700_000 + '"}': "line of more than 300000 bytes",
        '{"image": "../secret.png"}': "picture outside the folder",
        '{"image": "/etc/passwd"}': "No such picture file",
        '{"image": "http://127.0.0.1/x.png"}': "remote picture not fetched",
        '{"image": "none.png"}': "No such picture file",
    }
    documents, left_out = read(read_json_lines, lines(folder / "a.jsonl", *bad, {"text": "good"}))
    assert [page.source for page in documents] == [f"a.jsonl#{len(bad)}"]
    reasons = dict(reversed(left_out))
    for number, expected in enumerate(bad.values()):
        assert expected in reasons[f"a.jsonl#{number}"]


def test_a_row_without_content_is_left_out_alone(tmp_path):
    pq.write_table(pa.table({"content": ["a", None, "b"]}), tmp_path / "a.parquet")
    documents, left_out = read(read_parquet, tmp_path / "a.parquet")
    assert [page.source for page in documents] == ["a.parquet#0", "a.parquet#2"]
    assert left_out == [("a.parquet#1", "the page is null")]


def test_our_own_chunks_are_pages(tmp_path):
    content = [text("a"), {"type": "image", "image": png()}]
    write_records([Chunk("1", "d", "s", content)], tmp_path / "c.parquet")
    (page,), left_out = read(read_parquet, tmp_path / "c.parquet")
    assert (page.id, page.source, page.content, left_out) == ("1", "s", content, [])


@pytest.fixture
def obelics(tmp_path):
    """Rows as the Hub has them: pictures by address, the page's own address in JSON."""
    rows = {
        "images": [["https://example.org/a.png", None], [None, "/etc/passwd"]],
        "metadata": ["[]", "[]"],
        "general_metadata": ['{"url": "https://example.org/"}', "odd"],
        "texts": [[None, "a"], ["b", None]],
    }
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "data" / "train-00000-of-00001.parquet")
    return tmp_path


def test_a_name_that_is_neither_folder_nor_dataset_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="There is no folder docs/pages here, nor can a dataset be had by that name"):
        read(read_hub, "docs/pages", "train")


def test_a_dataset_is_streamed(obelics):
    documents, left_out = read(read_hub, str(obelics), "train")
    assert [(page.source, page.content) for page in documents] == [
        ("https://example.org/", [text("a")]),
        (f"{obelics}#1", [text("b")]),
    ]
    assert [reason.split(":")[0] for _, reason in left_out] == [
        "remote picture not fetched",
        "picture without its bytes",
    ]
