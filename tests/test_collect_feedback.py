"""Feedback on a small Almanac: one engine gives what another gives, and a killed run what a whole one gives."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import httpx2
import pytest
from datasets import load_dataset
from transformers import AutoModelForImageTextToText

from dataset_builders.almanac import TINY_VLM, build
from dataset_builders.card import write_card
from dataset_builders.schema import Chunk, Example, QAPair, read_records, write_records
from modeling_nyx import NyxProcessor
from modeling_nyx.content_nyx import text_of
from nyx_cli.main import main
from tests.scripted_server import Reply, ScriptedServer, free_port, said, texts
from train_scripts.collect_feedback import FeedbackArguments, names, run

QUESTIONS = 24
KEPT = ("train.parquet", "train.dropped.jsonl", "train.statistics.json", "train.verdicts.jsonl")


@pytest.fixture(scope="module")
def almanac(tmp_path_factory):
    sizes = {"train": 4, "validation": 5, "test": 5}
    return build(tmp_path_factory.mktemp("nyxqa"), species=sizes, triplets={"train": 4, "validation": 4, "test": 4})


@pytest.fixture
def dataset(almanac, tmp_path):
    """The same Almanac with nothing but corpus and questions."""
    for name in ("corpus", "qa"):
        (tmp_path / "data" / name).mkdir(parents=True)
        os.link(almanac / name / "train.parquet", tmp_path / "data" / name / "train.parquet")
    write_card(tmp_path / "data")
    return tmp_path / "data"


def lot(body):
    """Draw a number that depends on the request alone."""
    return zlib.crc32(texts(body).encode())


def arguments(dataset, *readers, **changed):
    options = {"questions": QUESTIONS, "candidates": 4, "negatives": 3} | changed
    return FeedbackArguments(dataset=str(dataset), retriever=str(TINY_VLM), reader=list(readers), **options)


def kept(folder):
    return {name: (folder / "feedback" / name).read_bytes() for name in KEPT}


class Oracle:
    """A script that knows the questions: right if the document holds the answer, in words or by its pictures' mark."""

    def __init__(self, dataset, latency=0.0, fails=lambda body: None):
        pairs = read_records(QAPair, dataset / "qa" / "train.parquet")
        self.answers = {text_of(pair.question): pair.answers[0] for pair in pairs}
        self.latency, self.fails, self.random = latency, fails, random.Random()

    def __call__(self, body, before):
        time.sleep(self.random.uniform(0, 2 * self.latency))
        document, question = texts(body).split("\nQuestion: ")
        answer = self.answers[question.strip().replace("<>", "").strip()]
        return self.fails(body) or said(answer if answer in document else "unknown")


def test_local_reader(dataset):
    counts = run(arguments(dataset))
    examples = list(read_records(Example, dataset / "feedback" / "train.parquet"))
    dropped = [json.loads(line) for line in (dataset / "feedback" / "train.dropped.jsonl").read_text().splitlines()]
    told = json.loads((dataset / "feedback" / "train.statistics.json").read_text())
    assert counts.examples == len(examples) == told["examples"] > 3 and len(examples) + len(dropped) == QUESTIONS
    assert told["windows"] == 4 * QUESTIONS and sum(told["first_passing_rank"].values()) >= len(examples)
    rows = load_dataset(str(dataset), "feedback", split="train", streaming=True)
    assert [row["id"] for row in rows] == [example.id for example in examples]


@pytest.mark.parametrize("rule", [{}, {"all_windows": False}, {"window": 2, "metric": "f1", "argmax": True}])
def test_the_same_bytes_whatever_the_concurrency_and_the_latency(dataset, rule):
    written = []
    for concurrency, latency in [(1, 0.0), (7, 0.01), (16, 0.002)]:
        with ScriptedServer(Oracle(dataset, latency)) as server:
            cache = str(dataset / f"{concurrency}.sqlite")
            run(arguments(dataset, server.url, cache=cache, concurrency=concurrency, **rule))
        written.append(kept(dataset))
        assert server.most <= concurrency and (server.most > 1) == (concurrency > 1)
    assert written[0] == written[1] == written[2]


def test_a_query_reads_on_while_others_wait(dataset):
    """Stopping at the first pass, a slow answer holds up its own question and no other."""
    slow = []

    def fails(body):
        if not slow:
            slow.append(texts(body))
            time.sleep(1.5)

    with ScriptedServer(Oracle(dataset, fails=fails)) as server:
        started = time.monotonic()
        run(arguments(dataset, server.url, all_windows=False, concurrency=4))
    windows = json.loads((dataset / "feedback" / "train.statistics.json").read_text())["windows"]
    assert len(server.asked) == windows < 4 * QUESTIONS and len(slow) == 1
    assert time.monotonic() - started < 20


