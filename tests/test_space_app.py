"""The page opens what is named, says what is missing, and brings what a Space needs."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser

import pytest
import yaml

import app
from desk import Desk
from nyx.index import Index
from nyx.models import fingerprint
from nyx.records import Chunk, image_bytes, write_records
from tests.space_pages import SPACE, few_chunks, library_of


def test_what_is_named_is_opened(model, tmp_path):
    chunks = few_chunks()
    name = str(tmp_path / "model")
    model.save_pretrained(name)
    folder = tmp_path / "nyxqa"
    stored = [Chunk(c.id, c.document_id, c.source, [_stored(item) for item in c.content]) for c in chunks]
    write_records(stored, folder / "corpus" / "test.parquet")
    header = {"configs": [{"config_name": "corpus", "data_files": [{"split": "test", "path": "corpus/test.parquet"}]}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")
    made = app.open_desk(name, "", str(folder), "", "", "")
    assert made.library.index.chunks == stored and made.reader is None and made.rival is None
    vectors = made.library.index.vectors
    Index.create(tmp_path / "index", stored, vectors, model_name=name, revision=fingerprint(name))
    opened = app.open_desk("", str(tmp_path / "index"), "", "", str(tmp_path / "none"), name)
    assert opened.library.index.chunks == stored and (opened.library.index.vectors == vectors).all()
    assert "cannot be opened" in opened.reader_error
    assert (opened.other(lambda *_: None).index.vectors == vectors).all()
    with pytest.raises(ValueError, match="Name it with --model"):
        app.open_desk("", "", str(folder), "", "", "")


def _stored(item: dict) -> dict:
    return item if item["type"] == "text" else {"type": "image", "image": image_bytes(item["image"])}


def test_a_page_without_its_pieces_says_what_to_run(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    for name in app.SETTINGS:
        monkeypatch.delenv(f"NYX_{name.upper()}", raising=False)
    with caplog.at_level(logging.WARNING):
        page = app.make_page([])
    told = " ".join(str(block.value) for block in page.blocks.values() if hasattr(block, "value"))
    assert "runs/demo/index holds no index" in told and "make demo" in told and "NYX_DATASET" in told
    assert "runs/demo/index holds no index" in caplog.text


@pytest.mark.parametrize("error", [ConnectionError("the server is away"), ValueError("no configuration 'qa'")])
def test_examples_are_left_out_where_there_are_none_to_be_had(model, monkeypatch, caplog, error):
    monkeypatch.setattr(app, "open_desk", lambda **_: Desk(library_of(model, few_chunks())))
    monkeypatch.setattr(app, "working_examples", raising(error))
    page = app.make_page([])
    assert f"No examples: {error}" in caplog.text
    assert "search" in {function.api_name for function in page.fns.values()}


def raising(error: Exception) -> Callable:
    def function(*_):
        raise error

    return function


def test_a_command_that_names_what_is_missing_ends(tmp_path):
    command = [sys.executable, SPACE / "app.py", "--index", "absent"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NYX_")}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and "absent holds no index" in run.stderr.splitlines()[-1]


def test_requirements_are_the_packages():
    setup = ConfigParser()
    setup.read(SPACE.parent / "setup.cfg")
    extras = setup["options.extras_require"]
    declared = "\n".join([setup["options"]["install_requires"], extras["cpu"], extras["data"]]).split()
    assert set((SPACE / "requirements.txt").read_text().split()) <= set(declared)
    header = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    pinned = re.search(r"^gradio==(.*)$", (SPACE.parent / "constraints.txt").read_text(), re.MULTILINE)
    assert header["sdk_version"] == pinned[1] and header["app_file"] == "app.py"
    assert len(header["short_description"]) <= 60 and (SPACE / header["thumbnail"]).is_file()
