"""Rows of public text sets become questions with their gold passages, or are refused with the reason."""

import pytest

from dataset_builders.public_text import bamboogle, hotpotqa, human_question, musique
from dataset_builders.schema import Chunk, QAPair
from modeling_nyx.content_nyx import text_of
from tests.conftest import picture
from tests.public_rows import BAMBOOGLE, HOTPOT, HUMAN, MUSIQUE, TWO_WIKI


def taken_apart(records):
    (question,) = (record for record in records if isinstance(record, QAPair))
    return question, {record.id: record for record in records if isinstance(record, Chunk)}


@pytest.mark.parametrize("row", [HOTPOT, TWO_WIKI], ids=["HotpotQA", "2WikiMultiHopQA"])
def test_hotpotqa(row):
    question, chunks = taken_apart(hotpotqa(row))
    assert (question.id, question.answers, question.kind) == (row["id"], ["Norland"], row["type"])
    assert text_of(question.question) == row["question"] and question.modality == "text"
    assert [chunks[name].document_id for name in question.gold_ids] == ["Ada Holm", "Vela mirabilis"]
    assert [text_of(chunk.content) for chunk in chunks.values()] == [
        "Ada Holm\nAda Holm drew moths. She never left Norland.",
        "Masca lunaris\nMasca lunaris feeds on oak.",
        "Vela mirabilis\nVela mirabilis is named after Ada Holm. It lives in Norland.",
    ]


def test_musique():
    question, chunks = taken_apart(musique(MUSIQUE))
    assert question.answers == ["oak leaves", "leaves of oak"] and question.kind == "2hop"
    assert [text_of(chunks[name].content) for name in question.gold_ids] == [
        "Ada Holm\nHer last drawing is a Masca.",
        "Masca\nA Masca eats oak leaves.",
    ]
    assert len(chunks) == 3


def test_bamboogle():
    question, chunks = taken_apart(bamboogle(BAMBOOGLE))
    assert question.answers == ["Queen Brid"] and question.gold_ids == [] and not chunks
    assert question.id == taken_apart(bamboogle(dict(BAMBOOGLE)))[0].id
    assert question.id != taken_apart(bamboogle(BAMBOOGLE | {"Answer": "King Olm"}))[0].id


def test_human_questions():
    image = picture(28, 28, 1)["image"]
    question, chunks = taken_apart(human_question(HUMAN | {"question_images": [image]}))
    assert [item["type"] for item in question.question] == ["text", "image"] and question.modality == "mixed"
    assert question.gold_ids == ["moths/12"] and question.kind == "short" and not chunks
    assert question.correct_option is None
    options = HUMAN | {"options": ["The upper one.", " The lower one."]}
    question, _ = taken_apart(human_question(options))
    assert (question.options, question.correct_option) == (["The upper one.", "The lower one."], 1)
    plain = {name: HUMAN[name] for name in ("question", "question_images", "options", "answer", "gold_doc_id")}
    assert taken_apart(human_question(plain))[0].kind == ""


@pytest.mark.parametrize(
    ("convert", "row", "reason"),
    [
        (hotpotqa, HOTPOT | {"answer": None}, "no answer"),
        (hotpotqa, HOTPOT | {"question": " "}, "Empty content"),
        (
            hotpotqa,
            HOTPOT | {"supporting_facts": {"title": ["Norland"], "sent_id": [0]}},
            "lacks the supporting 'Norland'",
        ),
        (musique, MUSIQUE | {"answerable": False}, "not answerable"),
        (bamboogle, BAMBOOGLE | {"Answer": " "}, "no answer"),
        (human_question, HUMAN | {"question_in_gold_doc": True}, "stands in its document"),
        (human_question, HUMAN | {"qclass": "interactive-exercise"}, "linked exercise"),
        (human_question, HUMAN | {"question_images": ["/etc/hostname"]}, "picture without its bytes"),
        (human_question, HUMAN | {"options": ["a", "b"]}, "'The lower one.' is not among the options"),
    ],
)
def test_rows_that_cannot_be_used(convert, row, reason):
    with pytest.raises(ValueError, match=reason):
        convert(row)
