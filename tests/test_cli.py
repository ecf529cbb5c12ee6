"""The command line does the whole way, and tells users what is wrong in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dataset_builders.schema import Chunk, read_records
from nyx.index import Index
from nyx_cli.main import main
from tests.conftest import colored


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
    run("search", index, "It lives by the lagoon.", "--image", pages / "0.png", "-k", 2, "--json")
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(hits) == 2 and hits[0]["score"] >= hits[1]["score"] and "lives by the" in hits[0]["text"]
    run("search", index, "--image", pages / "0.png", "--dim", 16)
    assert "Score" in capsys.readouterr().out


def test_what_is_left_out_is_told(pages, tmp_path, capsys):
    (pages / "0.png").write_bytes(b"broken")
    run("ingest", pages, "-o", tmp_path / "chunks.parquet")
    assert "1 left out" in capsys.readouterr().out
    (line,) = (tmp_path / "chunks.dropped.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == "0.md" and "cannot be read" in json.loads(line)["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "{tmp}/none", "-o", "{tmp}/c.parquet"], "neither a folder of Markdown nor"),
        (["search", "{tmp}", "x"], "holds no index"),
        (["index", "{tmp}/none.parquet", "-o", "{tmp}/i", "--model", "{tmp}"], "none.parquet"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([argument.format(tmp=tmp_path) for argument in arguments])
    error = capsys.readouterr().err.strip()
    assert end.value.code == 1 and message in error and error.startswith("Error: ") and "Traceback" not in error
    assert not (tmp_path / "c.parquet").exists() and not (tmp_path / "i").exists()


def test_changed_weights_are_refused(pages, saved_model, tmp_path, capsys):
    chunks, index = tmp_path / "chunks.parquet", tmp_path / "index"
    run("ingest", pages, "-o", chunks)
    run("index", chunks, "-o", index, "--model", saved_model)
    config = saved_model / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(SystemExit) as end:
        main(["search", str(index), "x"])
    assert end.value.code == 1 and "cannot be compared" in capsys.readouterr().err


def test_search_without_a_question_is_refused(pages, saved_model, tmp_path, capsys):
    chunks, index = tmp_path / "chunks.parquet", tmp_path / "index"
    run("ingest", pages, "-o", chunks)
    run("index", chunks, "-o", index, "--model", saved_model)
    with pytest.raises(SystemExit) as end:
        main(["search", str(index)])
    assert end.value.code == 1 and "Empty content" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ingest", "index", "search", "mine"])
def test_help_has_an_example(command):
    done = subprocess.run([Path(sys.executable).parent / "nyx", command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and f"nyx {command} " in done.stdout
