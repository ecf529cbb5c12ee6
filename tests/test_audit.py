"""Planted errors are caught by the filters made for them, and counted by modality and source."""

import json
import re

import pytest

from dataset_builders.almanac_guide import field_guide
from dataset_builders.audit import (
    ANSWERABILITY,
    DANGLING,
    ELSEWHERE,
    GOOD,
    PLANTS,
    WORDING,
    WRONG,
    as_draft,
    audit,
    origin,
    samples,
    summary,
)
from dataset_builders.filters import Draft
from dataset_builders.nyxqa import build
from dataset_builders.pairs import QARule
from dataset_builders.questions import question_content
from dataset_builders.schema import Chunk, QAPair, read_records, write_records
from nyx_cli.main import main
from tests.conftest import text
from tests.scripted_reader import script, scripted_reader


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit")
    write_records(field_guide("train", 12, 0)[0], path / "chunks.parquet")
    build(path / "chunks.parquet", path / "nyxqa", good(), "scripted", QARule(held_out=0))
    return path / "nyxqa"


def good():
    return scripted_reader(answer=lambda system, words: script(system, words, misbehave=False))


@pytest.fixture(scope="module")
def records(folder):
    chunks = {chunk.id: chunk for chunk in read_records(Chunk, folder / "corpus" / "train.parquet")}
    return list(read_records(QAPair, folder / "qa" / "train.parquet")), chunks


def test_questions_are_spelt_back(records):
    pairs, chunks = records
    for pair in pairs:
        draft, pictures = as_draft(pair, chunks[pair.gold_ids[0]])
        assert question_content(draft.question, pictures) == pair.question and draft.answer == pair.answers[0]
    chunk, other = Chunk("c", "d", "s", [text("x")]), {"type": "image", "image": b"own"}
    own = QAPair("1", [text("What is "), other], ["y"], [], None, ["c"], "mixed")
    assert as_draft(own, chunk) == (Draft("What is <image1>", "y", 1), [b"own"])


def test_every_error_is_planted_and_differs(records):
    pairs, chunks = records
    found = list(samples(pairs, chunks, seed=0))
    assert found == list(samples(pairs, chunks, seed=0)) != list(samples(pairs, chunks, seed=1))
    for place, pair in enumerate(pairs):
        clean, *planted = found[place * 5 : place * 5 + 5]
        assert clean.plant == GOOD and [each.plant for each in planted] == list(PLANTS)
        wrong, elsewhere, dangling, wording = (each.draft for each in planted)
        assert wrong.answer in pair.options and wrong.answer != pair.answers[0] != elsewhere.answer
        number = int(re.findall(r"<image(\d)>", dangling.question)[0])
        assert number > dangling.pictures and wording.question != clean.draft.question


def test_filters_catch_what_they_are_made_for(records):
    pairs, chunks = records
    counts = summary(list(audit(samples(pairs, chunks, 0), None)))
    table, total = counts["all"], len(pairs)
    assert table["pictures"] == {GOOD: (0, total), WRONG: (0, total), ELSEWHERE: (0, total)} | {
        DANGLING: (total, total),
        WORDING: (0, total),
    }
    caught = table["page words"][WORDING][0]
    assert total / 2 < caught < total and table["any filter"][GOOD] == (0, total)
    for kind in ("modality", "source"):
        parts = [each for name, each in counts.items() if name.startswith(kind)]
        assert sum(each["any filter"][WORDING][1] for each in parts) == total


def test_the_reader_finds_wrong_answers(records):
    pairs, chunks = records
    table = summary(list(audit(samples(pairs, chunks, 0), good())))["all"]
    total = len(pairs)
    assert table[ANSWERABILITY][WRONG] == table[ANSWERABILITY][ELSEWHERE] == (total, total)
    # This reader doesn't find words that stand on both sides of a picture.
    assert 0 < table[ANSWERABILITY][GOOD][0] < total / 4


def test_the_command_shows_and_keeps_counts(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["audit-qa", str(folder), "-n", "10", "-o", str(tmp_path / "audit.json")])
    assert end.value.code == 0 and "caught by" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text())["all"]["pictures"][DANGLING] == [10, 10]


def test_sources_are_grouped():
    assert origin("https://github.com/18F/guides/blob/abc/x.md") == "github.com/18F/guides"
    assert (origin("docs/a/x.md"), origin("x.md")) == ("docs/a", ".")
