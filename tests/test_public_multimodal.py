"""Rows of public sets with pictures become records with the pictures in place, or are refused with the reason."""

import pytest

from dataset_builders.public_multimodal import mme5, multimodalqa, scienceqa
from dataset_builders.schema import Chunk
from modeling_nyx import load_image
from modeling_nyx.content_nyx import text_of
from tests.conftest import colored
from tests.public_rows import MME5, MMQA_IMAGE, MMQA_QUESTION, MMQA_TABLE, MMQA_TEXT, SCIENCE_QA


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for seed, name in enumerate(["991237d4.jpg", "OK-VQA/1.jpg", "OK-VQA/2.jpg"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colored(40, 30, seed).save(path)
    (tmp_path / "secret.jpg").write_bytes((folder / "991237d4.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def kinds(content):
    return [item["type"] for item in content]


def test_scienceqa():
    lecture, question = scienceqa(SCIENCE_QA | {"image": {"bytes": b"png", "path": None}})
    assert isinstance(lecture, Chunk) and text_of(lecture.content) == "A Vela has feathered antennae."
    assert kinds(question.question) == ["image", "text"] and question.question[0]["image"] == b"png"
    assert text_of(question.question) == "Two moths sit on a leaf.\nWhich moth is a Vela?"
    assert (question.answers, question.correct_option) == (["the right one"], 1)
    assert question.gold_ids == [lecture.id] and question.modality == "mixed" and question.kind == "natural science"
    (alone,) = scienceqa(SCIENCE_QA | {"lecture": "", "hint": ""})
    assert alone.gold_ids == [] and alone.modality == "text" and text_of(alone.question) == "Which moth is a Vela?"


def test_multimodalqa(images):
    (question,) = multimodalqa(MMQA_QUESTION, images)
    assert (question.id, question.answers, question.modality) == ("a33985b1", ["4"], "mixed")
    assert question.gold_ids == ["dcd7cb8f", "991237d4"] and question.kind == "Compose(ImageQ,TableQ)"
    chunks = [multimodalqa(row, images)[0] for row in (MMQA_TEXT, MMQA_TABLE, MMQA_IMAGE)]
    assert [chunk.document_id for chunk in chunks] == ["a7d9e635", "dcd7cb8f", "991237d4"]
    assert text_of(chunks[0].content) == "Norland Show\nA yearly show."
    assert text_of(chunks[1].content) == "Norland Show\nWinners\nYear | Moth\n1930 | Masca lunaris\n1931 | Vela"
    assert kinds(chunks[2].content) == ["text", "image"] and text_of(chunks[2].content) == "Vela"
    assert load_image(chunks[2].content[1]["image"]).size == (40, 30)


def test_mme5_negatives_are_read_from_their_spelling(images):
    (example,) = mme5(MME5, images)
    assert kinds(example.query) == ["image", "text"] and text_of(example.query).startswith("Represent")
    assert text_of(example.positives[0]) == "a Vela"
    assert [text_of(negative) for negative in example.negatives] == ["a Masca", "a moth's wing"]
    as_lists = MME5 | {"neg_text": ["a Masca", "a moth's wing", ""], "neg_image_path": ["", "", ""]}
    assert mme5(as_lists, images) == [example]


def test_mme5_pictures_stand_where_their_mark_is(images):
    row = MME5 | {
        "qry": "Find a picture: <|image_1|>\nlike this",
        "pos_text": "<|image_1|>\nRepresent the given picture.",
        "pos_image_path": "OK-VQA/2.jpg",
        "neg_text": "['<|image_1|>\\nRepresent the given picture.', 'unmarked', 'a Vela']",
        "neg_image_path": "['OK-VQA/1.jpg', 'OK-VQA/2.jpg', '']",
    }
    (example,) = mme5(row, images)
    assert kinds(example.query) == ["text", "image", "text"] and kinds(example.positives[0]) == ["image", "text"]
    assert [kinds(negative) for negative in example.negatives] == [["image", "text"], ["image", "text"], ["text"]]
    assert example.positives[0][0]["image"].name == "2.jpg"
    (same,) = mme5(row | {"neg_text": [row["pos_text"]], "neg_image_path": ["OK-VQA/2.jpg"]}, images)
    assert same.negatives == []


def test_a_mark_without_a_picture_is_left_out(images):
    (example,) = mme5(MME5 | {"qry": "<|image_1|>\nFind a moth.", "qry_image_path": ""}, images)
    assert example.query == [{"type": "text", "text": "Find a moth."}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pos_text": ""}, "Empty content"),
        ({"qry_image_path": "../secret.jpg"}, "picture outside the folder: ../secret.jpg"),
        ({"qry_image_path": "/etc/hostname"}, "picture outside the folder"),
        ({"qry_image_path": "broken.jpg"}, "broken.jpg"),
        ({"qry_image_path": "none.jpg"}, "none.jpg"),
        ({"neg_text": "['a'"}, "not a list"),
        ({"neg_text": "[1, 2, 3]"}, "not a list of texts"),
        ({"neg_text": "__import__('os')"}, "malformed|not a list"),
        ({"neg_text": "['a']"}, "1 neg_text but 3 neg_image_path"),
    ],
)
def test_mme5_rows_that_cannot_be_used(change, reason, images):
    with pytest.raises(ValueError, match=reason):
        mme5(MME5 | change, images)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": 2}, "answer 2 of 2 choices"),
        ({"question": "", "hint": ""}, "Empty content"),
        ({"image": {"bytes": None, "path": "/etc/hostname"}}, "picture without its bytes"),
    ],
)
def test_scienceqa_rows_that_cannot_be_used(change, reason):
    with pytest.raises(ValueError, match=reason):
        scienceqa(SCIENCE_QA | change)
