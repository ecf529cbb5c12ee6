"""Benchmarks hold the questions that were drawn, and the corpus that they are asked of."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dataset_builders.public_sets import PUBLIC_SETS
from dataset_builders.schema import Chunk, QAPair, read_records, write_records
from evaluation.benchmark import Benchmark
from evaluation.scorers import score
from evaluation.sets import BENCHMARKS, build, sample
from modeling_nyx.content_nyx import text_of, to_content
from tests.conftest import colored, picture, text
from tests.public_rows import (
    BAMBOOGLE,
    HOTPOT,
    HUMAN,
    MMQA_IMAGE,
    MMQA_QUESTION,
    MMQA_TABLE,
    MMQA_TEXT,
    MUSIQUE,
    SCIENCE_QA,
)
from tests.test_public_sets import MULTIHOP, needs_multihop, png, repository

ANSWERED = {
    "id": "a1",
    "dataset": "musique",
    "question": "What feeds the moth?",
    "answers": ["oak leaves", "leaves of oak"],
    "type": "2hop",
    "license": "CC BY 4.0",
    "paragraphs": [
        {"title": "Ada Holm", "text": "She drew a Vela first.", "is_gold": False},
        {"title": "Masca", "text": "A Masca eats oak leaves.", "is_gold": True},
    ],
}


def lines(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(folder: Path) -> tuple[list[QAPair], list[Chunk], dict]:
    """Return a benchmark's questions, chunks and facts."""
    questions = list(read_records(QAPair, folder / "qa" / "test.parquet"))
    chunks = list(read_records(Chunk, folder / "corpus" / "test.parquet"))
    return questions, chunks, json.loads((folder / "benchmark.json").read_text())


def fail(row: str, reason: str) -> None:
    pytest.fail(f"{row}: {reason}")


@pytest.mark.parametrize(
    ("name", "row", "split"),
    [
        ("hotpotqa", HOTPOT, "validation"),
        ("2wikimultihopqa", HOTPOT, "validation"),
        ("musique", MUSIQUE, "validation"),
    ],
)
def test_a_set_of_the_hub(name, row, split, tmp_path):
    source = repository(tmp_path / "hub", name, [row, row | {"id": "2hop__2"}], split)
    facts = build(name, tmp_path / "out", fail, source=str(source), seed=3)
    questions, chunks, kept = read(tmp_path / "out")
    assert facts == kept and (kept["name"], kept["source_split"], kept["seed"]) == (name, split, 3)
    assert kept["scorer"] == BENCHMARKS[name].scorer and kept["licence"]
    assert [question.id for question in questions] == [row["id"], "2hop__2"] and len(chunks) == 3
    assert all(set(question.gold_ids) < {chunk.id for chunk in chunks} for question in questions)
    assert score(kept["scorer"], questions[0].answers[0], questions[0].answers) == {"em": 1, "f1": 1}