def test_misbehaviour_costs_windows_not_the_run(dataset):
    replies = {0: Reply(b"<html>"), 1: Reply(b"", status=400), 2: Reply(b'{"choi')}
    with ScriptedServer(Oracle(dataset, fails=lambda body: replies.get(lot(body) % 6))) as server:
        told = run(arguments(dataset, server.url)).as_dict()
        verdicts = (dataset / "feedback" / "train.verdicts.jsonl").read_text()
        # What failed is asked again, what was answered isn't.
        server.asked.clear()
        replies.clear()
        assert run(arguments(dataset, server.url)).windows == 4 * QUESTIONS
        asked_again = len(server.asked)
    unread = sum(told["windows_unread"].values())
    assert 0 < unread < 4 * QUESTIONS and told["windows"] + unread == 4 * QUESTIONS and told["examples"] > 0
    assert any("status N" in reason for reason in told["windows_unread"])
    assert sum(len(json.loads(line)["unread"]) for line in verdicts.splitlines()) == unread == asked_again


def test_several_readers_give_a_set_each_and_one_of_all(dataset):
    def only(even):
        return lambda body: None if (lot(body) % 2 == 0) == even else said("unknown")

    with (
        ScriptedServer(Oracle(dataset, fails=only(True))) as one,
        ScriptedServer(Oracle(dataset, fails=only(False))) as two,
    ):
        readers = [f"{one.url}#org/reader", f"{two.url}#reader"]
        run(arguments(dataset, *readers, candidates=8))
    folder = dataset / "feedback"
    assert names(readers) == ["reader", "reader-2"]
    first, second, both = (
        {each.id: each for each in read_records(Example, place / "train.parquet")}
        for place in (folder / "reader", folder / "reader-2", folder)
    )
    assert first.keys() != second.keys() and first.keys() | second.keys() <= both.keys()
    for key, example in both.items():
        # A document is good if it helped any reader, and bad if it helped none.
        helped = [each[key].positives for each in (first, second) if key in each]
        assert all(positive in example.positives for positives in helped for positive in positives)
        assert not any(negative in example.positives for negative in example.negatives)
    told = json.loads((folder / "train.statistics.json").read_text())
    assert told["windows"] == 2 * 8 * QUESTIONS and told["questions"] == QUESTIONS
    rows = load_dataset(str(dataset), "feedback", split="train", streaming=True)
    assert [row["id"] for row in rows] == list(both)
    assert f"{one.url}#org/reader, {two.url}#reader" in (dataset / "README.md").read_text()


COMMAND = "from train_scripts.collect_feedback import main; import sys; main(sys.argv[1:])"


def test_a_killed_run_goes_on_where_it_was(dataset, tmp_path):
    """Nothing is paid twice but what was under way."""
    seen = []
    with ScriptedServer(Oracle(dataset, latency=0.01, fails=lambda body: seen.append(texts(body)))) as server:
        run(arguments(dataset, server.url, cache=str(tmp_path / "other.sqlite")))
        whole, paid = kept(dataset), len(server.asked)
        for name in [*KEPT, "candidates.jsonl"]:
            (dataset / "feedback" / name).unlink()
        server.asked.clear()
        options = {"reader": server.url, "dataset": dataset, "retriever": TINY_VLM, "questions": QUESTIONS}
        options |= {"candidates": 4, "negatives": 3, "concurrency": 3}
        flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        child = subprocess.Popen([sys.executable, "-c", COMMAND, *flags], stderr=subprocess.DEVNULL)
        while len(server.asked) < paid * 2 // 3 and child.poll() is None:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not (dataset / "feedback" / "train.parquet").exists()
        subprocess.run([sys.executable, "-c", COMMAND, *flags], check=True, capture_output=True)
    assert kept(dataset) == whole
    assert paid <= len(server.asked) <= paid + 3
    assert not list((dataset / "feedback").glob(".*"))


