"""An evaluation's records say what happened, whatever is asked for, and a killed one goes on and ends the same."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dataset_builders import retrievers
from dataset_builders.almanac import TINY_VLM, build
from dataset_builders.schema import Chunk, QAPair, write_records
from evaluation.benchmark import Benchmark
from evaluation.protocol import Evaluation, Settings, cut, parse_documents
from evaluation.records import SCORES, read_all, read_table
from evaluation.systems import open_system, system_facts
from evaluation.tables import as_rich, summarise, told
from modeling_nyx import NyxModel
from nyx.bm25 import BM25
from nyx.engines import ReaderError
from nyx.metrics import retrieval_scores
from nyx.models import load_encoder
from nyx.reader import CHOOSE, CHOOSE_LETTER, INSTRUCTION, Reader
from tests.conftest import picture, text
from tests.scripted_reader import ScriptedEngine

CHUNKS = [
    Chunk("a", "A", "lecture/1", [text("Vela lives by the salt marsh."), picture(56, 56, 1)]),
    Chunk("b", "B", "lecture/2", [text("Masca lives by the lagoon.")]),
    Chunk("c", "C", "example/1", [text("Where does Orla live? By the river.")]),
    Chunk("d", "D", "example/2", [text("Where does Nyx live? In the dark.")]),
    Chunk("e", "D", "example/3", [text("What does Nyx eat? Moonlight.")]),
]
QUESTIONS = [
    QAPair("1", [text("Where does Vela live?")], ["salt marsh"], ["lagoon", "salt marsh"], 1, ["a"], "text", "place"),
    QAPair("2", [text("Where does Nyx live?")], ["dark", "the night"], [], None, ["D"], "text", "place"),
    QAPair("3", [text("Who made the lagoon?")], ["nobody"], [], None, [], "text"),
]


def dataset(folder: Path, facts: dict | None = None) -> Path:
    write_records(CHUNKS, folder / "corpus" / "test.parquet")
    write_records(QUESTIONS, folder / "qa" / "test.parquet")
    if facts:
        (folder / "benchmark.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def benchmark(tmp_path):
    return Benchmark.open(dataset(tmp_path / "moths"))


def reader(answer=lambda system, words: "salt marsh") -> Reader:
    return Reader(ScriptedEngine(answer=answer))


def run(benchmark, folder, system="bm25", readers=None, **settings):
    (records,) = Evaluation(benchmark, Settings(**settings), folder).run(system, readers or {})
    return records


def test_records_hold_what_was_found_and_what_it_is_worth(benchmark, tmp_path):
    records = run(benchmark, tmp_path / "out", readers={"scripted": reader()}, documents={"": 2})
    contents = [chunk.content for chunk in CHUNKS]
    scores = BM25(contents).scores([question.question for question in QUESTIONS])
    positions = np.argsort(-scores, axis=1, kind="stable")
    first, second, third = records.rows
    for row, places, found in zip(records.rows, positions, scores, strict=True):
        assert row.ranking == [CHUNKS[place].id for place in places] and np.allclose(row.ranking_scores, found[places])
        assert row.documents == row.ranking[:2]
    # A document that is named stands for all its chunks; of what has no gold nothing is said.
    assert (first.gold, second.gold, third.gold) == (["a"], ["d", "e"], [])
    assert (first.rank, second.rank, third.rank) == (first.ranking.index("a") + 1, 1, None)
    expected = retrieval_scores([first.ranking, second.ranking], [first.gold, second.gold])
    for name, value in expected.items():
        assert np.mean([first.scores[name], second.scores[name]]) == pytest.approx(value)
    assert first.scores["accuracy"] == 1 and "em" not in first.scores  # it has options
    assert (second.scores["em"], second.scores["f1"]) == (0, 0) and third.scores.keys() == {"em", "f1"}
    shown = {chunk.id: f"Document: {chunk.content[0]['text']}" for chunk in CHUNKS}
    shown["a"] += "<|image|>"
    read = "".join(f"{shown[document]}\n" for document in first.documents)
    asked = "Question: Where does Vela live?\nChoices: lagoon, salt marsh\n"
    assert first.prompt == f"{INSTRUCTION}{CHOOSE}\n\n{read}{asked}"
    (path,) = (tmp_path / "out" / "records").glob("*/*.parquet")
    read = read_table(path)
    assert read.about == json.loads(json.dumps(records.about)) and read.about["benchmark"] == "moths"
    assert [replace(row, ranking_scores=[]) for row in read.rows] == [
        replace(row, ranking_scores=[]) for row in records.rows
    ]


def test_options_are_shown_as_texts_as_letters_or_not_at_all(benchmark, tmp_path):
    prompts, accuracy = {}, {}
    for options in ("texts", "letters", "none"):
        readers = {"r": reader(lambda system, words: "B" if CHOOSE_LETTER in system else "lagoon")}
        row = run(benchmark, tmp_path / "out", readers=readers, options=options).rows[0]
        prompts[options], accuracy[options] = row.prompt, row.scores
    assert "Choices: A. lagoon, B. salt marsh\n" in prompts["letters"] and CHOOSE_LETTER in prompts["letters"]
    assert "Choices" not in prompts["none"]
    assert (accuracy["texts"]["accuracy"], accuracy["letters"]["accuracy"]) == (0, 1)
    assert accuracy["none"]["em"] == 0 and "accuracy" not in accuracy["none"]
    # Other settings, another file.
    assert len({records.about["settings"]["options"] for records in read_all(tmp_path / "out")}) == 3
    with pytest.raises(ValueError, match="Options as 'pictures'; expected one of texts, letters, none"):
        Settings(options="pictures")


def test_options_may_be_searched_for(benchmark, tmp_path):
    plain = run(benchmark, tmp_path / "out").rows[0]
    with_options = run(benchmark, tmp_path / "out", options_in_query=True).rows[0]
    query = [text("Question: Where does Vela live?\nChoices: lagoon, salt marsh")]
    _, scores = BM25([chunk.content for chunk in CHUNKS]).search([query], 5)
    assert np.allclose(with_options.ranking_scores, scores[0]) and plain.ranking_scores != with_options.ranking_scores
    assert len(list((tmp_path / "out" / "rankings").glob("*/*.jsonl"))) == 2


def test_documents_are_given_by_source(tmp_path):
    facts = {"name": "science", "documents": {"lecture": 1, "example": 2}}
    benchmark = Benchmark.open(dataset(tmp_path / "s", facts))
    given = run(benchmark, tmp_path / "out", readers={"r": reader()}).rows[0]
    assert given.documents[0] == "a" and set(given.documents[1:]) < {"c", "d", "e"} and len(given.documents) == 3
    assert len(given.ranking) == 5
    gold = run(benchmark, tmp_path / "out", "gold", {"r": reader()}).rows
    assert [row.documents for row in gold] == [["a"], ["d", "e"], []]
    with pytest.raises(ValueError, match="No chunk of science has a source that begins with 'table'"):
        run(benchmark, tmp_path / "out", documents={"table": 1})


def test_documents_are_spelled_as_numbers_by_source():
    assert parse_documents("3") == {"": 3} and parse_documents("lecture=1, example=2") == {"lecture": 1, "example": 2}
    for wrong in ("three", "lecture=", "-1", ""):
        with pytest.raises(ValueError, match="expected a number, or SOURCE=NUMBER"):
            parse_documents(wrong)
    with pytest.raises(ValueError, match="expected 0 to 100 documents"):
        Settings(documents={"": 101})


def test_a_window_cuts_what_follows():
    documents = [[text("one two"), picture(56, 56, 1), text("three four five")], [text("six")]]
    assert list(cut(documents, 6)) == documents
    (kept,) = cut(documents, 4)
    assert kept == [*documents[0][:2], text("three four")]
    assert list(cut(documents, 2)) == [documents[0][:1]]


def test_controls_give_no_gold_or_other_documents(benchmark, tmp_path):

    def documents(name, folder="out"):
        records = run(benchmark, tmp_path / folder, name, {"r": reader()}, documents={"": 2})
        return [row.documents for row in records.rows]

    given = {name: documents(name) for name in ("none", "gold", "random")}
    assert given["none"] == [[], [], []] and given["gold"] == [["a"], ["d", "e"], []]
    for chosen, row in zip(given["random"], given["gold"], strict=True):
        assert len(chosen) == 2 and not set(chosen) & set(row)
    assert documents("random", "other") == given["random"]


def test_random_documents_come_from_every_source(tmp_path):
    """Also from one with few chunks among many."""
    folder = dataset(tmp_path / "s", {"documents": {"lecture": 1, "example": 2}})
    more = [Chunk(f"x{number}", f"x{number}", "example/9", [text(f"Example {number}.")]) for number in range(400)]
    write_records([*CHUNKS, *more], folder / "corpus" / "test.parquet")
    for row in run(Benchmark.open(folder), tmp_path / "out", "random", {"r": reader()}).rows:
        lecture, *examples = row.documents
        assert lecture in "ab" and len(examples) == 2 and not set(examples) & {"a", "b", *row.gold}


def test_an_answer_that_does_not_come_is_wrong_and_told(benchmark, tmp_path):
    readers = {"r": reader(lambda system, words: "" if "Nyx" in words.rsplit("Question", 1)[1] else "nobody")}
    records = run(benchmark, tmp_path / "out", readers=readers)
    second = records.rows[1]
    assert second.answer is None and second.unanswered == str(ReaderError("The server's answer is empty."))
    assert second.scores["em"] == 0
    (table,) = summarise([records])
    assert table["retrievers"][0]["unanswered"] == 1


def test_prefixes_and_parts_score_as_by_hand(benchmark, model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "encoder")
    model = load_encoder(tmp_path / "encoder")  # in the precision that systems have here
    queries = [question.question for question in QUESTIONS]
    documents = model.encode_documents([chunk.content for chunk in CHUNKS], truncate_dim=16)
    cosines = open_system(f"{tmp_path}/encoder@16", benchmark.corpus).scores(queries)
    assert np.allclose(cosines, model.encode_queries(queries, truncate_dim=16) @ documents.T, atol=1e-5)
    apart = open_system(f"apart:{tmp_path}/encoder", benchmark.corpus).scores([CHUNKS[0].content])
    words, shown = (model.encode_queries([[item]])[0] for item in CHUNKS[0].content)
    for place, chunk in enumerate(CHUNKS):
        parts = model.encode_documents([[item] for item in chunk.content])
        assert apart[0, place] == pytest.approx(sum((parts @ each).max() for each in (words, shown)), abs=1e-4)
    assert system_facts(f"apart:{tmp_path}/encoder")["retriever"] == "apart:encoder"
    assert system_facts(f"{tmp_path}/encoder@16")["retriever"] == "encoder@16"
    with pytest.raises(ValueError, match="has no embeddings to cut to 3 values"):
        open_system("bm25@3", benchmark.corpus)
    with pytest.raises(ValueError, match="fused of whole embeddings; leave out @16"):
        open_system(f"apart:{tmp_path}/encoder@16", benchmark.corpus)
    monkeypatch.setattr(retrievers, "embed", None)
    with pytest.raises(ValueError, match="expected 1 to"):
        open_system(f"{tmp_path}/encoder@9999", benchmark.corpus)


def test_tables_have_means_intervals_and_comparisons(benchmark, tmp_path):
    found = [run(benchmark, tmp_path / "out", name, {"r": reader()}) for name in ("bm25", "none")]
    (table,) = summarise(found)
    first, second = table["retrievers"]
    for name in SCORES:
        values = found[0].scores(name)
        assert first[name] == pytest.approx(np.mean(list(values.values())))
        assert first["interval"][name][0] <= first[name] <= first["interval"][name][1]
    assert "recall@1" not in second and second["accuracy"] == 1
    assert {each["score"] for each in table["comparisons"]} == {"em", "f1", "accuracy"}
    unscored, sentence = told(table)
    assert unscored.startswith("1 of 3 questions name no gold document")
    assert sentence.startswith("bm25 against none: no difference shown in accuracy; +0.0 points")
    assert len(summarise([*found, run(benchmark, tmp_path / "out", words=3, readers={"r": reader()})])) == 2


@pytest.mark.parametrize("unanswered", [0, 12])
def test_a_terminal_of_80_columns_shows_all_of_a_table(benchmark, tmp_path, unanswered):
    (table,) = summarise([run(benchmark, tmp_path / "out", "bm25", {"r": reader()})])
    table["settings"] = {}
    name, (row,) = "apart:runs/demo/apart@128", table["retrievers"]
    row |= {"retriever": name, "unanswered": unanswered}
    for place, score in enumerate(SCORES):
        row |= {score: 1 - place / 8}
        row["interval"][score] = (0.1 + place / 100, 1.0)
    console = Console(width=80, file=StringIO())
    console.print(as_rich(table))
    lines = console.file.getvalue().rsplit("─", 1)[1].splitlines()
    (means,) = [line.split()[1:] for line in lines if ".875" in line]
    assert means == ["1.000", *".875 .750 .625 .500 .375 .250".split(), *["12"] * bool(unanswered)]
    (intervals,) = [line.split()[1:] for line in lines if "–1.00" in line]
    assert intervals == [f".{place}–1.00" for place in range(10, 17)]
    assert "".join(line.split()[0] for line in lines if line.strip()) == name


def test_retrievers_of_one_name_are_told_apart_by_their_revisions(benchmark, tmp_path):
    bm25, none = (run(benchmark, tmp_path / "out", name, {"r": reader()}) for name in ("bm25", "none"))
    seeds = [replace(bm25, about=bm25.about | {"retriever": "stage 1", "revision": each * 64}) for each in ("a", "b")]
    (table,) = summarise([*seeds, none])
    names = ["stage 1 (aaaaaaaa)", "stage 1 (bbbbbbbb)", "none"]
    assert [row["retriever"] for row in table["retrievers"]] == names
    assert {(each["first"], each["second"]) for each in table["comparisons"]} == {
        (names[0], name) for name in names[1:]
    }
    assert told(table)[1].startswith(f"{names[0]} against {names[1]}:")


def test_a_folder_without_questions_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no questions in test"):
        Benchmark.open(tmp_path)


def evaluate(world: Path, output: Path) -> subprocess.Popen:
    models = ["-m", "bm25", "-m", str(world / "encoder"), "-m", f"apart:{world / 'encoder'}", "-m", "gold"]
    nyx = str(Path(sys.executable).parent / "nyx")
    command = [nyx, "evaluate", str(world / "nyxqa"), *models, "-r", str(TINY_VLM), "-o", str(output), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def files(folder: Path) -> dict[str, bytes]:
    kept = [path for name in ("records", "rankings") for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def test_a_killed_evaluation_goes_on_and_gives_the_same_table(tmp_path):
    """Killed when there are some records, and again while the next retriever is at work."""
    build(tmp_path / "nyxqa", species={"test": 8}, triplets={"test": 8})
    NyxModel.from_pretrained(TINY_VLM).save_pretrained(tmp_path / "encoder")
    whole, _ = (process := evaluate(tmp_path, tmp_path / "whole")).communicate(timeout=300)
    assert process.returncode == 0
    for records in (1, 2):
        process = evaluate(tmp_path, tmp_path / "killed")
        until = time.monotonic() + 200
        while len(list((tmp_path / "killed" / "records").rglob("*.parquet"))) < records:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert 0 < len(files(tmp_path / "killed")) < len(files(tmp_path / "whole"))
    again, _ = (process := evaluate(tmp_path, tmp_path / "killed")).communicate(timeout=300)
    assert process.returncode == 0 and json.loads(again) == json.loads(whole)
    assert files(tmp_path / "killed") == files(tmp_path / "whole") and len(files(tmp_path / "whole")) == 7
