"""The command line does the whole way, and tells users what is wrong in one line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataset_builders.schema import Chunk, read_records, write_records
from nyx.index import Index
from nyx_cli.main import main
from tests.conftest import colored, text


@pytest.fixture
def pages(tmp_path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    for number, place in enumerate(["lagoon", "orchard", "stone bridge"]):
        colored(60, 60, number).save(folder / f"{number}.png")
        (folder / f"{number}.md").write_text(f"# Moth {number}\n\nIt lives by the {place}. ![moth]({number}.png)\n")
    return folder


def run(*arguments) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


def refused(*arguments, capsys) -> str:
    """Run a command that fails, and return its one line."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2 and error.startswith("Error: ")
    return error


@pytest.fixture
def saved_model(model, tmp_path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_ingest_index_search(pages, saved_model, tmp_path, capsys):
    chunks, index = tmp_path / "chunks.parquet", tmp_path / "index"
    run("ingest", pages, "-o", chunks)
    assert "3 pages → 3 chunks with 3 pictures" in capsys.readouterr().out
    records = list(read_records(Chunk, chunks))
    assert [record.source for record in records] == ["0.md", "1.md", "2.md"]
    run("index", chunks, "-o", index, "--model", saved_model)
    run("index", chunks, "-o", index, "--model", saved_model)
    assert "0 chunks embedded" in capsys.readouterr().out.splitlines()[-1]
    assert len(Index.open(index).chunks) == 3
    write_records(records[:2], chunks)
    run("index", chunks, "-o", index, "--model", saved_model)
    told = " ".join(capsys.readouterr().out.split())
    assert "0 chunks embedded" in told and "2 were there, 1 that are not in" in told and "kept (--prune" in told
    assert len(Index.open(index).chunks) == 3
    run("index", chunks, "-o", index, "--model", saved_model, "--prune")
    assert "1 that are not in" in (told := " ".join(capsys.readouterr().out.split())) and "removed" in told
    assert [chunk.id for chunk in Index.open(index).chunks] == [record.id for record in records[:2]]
    before = Index.open(index).vectors.copy()
    renamed = replace(records[0], source="new.md")
    changed = replace(records[1], content=[text("It lives by the new moor.")])
    write_records([renamed, changed], chunks)
    run("index", chunks, "-o", index, "--model", saved_model)
    assert "1 chunks embedded" in capsys.readouterr().out
    first, second = (opened := Index.open(index)).chunks
    assert (first.source, second.content) == ("new.md", changed.content)
    moved = [np.abs(now - then).max() > 1e-3 for now, then in zip(opened.vectors, before, strict=True)]
    assert moved == [False, True]
    run("search", index, "It lives by the lagoon.", "--image", pages / "0.png", "-k", 2, "--json")
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(hits) == 2 and hits[0]["score"] >= hits[1]["score"] and "lives by the" in hits[0]["text"]
    run("search", index, "--image", pages / "0.png", "--dim", 16, "--exact")
    assert "Score" in capsys.readouterr().out


def test_what_is_left_out_is_told(pages, tmp_path, capsys):
    (pages / "0.png").write_bytes(b"broken")
    run("ingest", pages, "-o", tmp_path / "chunks.parquet")
    assert "1 left out" in capsys.readouterr().out
    (line,) = (tmp_path / "chunks.dropped.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == "0.md" and "cannot be read" in json.loads(line)["reason"]


def test_ingest_cuts_and_leaves_out_as_asked(tmp_path, capsys):
    words = " ".join(f"moth{chr(97 + number // 8)}{chr(97 + number % 8)}" for number in range(60))
    lines = [f"{words} lives.", f"{words} flies.", "Third page.", "Fourth page."]
    source, chunks = tmp_path / "pages.jsonl", tmp_path / "chunks.parquet"
    source.write_text("".join(json.dumps({"content": f"{line} The end."}) + "\n" for line in lines))
    options = ["--tokens", 62, "--merge-tail", 5, "--near-duplicates", 0.8, "--limit", 3]
    run("ingest", source, "-o", chunks, *options, "--fetch", tmp_path / "fetched")
    assert "3 pages → 2 chunks with 0 pictures" in capsys.readouterr().out
    first, third = read_records(Chunk, chunks)
    assert first.content[0]["text"].endswith("The end.") and third.source == "pages.jsonl#2"
    (line,) = (tmp_path / "chunks.dropped.jsonl").read_text().splitlines()
    assert f"resembles {first.id}" in json.loads(line)["reason"] and not (tmp_path / "fetched").exists()


def test_reasons_are_written_when_nothing_is_left(tmp_path, capsys):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.md").write_text("![x](none.png)")
    error = refused("ingest", tmp_path / "pages", "-o", tmp_path / "out" / "c.parquet", capsys=capsys)
    assert "No records to write" in error and "2 left out, see" in error and "c.dropped.jsonl" in error
    lines = (tmp_path / "out" / "c.dropped.jsonl").read_text().splitlines()
    assert ["No such picture" in line or "empty page" in line for line in lines] == [True, True]


def test_the_source_is_never_overwritten(tmp_path, capsys):
    source = tmp_path / "o.parquet"
    write_records([Chunk("1", "d", "s", [text("a")])], source)
    data = source.read_bytes()
    (tmp_path / "link.parquet").symlink_to(source)
    for output in (source, tmp_path / "link.parquet"):
        assert "is the source itself" in refused("ingest", source, "-o", output, capsys=capsys)
    assert "is a folder" in refused("ingest", source, "-o", tmp_path, capsys=capsys)
    assert source.read_bytes() == data


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "{tmp}/none", "-o", "{tmp}/c.parquet"], "neither a folder of pages, nor"),
        (["search", "{tmp}", "x"], "holds no index"),
        (["search", "{tmp}"], "Name words, or a picture with --image"),
        (["index", "{tmp}/none.parquet", "-o", "{tmp}/i", "--model", "{tmp}"], "none.parquet"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    error = refused(*[argument.format(tmp=tmp_path) for argument in arguments], capsys=capsys)
    assert message in error and not (tmp_path / "c.parquet").exists() and not (tmp_path / "i").exists()


def test_an_index_that_is_saved_after_every_chunk_equals_one_made_at_once(indexed, saved_model, tmp_path, monkeypatch):
    monkeypatch.setattr("nyx_cli.index.SHARD", 1)
    monkeypatch.setattr("nyx_cli.index.SAVE_EVERY", -1.0)
    monkeypatch.setattr("nyx_cli.index.SAVING", float("inf"))
    run("index", tmp_path / "chunks.parquet", "-o", tmp_path / "slowly", "--model", saved_model)
    slowly, once = Index.open(tmp_path / "slowly"), Index.open(indexed)
    assert (slowly.generation, once.generation) == (3, 1)
    assert slowly.chunks == once.chunks and np.array_equal(slowly.vectors, once.vectors)


@pytest.fixture
def indexed(pages, saved_model, tmp_path, capsys) -> Path:
    run("ingest", pages, "-o", tmp_path / "chunks.parquet")
    run("index", tmp_path / "chunks.parquet", "-o", tmp_path / "index", "--model", saved_model)
    capsys.readouterr()
    return tmp_path / "index"


def test_changed_weights_are_refused(indexed, saved_model, capsys):
    config = saved_model / "config.json"
    config.write_text(config.read_text() + "\n")
    assert "cannot be compared" in refused("search", indexed, "x", capsys=capsys)


def test_a_moved_model_is_asked_for_and_recognised(indexed, saved_model, tmp_path, capsys):
    moved = shutil.move(saved_model, tmp_path / "moved")
    error = refused("search", indexed, "x", capsys=capsys)
    assert f"made with the model folder {str(saved_model)!r}, which isn't there. Name it with --model" in error
    run("search", indexed, "x", "--model", moved)
    run("index", tmp_path / "chunks.parquet", "-o", indexed, "--model", f"{moved}/")
    assert "0 chunks embedded" in capsys.readouterr().out


def test_page_text_is_shown_as_it_is(saved_model, tmp_path, capsys):
    words = "[/red] [bold]x[/bold] :smile: \x1b[31m"
    write_records([Chunk("1", "d", "[/s]", [text(words)])], tmp_path / "c.parquet")
    run("index", tmp_path / "c.parquet", "-o", tmp_path / "index", "--model", saved_model)
    capsys.readouterr()
    run("search", tmp_path / "index", "x")
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("[/s]", "[/red]", "[bold]x[/bold]", ":smile:")) and "\x1b" not in shown