def test_without_an_example_the_reasons_are_there(dataset):
    none = ScriptedServer(lambda body, before: said("unknown"))
    with none, pytest.raises(ValueError, match="No example came of 24 questions, see .*train.dropped.jsonl"):
        run(arguments(dataset, none.url))
    lines = (dataset / "feedback" / "train.dropped.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["no window passed"] * QUESTIONS


def test_without_an_example_the_card_names_none(dataset):
    with ScriptedServer(Oracle(dataset)) as good:
        run(arguments(dataset, good.url))
    assert "feedback/train.parquet" in (dataset / "README.md").read_text()
    none = ScriptedServer(lambda body, before: said("unknown"))
    with none, pytest.raises(ValueError, match="No example came"):
        run(arguments(dataset, none.url))
    assert not (dataset / "feedback" / "train.parquet").exists()
    assert "feedback/train.parquet" not in (dataset / "README.md").read_text()


@pytest.mark.parametrize("order", [1, -1])
def test_a_reader_that_is_never_right_costs_no_other_its_verdicts(dataset, order):
    none = ScriptedServer(lambda body, before: said("unknown"))
    with ScriptedServer(Oracle(dataset)) as good, none:
        readers = [f"{good.url}#good", f"{none.url}#none"]
        counts = run(arguments(dataset, *readers[::order]))
    folder = dataset / "feedback"
    assert counts.examples == len(list(read_records(Example, folder / "train.parquet"))) > 0
    assert counts.windows == 2 * 4 * QUESTIONS and not (folder / "none" / "train.parquet").exists()
    assert len((folder / "none" / "train.verdicts.jsonl").read_text().splitlines()) == QUESTIONS


def test_every_reader_has_a_folder_of_its_own():
    assert names(["org/a", "x/a", "y/a-2", "a"]) == ["a", "a-2", "a-2-2", "a-3"]


def test_candidates_of_another_retriever_are_not_reused(dataset, model, tmp_path):
    run(arguments(dataset))
    before = (dataset / "feedback" / "candidates.jsonl").read_bytes()
    model.save_pretrained(tmp_path / "other")
    other = arguments(dataset)
    other.retriever = str(tmp_path / "other")
    run(other)
    assert (dataset / "feedback" / "candidates.jsonl").read_bytes() != before


def test_options_decide_on_a_dataset_that_has_them(dataset):
    chunks = list(read_records(Chunk, dataset / "corpus" / "train.parquet"))
    pairs = list(read_records(QAPair, dataset / "qa" / "train.parquet"))[:10]
    pairs = [
        QAPair(each.id, each.question, ["?"], ["none", *each.answers[:1]], 1, each.gold_ids, each.modality)
        for each in pairs
    ]
    (dataset / "qa" / "train.parquet").unlink()
    write_records(pairs, dataset / "qa" / "train.parquet")

    def script(body, before):
        document, question = texts(body).split("\nQuestion: ")
        choice = re.search(r"Choices: none, (.*)\n", question).group(1)
        return said(choice if choice in document else "none")

    with ScriptedServer(script) as server:
        told = run(arguments(dataset, server.url, metric="option")).as_dict()
    examples = list(read_records(Example, dataset / "feedback" / "train.parquet"))
    assert told["examples"] == len(examples) > 0 and len(chunks) > 4
    assert all("\nChoices: none, " in text_of(example.query) for example in examples)


def test_the_command(dataset, capsys):
    with ScriptedServer(Oracle(dataset)) as server, pytest.raises(SystemExit) as end:
        flags = ["--retriever", str(TINY_VLM), "--reader", server.url, "-k", "4", "--questions", str(QUESTIONS)]
        main(["feedback", str(dataset), *flags, "--negatives", "3"])
    assert end.value.code == 0 and "share discarded" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["feedback", "--help"])
    assert "nyx feedback runs/demo/nyxqa --retriever runs/demo/stage1" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["feedback", str(dataset), *flags[:3], f"http://127.0.0.1:{free_port()}/v1"])
    assert end.value.code == 2 and "cannot be reached" in capsys.readouterr().err


@pytest.fixture
def served(tmp_path):
    """The Almanac's reader behind `transformers serve`: its address."""
    folder, port = tmp_path / "vlm", free_port()
    processor = NyxProcessor.from_pretrained(TINY_VLM)
    # Qwen's own, which the server falls back to, expects role markers that this model's prompts don't have.
    content = {"close_pattern": r"\s*<\|im_end\|>", "content": "text"}
    processor.tokenizer.response_template = {"start_anchor": "Answer:", "fields": {"content": content}}
    AutoModelForImageTextToText.from_pretrained(TINY_VLM).save_pretrained(folder)
    processor.save_pretrained(folder)
    options = ["--trust-remote-code", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "HF_MODULES_CACHE": str(tmp_path / "m"),
    }
    log = tmp_path / "server.log"
    with log.open("w") as output:
        command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), *options]
        server = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            try:
                httpx2.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                break
            except httpx2.HTTPError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1#{folder}"
    finally:
        server.terminate()
        server.wait(20)


def test_a_real_server_gives_the_same_preferences_as_the_model_here(dataset, served):
    run(arguments(dataset))
    local = kept(dataset)
    counts = run(arguments(dataset, served, cache=str(dataset / "served.sqlite"), concurrency=2))
    assert kept(dataset) == local and counts.examples > 3 and not counts.unread
    pairs = list(read_records(QAPair, dataset / "qa" / "train.parquet"))[:QUESTIONS]
    assert any(item["type"] == "image" for pair in pairs for item in pair.question)