def test_scienceqa_searches_lectures_of_all_splits_and_solved_training_questions(tmp_path):
    source = tmp_path / "hub"
    rows = {
        "test": [SCIENCE_QA | {"image": {"bytes": png(1), "path": None}}],
        "validation": [SCIENCE_QA | {"lecture": "A moth is no bird."}, SCIENCE_QA],
        "train": [SCIENCE_QA | {"question": "Which moth is no Vela?", "answer": 0}],
    }
    for split, each in rows.items():
        repository(source / split, "scienceqa", each, split)
    header = "".join(f"  - split: {split}\n    path: {split}/default/{split}-*\n" for split in rows)
    (source / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{header}---\n")
    build("scienceqa", tmp_path / "out", fail, source=str(source))
    (question,), chunks, facts = read(tmp_path / "out")
    opened = Benchmark.open(tmp_path / "out")
    assert (opened.name, opened.scorer, opened.documents) == ("scienceqa", "choice", {"lecture": 1, "example": 2})
    assert opened.gold == [question.gold_ids]
    found = {text_of(chunk.content): chunk.source for chunk in chunks}
    solved = (
        "Two moths sit on a leaf.\nWhich moth is no Vela?\nChoices: the left one, the right one\n"
        "Answer: the left one\nThe right one has feathered antennae."
    )
    lecture = "A Vela has feathered antennae."
    assert found == {lecture: "lecture", "A moth is no bird.": "lecture", solved: "example"}
    assert [text_of(chunk.content) for chunk in chunks if chunk.id in question.gold_ids] == [lecture]
    assert score(facts["scorer"], "B", question.answers, question.options) == {"accuracy": 1}


def test_multimodalqa_keeps_its_documents_ids(tmp_path):
    colored(40, 30, 1).save(tmp_path / "991237d4.jpg")
    names = ("texts", "tables", "images", "dev")
    rows = ([MMQA_TEXT], [MMQA_TABLE], [MMQA_IMAGE], [MMQA_QUESTION, MMQA_QUESTION | {"qid": "other"}])
    for name, each in zip(names, rows, strict=True):
        with gzip.open(tmp_path / f"MMQA_{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in each)
    build("multimodalqa", tmp_path / "out", fail, source=str(tmp_path), images=tmp_path, questions=1)
    (question,), chunks, facts = read(tmp_path / "out")
    assert set(question.gold_ids) == {chunk.document_id for chunk in chunks[1:]} and len(chunks) == 3
    assert facts["questions_without_gold"] == 0 and facts["scorer"] == "multimodalqa"


def test_nyxqa_in_its_authors_layout(tmp_path):
    (tmp_path / "images").mkdir()
    colored(40, 30, 1).save(tmp_path / "images" / "1.jpg")
    corpus = [{"text": "A Vela: <|image|>", "images": ["1.jpg"]}, {"text": "An oak.", "images": []}]
    row = {
        "qry": "What is it?",
        "qry_image_path": [],
        "ans": "Vela",
        "choices": ["a Vela", "an oak"],
        "right_choice": 0,
    }
    rows = [row | {"pos_text": "A Vela: <|image|>", "pos_image_path": ["1.jpg"]}]
    rows += [row | {"pos_text": "Lost.", "pos_image_path": [], "ans": "a Vela"}]
    for name, each in (("corpus", corpus), ("test", rows)):
        (tmp_path / f"{name}.json").write_text(json.dumps(each))
    facts = build("nyxqa", tmp_path / "out", fail, source=str(tmp_path))
    questions, chunks, _ = read(tmp_path / "out")
    assert [question.gold_ids for question in questions] == [[chunks[0].id], []]
    assert facts["questions_without_gold"] == 1 and len(chunks) == 2
    for question in questions:
        assert score("choice", "a Vela", question.answers, question.options) == {"accuracy": 1}


def test_a_file_of_questions_with_their_paragraphs(tmp_path):
    path = lines(tmp_path / "mine.jsonl", [ANSWERED, ANSWERED | {"id": "a2", "answers": ["acorns"]}])
    facts = build(str(path), tmp_path / "out", fail)
    (first, second), chunks, _ = read(tmp_path / "out")
    assert (facts["name"], facts["scorer"], facts["source"]) == ("mine", "musique", "mine.jsonl")
    assert facts["licence"] == "CC BY 4.0" and (first.id, first.kind, second.answers) == ("a1", "2hop", ["acorns"])
    assert first.gold_ids == second.gold_ids == [chunks[1].id] and len(chunks) == 2
    unknown = lines(tmp_path / "own.jsonl", [{**ANSWERED, "dataset": "own"}])
    assert "scorer" not in build(str(unknown), tmp_path / "own", fail)


@pytest.mark.parametrize(("row", "scorer"), [(HOTPOT, "hotpotqa"), (MUSIQUE, "musique"), (SCIENCE_QA, "choice")])
def test_a_file_is_known_by_its_columns(row, scorer, tmp_path):
    assert build(str(lines(tmp_path / "rows.jsonl", [row])), tmp_path / "out", fail)["scorer"] == scorer


def test_a_corpus_of_ones_own(tmp_path):
    titled = [{"title": each["title"], "text": each["text"]} for each in ANSWERED["paragraphs"]]
    path = lines(tmp_path / "mine.jsonl", [ANSWERED])
    facts = build(str(path), tmp_path / "out", fail, corpus=lines(tmp_path / "all.jsonl", titled * 2))
    (question,), chunks, _ = read(tmp_path / "out")
    assert len(chunks) == 2 and question.gold_ids == [chunks[1].id] and facts["questions_without_gold"] == 0
    other = lines(tmp_path / "other.jsonl", titled[:1])
    assert build(str(path), tmp_path / "out", fail, corpus=other)["questions_without_gold"] == 1
    questions = lines(tmp_path / "people.jsonl", [HUMAN, HUMAN | {"gold_doc_id": "moths/13"}])
    page = [replace(chunk, id=f"{chunk.id}{part}", document_id="moths/12") for chunk in chunks for part in "ab"]
    write_records(page, tmp_path / "chunks.parquet")
    facts = build(str(questions), tmp_path / "people", fail, corpus=tmp_path / "chunks.parquet")
    assert (facts["questions"], facts["chunks"], facts["questions_without_gold"]) == (2, 4, 1)
    bamboogle = lines(tmp_path / "bamboogle.jsonl", [BAMBOOGLE])
    facts = build("bamboogle", tmp_path / "b", fail, source=str(bamboogle), corpus=tmp_path / "chunks.parquet")
    assert facts["scorer"] == "squad" and facts["questions_without_gold"] == 1


def test_gold_of_ones_own_is_named_by_chunk_document_or_source(tmp_path):
    chunks = [
        Chunk(f"c{number}", f"d{number}", f"guide/{number}.md", [text(f"Page {number}.")]) for number in range(3)
    ]
    write_records(chunks, tmp_path / "chunks.parquet")
    rows = [
        {"question": "Which page?", "answers": ["a"], "gold_ids": [name]} for name in ("c0", "d1", "guide/2.md", "x")
    ]
    own = lines(tmp_path / "own.jsonl", rows)
    facts = build(str(own), tmp_path / "out", fail, corpus=tmp_path / "chunks.parquet")
    assert facts["questions_without_gold"] == 1
    assert Benchmark.open(tmp_path / "out").gold == [["c0"], ["c1"], ["c2"], []]


def test_a_datasets_own_questions_are_a_file_of_questions(tmp_path):
    pairs = [QAPair("1", [text("Who?"), picture(40, 40, 1)], ["Ada"], ["Ada", "Bo"], 0, ["c"], "mixed", "person")]
    write_records(pairs, tmp_path / "qa.parquet")
    write_records([Chunk("c", "d", "s", [text("Ada.")])], tmp_path / "chunks.parquet")
    build(str(tmp_path / "qa.parquet"), tmp_path / "out", fail, corpus=tmp_path / "chunks.parquet")
    (question,), _, _ = read(tmp_path / "out")
    assert (question.options, question.correct_option, question.gold_ids) == (["Ada", "Bo"], 0, ["c"])
    assert [item["type"] for item in question.question] == ["text", "image"] and question.modality == "mixed"


def test_a_file_of_json_is_read_as_it_stands(tmp_path):
    """A loader that makes one type of every column would spell all of these as JSON in a text."""
    (tmp_path / "local.png").write_bytes(png(0))
    asked = [{"type": "text", "text": "Where?"}, {"type": "text", "text": "And when?"}]
    rows = [
        {"id": 1, "question": "plain?", "answers": [5], "gold_ids": [1984]},
        {"id": "2", "question": asked, "answers": ["2024-01-02"], "gold_ids": ["Vela"]},
        {"id": 1, "question": "again?", "answers": ["a"]},
        {"id": "4", "question": "text?", "answers": "a"},
        {"id": "5", "question": {"text": "<|image|>?", "images": [str(tmp_path / "local.png")]}, "answers": ["a"]},
    ]
    titled = [{"title": 1984, "text": "A year."}, {"title": "Vela", "text": "A moth."}, {"title": None, "text": ""}]
    left_out = []
    build(
        str(lines(tmp_path / "q[1].jsonl", rows)),
        tmp_path / "out",
        lambda *told: left_out.append(told),
        corpus=lines(tmp_path / "c.jsonl", titled),
    )
    (first, second), chunks, _ = read(tmp_path / "out")
    assert (first.id, first.answers, first.question) == ("1", ["5"], [text("plain?")])
    assert second.question == to_content(asked)
    assert second.answers == ["2024-01-02"] and [chunk.document_id for chunk in chunks] == ["1984", "Vela"]
    assert Benchmark.open(tmp_path / "out").gold == [[chunks[0].id], [chunks[1].id]]
    reasons = " ".join(f"{row}: {reason};" for row, reason in left_out)
    for reason in (
        "1: a question of this id",
        "row 3: answers is a text",
        "row 4: picture without",
        "c.jsonl, row 2: Empty",
    ):
        assert reason in reasons
    (tmp_path / "list.json").write_text(json.dumps(rows[:2]))
    corpus = lines(tmp_path / "d.jsonl", titled[:2])
    assert build(str(tmp_path / "list.json"), tmp_path / "list", fail, corpus=corpus)["questions"] == 2


def test_questions_of_one_id_are_refused(tmp_path):
    pair = QAPair("1", [text("Who?")], ["Ada"], [], None, ["c"], "text")
    write_records([pair, replace(pair, answers=["Bo"])], tmp_path / "qa" / "test.parquet")
    write_records([Chunk("c", "d", "s", [text("Ada.")])], tmp_path / "corpus" / "test.parquet")
    with pytest.raises(ValueError, match="ids with several questions, '1' first"):
        Benchmark.open(tmp_path)


def test_questions_are_drawn_alike_by_the_same_seed(tmp_path):
    question = next(record for record in PUBLIC_SETS["bamboogle"].records(BAMBOOGLE))
    groups = [[replace(question, id=str(number))] for number in range(50)]
    document = ["a document's row"]

    def drawn(count: int | None, seed: int) -> list[str]:
        first, *rest = sample([document, *groups], count, seed)
        assert first == document
        return [group[0].id for group in rest]

    assert drawn(None, 1) == drawn(50, 1) == drawn(80, 1) == [str(number) for number in range(50)]
    assert drawn(10, 1) == drawn(10, 1) == sorted(drawn(10, 1), key=int) and len(set(drawn(10, 1))) == 10
    assert drawn(10, 1) != drawn(10, 2)
    # Each question is drawn as often as any other: 400 draws of 10 of 50 give each 80, and 80 ± 8 of one deviation.
    counts = [0] * 50
    for seed in range(400):
        for name in drawn(10, seed):
            counts[int(name)] += 1
    assert all(48 < count < 112 for count in counts)


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        ([ANSWERED], "squad", "Unknown benchmark 'squad'; expected a file, or one of hotpotqa"),
        ([{"text": "a"}], "rows.jsonl", r"has rows of \['text'\]; expected the columns of one of"),
        ([ANSWERED | {"paragraphs": []}], "rows.jsonl", "bring no documents. Name a corpus"),
        ([ANSWERED | {"answers": []}], "rows.jsonl", "no question that can be used; row 0.*: .*answer"),
        ([ANSWERED | {"gold_ids": "c0"}], "rows.jsonl", "gold_ids is a text, 'c0'; expected a list"),
    ],
)
def test_what_is_no_benchmark_is_refused_and_leaves_nothing(rows, name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        build(name, tmp_path / "out", lambda row, reason: None)
    assert not list(tmp_path.glob("out/**/*.parquet*")) and not (tmp_path / "out" / "benchmark.json").exists()


def test_a_corpus_of_other_rows_is_refused(tmp_path):
    path = lines(tmp_path / "mine.jsonl", [ANSWERED])
    with pytest.raises(ValueError, match="row 0 has .*; a corpus needs title and text"):
        build(str(path), tmp_path / "out", fail, corpus=lines(tmp_path / "other.jsonl", [{"text": "a"}]))


@needs_multihop
@pytest.mark.parametrize(("name", "questions", "chunks"), [("hotpotqa_200", 200, 1971), ("musique_200", 200, 3141)])
def test_kept_rows(name, questions, chunks, tmp_path):
    facts = build(str(MULTIHOP / f"{name}.jsonl"), tmp_path / "out", fail)
    assert (facts["questions"], facts["chunks"], facts["questions_without_gold"]) == (questions, chunks, 0)
