"""The demo's page answers over HTTP as a browser would ask; uploads are limited, what is shown is encoded anew."""

import importlib.util
import io
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import httpx
import pytest
import yaml
from gradio_client import Client, handle_file
from PIL import Image

from nyx.index import Index
from nyx.models import fingerprint
from nyx.records import Chunk, image_bytes, write_records
from tests.conftest import colored, picture, text

SPACE = Path(__file__).parents[1] / "space"
EVIL = "<script>alert(1)</script> ![x](http://attacker.invalid/?q=1)"


def load_app():
    spec = importlib.util.spec_from_file_location("app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    contents = [
        [text("First this:"), picture(60, 50, 1), text("then that:"), picture(40, 70, 2), text("and an end.")],
        [text("The moth Vela mirabilis lives by the salt marsh.")],
        [text(EVIL), picture(56, 56, 3)],
    ]
    return [Chunk(str(index), "d", f"{index}.md", content) for index, content in enumerate(contents)]


@pytest.fixture(scope="module")
def address(model, chunks, tmp_path_factory):
    app = load_app()
    vectors = model.encode_documents([chunk.content for chunk in chunks])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = app.build(model, Index.of(chunks, vectors, model_name="tiny"))
        _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, max_file_size="100kb", show_error=True)
        yield address
        page.close()


@pytest.fixture(scope="module")
def client(address, tmp_path_factory) -> Client:
    return Client(address, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def ask(client: Client, words: str = "", files: list[Path] = [], count: int = 3) -> list[dict]:  # noqa: B006
    question = {"text": words, "files": [handle_file(str(path)) for path in files]}
    return client.predict(question, count, api_name="/search")


def parts(message: dict) -> list:
    return [part["text"] if part["type"] == "text" else Path(part["value"]) for part in message["content"]]


def test_a_result_shows_its_texts_and_pictures_in_order(client, chunks, model):
    messages = ask(client, "First this:")
    assert len(messages) == 3
    query = model.encode_queries(["First this:"])
    scores = (query @ model.encode_documents([chunk.content for chunk in chunks]).T)[0]
    for rank, (message, place) in enumerate(zip(messages, (-scores).argsort(), strict=True), 1):
        head, *shown = parts(message)
        assert head == f"{rank} · {scores[place]:.3f} · {place}.md"
        for part, item in zip(shown, chunks[place].content, strict=True):
            if item["type"] == "text":
                assert part == item["text"]
            else:
                assert Image.open(part).convert("RGB").tobytes() == item["image"].tobytes()


def test_a_picture_may_ask(client, model, chunks, tmp_path):
    colored(56, 56, 3).save(tmp_path / "moth.png")
    (message,) = ask(client, "What is this?", [tmp_path / "moth.png"], count=1)
    query = model.encode_queries([[picture(56, 56, 3), text("What is this?")]])
    scores = (query @ model.encode_documents([chunk.content for chunk in chunks]).T)[0]
    assert parts(message)[0] == f"1 · {scores.max():.3f} · {scores.argmax()}.md"


def test_bad_questions_are_refused_without_a_path(client, tmp_path):
    (tmp_path / "page.png").write_bytes(b"<html>")
    with pytest.raises(Exception, match="picture cannot be read") as refusal:
        ask(client, "x", [tmp_path / "page.png"])
    assert "/tmp" not in str(refusal.value)
    with pytest.raises(Exception, match="Empty content"):
        ask(client)
    with pytest.raises(Exception, match="At most 4 pictures and 2000 characters"):
        ask(client, "x" * 2001)


def test_large_uploads_are_refused(address):
    data = {"files": ("moth.png", io.BytesIO(os.urandom(200_000)))}
    assert httpx.post(f"{address}gradio_api/upload", files=data).status_code == 413


def test_no_file_of_this_machine_is_served(address):
    for path in ("/etc/passwd", str(SPACE / "app.py"), str(Path(__file__))):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404)


def test_texts_are_shown_as_text(address):
    components = httpx.get(f"{address}config").json()["components"]
    (results,) = [each["props"] for each in components if each["type"] == "chatbot"]
    assert results["render_markdown"] is False and results["sanitize_html"] is True


def test_an_index_is_opened_or_made_of_a_datasets_corpus(model, chunks, tmp_path):
    name = str(tmp_path / "model")
    model.save_pretrained(name)
    folder = tmp_path / "nyxqa"
    stored = [Chunk(c.id, c.document_id, c.source, [_stored(item) for item in c.content]) for c in chunks]
    write_records(stored, folder / "corpus" / "test.parquet")
    header = {"configs": [{"config_name": "corpus", "data_files": [{"split": "test", "path": "corpus/test.parquet"}]}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")
    app = load_app()
    _, index = app.open_index(name, "", str(folder), "test")
    assert index.chunks == stored
    Index.create(tmp_path / "index", stored, index.vectors, model_name=name, revision=fingerprint(name))
    _, opened = app.open_index("", str(tmp_path / "index"), "", "")
    assert opened.chunks == stored and (opened.vectors == index.vectors).all()
    with pytest.raises(ValueError, match="Name it with --model"):
        app.open_index("", "", str(folder), "test")


def _stored(item: dict) -> dict:
    return item if item["type"] == "text" else {"type": "image", "image": image_bytes(item["image"])}


def test_without_what_it_searches_it_says_so(tmp_path):
    command = [sys.executable, SPACE / "app.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NYX_")}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1 and "runs/demo/index holds no index" in run.stderr.splitlines()[-1]


def test_requirements_are_the_packages():
    setup = ConfigParser()
    setup.read(SPACE.parent / "setup.cfg")
    declared = (setup["options"]["install_requires"] + "\n" + setup["options.extras_require"]["cpu"]).split()
    assert set((SPACE / "requirements.txt").read_text().split()) <= set(declared)
    header = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    pinned = re.search(r"^gradio==(.*)$", (SPACE.parent / "constraints.txt").read_text(), re.MULTILINE)
    assert header["sdk_version"] == pinned[1] and header["app_file"] == "app.py"