def test_an_index_is_made_in_the_folder_one_is_in_but_not_in_a_file(pages, saved_model, tmp_path, capsys, monkeypatch):
    chunks = tmp_path / "chunks.parquet"
    write_records([Chunk("a", "d", "s", [text("a")])], chunks)
    (tmp_path / "file").touch()
    monkeypatch.setattr("nyx_cli.index.load_encoder", None)  # nothing is embedded first
    assert "file is a file. Name a folder" in refused(
        "index", chunks, "-o", tmp_path / "file", "--model", saved_model, capsys=capsys
    )
    monkeypatch.undo()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run("index", chunks, "-o", ".", "--model", saved_model)
    assert len(Index.open(tmp_path / "here").chunks) == 1


def test_a_broken_chunk_is_left_out_of_the_index(pages, saved_model, tmp_path, capsys):
    chunks, index = tmp_path / "chunks.parquet", tmp_path / "index"
    colored(60, 60, 0).save(pages / "0.jpg")
    # Its header is whole, so that it is found out only when it is decoded.
    truncated = (pages / "0.jpg").read_bytes()[:-300]
    pictures = [b"broken", truncated, (pages / "1.png").read_bytes()]
    records = [Chunk(str(i), "d", "s", [{"type": "image", "image": data}]) for i, data in enumerate(pictures)]
    write_records(records[:2], chunks)
    error = refused("index", chunks, "-o", index, "--model", saved_model, capsys=capsys)
    assert "holds no chunks to index, 2 left out" in error and not index.exists()
    write_records([*records, records[2]], chunks)
    run("index", chunks, "-o", index, "--model", saved_model)
    assert "1 chunks embedded" in capsys.readouterr().out
    assert [chunk.id for chunk in Index.open(index).chunks] == ["2"]
    assert (index / "documents-1.parquet").is_file()
    lines = [json.loads(line) for line in (tmp_path / "index.dropped.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["0", "1"]
    assert "cannot be read" in lines[0]["reason"] and "cannot be decoded" in lines[1]["reason"]
