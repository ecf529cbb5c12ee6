"""`nyx build-qa` against a server that answers by schema and misbehaves: from pages to a folder that loads."""

import json
import threading
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from dataset_builders.almanac import TINY_VLM, write_pages
from dataset_builders.almanac_guide import field_guide
from dataset_builders.asking import NO_ANSWER, NO_FIT, NO_JSON
from dataset_builders.schema import Example, read_records, write_records
from nyx_cli.main import main
from tests.conftest import small_files
from tests.scripted_reader import digest, script
from tests.scripted_server import Reply, ScriptedServer, said

# Beside the repository, where there is one.
WEBDOCS = Path(__file__).parents[2] / "shared" / "data" / "webdocs-a" / "webdocs-a.parquet"


def run(*arguments) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


def misbehaving(pause: float = 0.0):
    """Answer as `script`, after a pause by chance; some requests fail at first with a 500, some with a cut answer."""
    rng = Random(0)

    def reply(body, before):
        assert body["temperature"] == 0
        system, user = (message["content"] for message in body["messages"])
        words = "".join(item.get("text", "") for item in user)
        kind = digest(words) % 20 if not before else None
        if kind == 0:
            return Reply(b"out of memory", status=500)
        if "schema" in body.get("response_format", {}).get("json_schema", {}) and kind == 1:
            return said(script(system, words), cut=20)
        return said(script(system, words), hang=pause * rng.random())

    return reply


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Don't wait between attempts."""
    monkeypatch.setattr("nyx.server_engine.time.sleep", lambda seconds: None)


def build(source, output, server, *options):
    run("build-qa", source, "-o", output, "--reader", server.url, *options)


def test_pages_to_four_configs(tmp_path, capsys):
    pages, folder = tmp_path / "pages", tmp_path / "nyxqa"
    write_pages(field_guide("train", 15, 0)[0], pages)
    with ScriptedServer(misbehaving()) as server:
        build(pages, folder, server, "--concurrency", 4)
        told, asked = capsys.readouterr().out, len(server.asked)
        assert "questions of" in told and "left after: error filter" in told and server.most > 1
        before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
        build(pages, folder, server)
        # Only what got no answer is asked for again.
        repeated = server.asked[asked:]
        assert all(script(*_spelt(body)) == "" for body in repeated)
        assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before
        run("feedback", folder, "--retriever", TINY_VLM, "--reader", server.url, "-k", 16)
    assert not (folder / "chunks.parquet").exists()
    sizes = {name: load_dataset(str(folder), name) for name in ("corpus", "qa", "triplets", "feedback")}
    assert {name: set(each) for name, each in sizes.items()} == {
        name: {"train"} if name == "feedback" else {"train", "validation", "test"} for name in sizes
    }
    assert sizes["triplets"]["train"].num_rows == sizes["qa"]["train"].num_rows > 20
    examples = list(read_records(Example, folder / "triplets" / "train.parquet"))
    assert sum(bool(each.negatives) for each in examples) > len(examples) / 2
    reasons = Counter(json.loads(line)["step"] for line in (folder / "qa" / "rejected.jsonl").read_text().splitlines())
    assert set(reasons) >= {"chunk", "questions", "filter", "refine", "options"}


def _spelt(body):
    system, user = (message["content"] for message in body["messages"])
    return system, "".join(item.get("text", "") for item in user)


def test_random_latencies_leave_the_same_bytes(tmp_path):
    write_records(field_guide("train", 4, 1)[0], tmp_path / "chunks.parquet")
    found = []
    for concurrency in (1, 8):
        folder = tmp_path / str(concurrency)
        with ScriptedServer(misbehaving(0.003)) as server:
            build(tmp_path / "chunks.parquet", folder, server, "--concurrency", concurrency)
        found.append(written(folder, server.url))
    assert found[0] == found[1] and len(found[0]) > 10


