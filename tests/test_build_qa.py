"""`nyx build-qa` against a server that answers by schema and misbehaves: from pages to a folder that loads."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from dataset_builders.almanac import TINY_VLM, write_pages
from dataset_builders.almanac_guide import field_guide
from dataset_builders.schema import Example, read_records, write_records
from nyx_cli.main import main
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
        found.append(
            {
                path.relative_to(folder): path.read_bytes().replace(bytes(folder), b"")
                for path in folder.rglob("*")
                if path.is_file() and "answers.sqlite" not in path.name and path.name != "rejected.jsonl"
            }
        )
        rows = (folder / "qa" / "rejected.jsonl").read_text().replace(server.url, "")
        found[-1][Path("rejected")] = rows.encode()
    assert found[0] == found[1] and len(found[0]) > 10


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
