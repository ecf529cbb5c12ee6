"""From chunks to a dataset folder: all steps run, losses have reasons, and the same seed gives the same bytes."""

import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from datasets import load_dataset

from dataset_builders import nyxqa, pairs
from dataset_builders.almanac_guide import field_guide
from dataset_builders.asking import NO_ANSWER, NO_FIT, NO_JSON, Rejected
from dataset_builders.card import write_card
from dataset_builders.filters import CONTEXT, DANGLING
from dataset_builders.nyxqa import build
from dataset_builders.options import TOO_FEW
from dataset_builders.pairs import QARule, Reject, chunk_pairs
from dataset_builders.prompts import ASK_PICTURES, ASK_SEVERAL, ASK_TEXT, DISTRACT, REFINE
from dataset_builders.questions_report import STEPS
from dataset_builders.schema import Chunk, Preference, QAPair, read_records, write_records
from modeling_nyx.content_nyx import text_of
from nyx.engines import ReaderError
from nyx.records import image_bytes
from tests.conftest import picture, text
from tests.scripted_reader import ScriptedEngine, digest, lead, script, scripted_reader, spelt

RULE = QARule(chunks=1000, held_out_share=0.2)


@pytest.fixture(scope="module")
def chunks(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("chunks") / "chunks.parquet"
    write_records([chunk for seed in range(3) for chunk in field_guide("train", 8, seed)[0]], path)
    return path


@pytest.fixture(scope="module")
def built(chunks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return folder, build(chunks, folder, scripted_reader(), "scripted", RULE)


def files(folder: Path) -> dict[str, bytes]:
    """Everything but the answers; the card says where it lies."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().replace(bytes(folder), b"")
        for path in folder.rglob("*")
        if path.is_file() and "answers.sqlite" not in path.name
    }


def rejected(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "qa" / "rejected.jsonl").read_text().splitlines()]


def test_questions_of_the_almanac_load_as_a_dataset(built, chunks):
    folder, report = built
    questions, corpus = load_dataset(str(folder)), load_dataset(str(folder), "corpus")
    assert set(questions) == set(corpus) == {"train", "validation", "test"}
    everything = {chunk.id: chunk for chunk in read_records(Chunk, chunks)}
    assert corpus["test"].num_rows == corpus["validation"].num_rows == len(everything)
    documents: dict[str, set[str]] = {}
    for split in questions:
        found = list(read_records(QAPair, folder / "qa" / f"{split}.parquet"))
        assert len(found) == sum(count for (name, _), count in report.kept.items() if name == split) > 0
        for pair in found:
            gold = everything[pair.gold_ids[0]]
            assert pair.options[pair.correct_option] == pair.answers[0] and len(set(pair.options)) == 4
            assert pair.answers[0] in text_of(gold.content) and len(pair.answers[0].split()) <= 5
            shown = [item["image"] for item in pair.question if item["type"] == "image"]
            assert set(shown) <= {item["image"] for item in gold.content if item["type"] == "image"}
            assert len(shown) == {"": min(len(shown), 1), "several pictures": 2}[pair.kind]
            assert bool(shown) == (pair.modality != "text")
            documents.setdefault(split, set()).add(gold.document_id)
        assert {place for pair in found for place in [pair.correct_option]} == {0, 1, 2, 3} or split != "train"
    assert not documents["train"] & documents["test"] and not documents["validation"] & documents["test"]
    held_out = documents["validation"] | documents["test"]
    assert not held_out & {chunk["document_id"] for chunk in corpus["train"]}
    assert not documents["train"] & documents["validation"]


def test_everything_left_out_has_its_reason_and_is_counted(built):
    folder, report = built
    rows = rejected(folder)
    assert {NO_JSON, NO_FIT, NO_ANSWER, CONTEXT, DANGLING, TOO_FEW, pairs.NO_SHORT_ANSWER} <= {
        row["reason"] for row in rows
    }
    assert Counter(f"{row['step']}: {row['reason']}" for row in rows) == report.reasons()
    value = json.loads((folder / "qa" / "report.json").read_text())
    assert value["counts"]["chunks asked about"] == value["counts"]["chunks"]
    left = list(report.left_after().values())
    assert all(
        a >= b for before, after in zip(left, left[1:], strict=False) for a, b in zip(before, after, strict=True)
    )
    drafts = sum(row["step"] != "chunk" for row in rows)
    assert sum(left[0]) == drafts + report.kept.total() and len(left) == len(STEPS) + 1
    assert (folder / "qa" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "questions of a reader" in (folder / "README.md").read_text()


@pytest.mark.parametrize("workers", [1, 8])
def test_same_seed_same_bytes_whatever_the_concurrency_and_latency(built, chunks, tmp_path, workers):
    reader = scripted_reader(workers=workers, pause=0.002, seed=workers)
    build(chunks, tmp_path, reader, "scripted", RULE)
    assert files(tmp_path) == files(built[0])


def test_a_run_that_was_stopped_goes_on(built, chunks, tmp_path):
    cache = tmp_path / "qa" / "answers.sqlite"

    def dies(system, words):
        if len(engine.asked) > 120:
            raise KeyboardInterrupt
        return script(system, words)

    reader = scripted_reader(cache, answer=dies)
    engine = reader.engine
    with pytest.raises(KeyboardInterrupt):
        build(chunks, tmp_path, reader, "scripted", RULE)
    assert not files(tmp_path)
    kept = sqlite3.connect(cache).execute("SELECT count(*) FROM answers").fetchone()[0]
    again = scripted_reader(cache)
    build(chunks, tmp_path, again, "scripted", RULE)
    assert files(tmp_path) == files(built[0]) and kept > 80
    whole = ScriptedEngine()
    build(chunks, tmp_path / "whole", nyxqa.Reader(whole), "scripted", RULE)
    assert len(again.engine.asked) == len(whole.asked) - kept


def test_sampling_takes_part_of_the_chunks(chunks, tmp_path):
    reader = scripted_reader()
    report = build(chunks, tmp_path, reader, "scripted", QARule(chunks=20, held_out=0))
    assert report.sampled.total() == 20 < report.chunks.total()
    assert sorted(path.name for path in (tmp_path / "qa").glob("*.parquet")) == ["train.parquet"]


def test_a_smaller_run_removes_the_splits_of_a_larger_one(chunks, tmp_path):
    build(chunks, tmp_path, scripted_reader(), "scripted", RULE)
    build(chunks, tmp_path, scripted_reader(), "scripted", QARule(held_out=0))
    assert set(load_dataset(str(tmp_path), "corpus")) == set(load_dataset(str(tmp_path))) == {"train"}


def test_examples_and_feedback_of_earlier_questions_are_removed(chunks, tmp_path):
    build(chunks, tmp_path, scripted_reader(), "scripted", RULE)
    question = next(read_records(QAPair, tmp_path / "qa" / "train.parquet")).question
    made = [Preference("1", question, [[text("a")]], [[text("b")]], utilities=[1.0, 0.0])]
    for place in ("triplets", "feedback", "feedback/reader"):
        write_records(made, tmp_path / place / "train.parquet")
    (tmp_path / "feedback" / "answers.sqlite").write_bytes(b"paid for")
    write_card(tmp_path, "feedback", {"examples": 1})
    card = (tmp_path / "README.md").read_text()
    assert "feedback/train.parquet" in card and "Made by: feedback" in card
    build(chunks, tmp_path, scripted_reader(), "scripted", QARule(chunks=1000, held_out_share=0.2, seed=1))
    left = [path for place in ("triplets", "feedback") for path in (tmp_path / place).rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["answers.sqlite"]
    card = (tmp_path / "README.md").read_text()
    assert "feedback/train.parquet" not in card and "Made by: feedback" not in card


def test_another_dataset_is_never_overwritten(chunks, tmp_path):
    write_records([QAPair("1", [text("x")], ["y"], [], None, [], "text")], tmp_path / "qa" / "train.parquet")
    with pytest.raises(ValueError, match="not made by this command"):
        build(chunks, tmp_path, scripted_reader(), "scripted", RULE)


def test_without_any_question_the_reasons_are_told_and_kept(chunks, tmp_path):
    with pytest.raises(ValueError, match="No question is left of .* chunks: .*the answer is no JSON"):
        build(chunks, tmp_path, scripted_reader(answer=lambda system, words: "Sorry."), "scripted", RULE)
    assert {row["reason"] for row in rejected(tmp_path)} == {NO_JSON} and not list(tmp_path.rglob("*.parquet"))


PAGE = [text("One two three four five six."), picture(56, 56, 1), text("seven"), picture(60, 56, 2)]
CHUNK = Chunk(
    "c", "d", "s", [item if item["type"] == "text" else item | {"image": image_bytes(item["image"])} for item in PAGE]
)


def said(*questions):
    return json.dumps({"pairs": [{"question": question, "answer": "four"} for question in questions]})


def run(answers, rule=RULE, chunk=CHUNK):
    """Lead one chunk's conversation; `answers` by instruction, the reader's own answers are those of `script`."""
    replies = {REFINE: '{"answer": "four"}', DISTRACT: '{"options": ["1", "2", "3"]}'} | answers
    found, asked = lead(
        chunk_pairs(chunk, rule),
        lambda request: (
            replies[request.system] if request.system in replies else script(request.system, spelt(request))
        ),
    )
    return found, asked


def test_several_pictures_are_asked_about_twice():
    several = said("What links <image1> and <image2>?", "What is in <image2>?")
    plain = said("What is in <image2>?", *["Who came first?"] * 6)
    found, asked = run({ASK_PICTURES: plain, ASK_SEVERAL: several})
    reasons = [each.reason if isinstance(each, Reject) else each.kind for each in found]
    assert reasons == [
        "",
        "",
        "",
        "",
        "",
        pairs.SURPLUS,
        pairs.SURPLUS,
        "several pictures",
        "shows fewer than two pictures",
    ]
    both = next(each for each in found if isinstance(each, QAPair) and each.kind)
    images = [item["image"] for item in CHUNK.content if item["type"] == "image"]
    assert [item["image"] for item in both.question if item["type"] == "image"] == images
    assert both.modality == "several pictures" and both.gold_ids == ["c"]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ('Which words follow "two three"?', None),
        ('Which words follow "three"?', None),
        ("Which words follow nothing?", pairs.NOT_ANSWERED),
    ],
)
def test_the_reader_checks_its_questions(question, reason):
    chunk = Chunk("c", "d", "s", PAGE[:1])
    found, _ = run({ASK_TEXT: said(question)}, QARule(check=True), chunk)
    assert [each.reason if isinstance(each, Reject) else None for each in found] == [reason]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (("it is four", "I cannot know"), None),
        (("four", "Four!"), pairs.ANSWERED_ANYWAY),
        (("five", "six"), pairs.NOT_ANSWERED),
        (("four", ReaderError("too late")), NO_ANSWER),
    ],
)
def test_questions_that_need_no_page_are_left_out(answers, reason):
    left = list(answers)
    conversation = pairs.check(PAGE[:1], [text("What follows three?")], ["four"])
    if reason is None:
        assert lead(conversation, lambda _: left.pop(0))[0] is None and not left
        return
    with pytest.raises(Rejected, match=reason):
        lead(conversation, lambda _: left.pop(0))


def test_the_same_pair_of_two_chunks_is_kept_once(tmp_path):
    twice = [Chunk(name, name, "s", [text(f"One two three four five six. {name}")]) for name in "abcdef"]
    write_records(twice, tmp_path / "c.parquet")
    reader = scripted_reader(answer=lambda system, words: script(system, words, misbehave=False))
    report = build(tmp_path / "c.parquet", tmp_path / "out", reader, "scripted", RULE)
    assert report.kept.total() == 1 and report.reasons() == {f"twice: {nyxqa.TWICE}": 5}
    assert {digest(row["chunk"]) for row in rejected(tmp_path / "out")} == {digest(name) for name in "bcdef"}