def written(folder, url=""):
    """Everything but the answers; the card says where it lies, and reasons may name the server."""
    return {
        path.relative_to(folder): path.read_bytes().replace(bytes(folder), b"").replace(url.encode(), b"")
        for path in folder.rglob("*")
        if path.is_file() and "answers.sqlite" not in path.name
    }


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, capsys):
    pages = tmp_path / "pages"
    write_pages(field_guide("train", 10, 0)[0], pages)
    folder = tmp_path / "small"
    with ScriptedServer(misbehaving()) as server:
        build(pages, tmp_path / "whole", server)
        # The answers' own file is as large as it happens to be.
        sizes = sorted(set(map(len, written(tmp_path / "whole").values())) - {0})
        for most in [0, *(size - 1 for size in sizes[::3])]:
            with small_files(most), pytest.raises(SystemExit) as end:
                main(["build-qa", str(pages), "-o", str(folder), "--reader", server.url])
            assert end.value.code == 2 and capsys.readouterr().err.splitlines()[-1].startswith("Error: ")
            assert not list(folder.rglob("*.partial"))
        build(pages, folder, server)
    assert written(folder) == written(tmp_path / "whole")


@pytest.mark.parametrize(
    ("misbehaves", "reason"),
    [
        (lambda: said("Of course! Here you are."), NO_JSON),
        (lambda: said('{"pairs": [{"question": "Wh'), NO_JSON),
        (lambda: said('{"pears": []}'), NO_FIT),
        (lambda: said("[" * 100_000), NO_JSON),
        (lambda: said(""), NO_ANSWER),
        (lambda: Reply(b""), NO_ANSWER),
        (lambda: Reply(b"out of memory", status=500), NO_ANSWER),
        # `time.sleep` is what nobody waits for here.
        (lambda: threading.Event().wait(1.0) or said("{}"), NO_ANSWER),
    ],
    ids=["prose", "half a JSON", "another JSON", "deep JSON", "no word", "no body", "500s", "too late"],
)
def test_a_server_that_misbehaves_for_some_pages_costs_their_pairs_alone(misbehaves, reason, tmp_path):
    chunks = field_guide("train", 2, 1)[0]
    write_records(chunks, tmp_path / "chunks.parquet")

    def reply(body, before):
        system, user = _spelt(body)
        # Whatever is asked about every third page.
        page = user.removeprefix("Page: ").split("\n\n")[0]
        return misbehaves() if digest(page) % 3 == 0 else said(script(system, user, misbehave=False))

    with ScriptedServer(reply) as server:
        options = ["--concurrency", 16, "--negatives", "none"]
        build(tmp_path / "chunks.parquet", tmp_path / "nyxqa", server, *options, "--timeout", 0.5)
    rows = [json.loads(line) for line in (tmp_path / "nyxqa" / "qa" / "rejected.jsonl").read_text().splitlines()]
    assert {row["reason"] for row in rows if row["step"] != "split"} == {reason}
    asked = {row["chunk"] for row in rows if row["step"] != "split"}
    kept = {name for split in load_dataset(str(tmp_path / "nyxqa")).values() for [name] in split["gold_ids"]}
    assert not asked & kept and asked | kept == {chunk.id for chunk in chunks} and len(kept) > len(asked)


def test_no_server_is_one_line_and_no_folder_of_pages(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["build-qa", str(tmp_path), "-o", str(tmp_path / "out"), "--reader", "http://127.0.0.1:9/v1"])
    assert end.value.code == 2 and "cannot be reached" in capsys.readouterr().err


@pytest.mark.skipif(not WEBDOCS.is_file(), reason="the pack of web documents is not here")
def test_real_web_pages(tmp_path):
    folder, some = tmp_path / "nyxqa", tmp_path / "some.parquet"
    pq.write_table(pq.read_table(WEBDOCS).slice(0, 200), some)
    with ScriptedServer(misbehaving()) as server:
        build(some, folder, server, "--chunks", 60)
    questions = load_dataset(str(folder))
    assert set(questions) == {"train", "validation", "test"} and questions["train"].num_rows > 20
    report = json.loads((folder / "qa" / "report.json").read_text())
    assert report["counts"]["chunks asked about"] == [38, 18, 4]
