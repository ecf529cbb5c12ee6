"""MMEB's rows run through MTEB as precision@1 among each query's own candidates."""

import mteb
import numpy as np
import pytest

from dataset_builders.public_multimodal import marked
from evaluation.mmeb import make_task
from nyx.mteb_encoder import MTEBEncoder
from tests.conftest import colored

FACTS = ["lives by the lagoon", "flies at dusk", "eats heather", "is rare", "winters as an egg", "comes to light"]


@pytest.fixture
def images(tmp_path):
    for number in range(len(FACTS)):
        colored(84, 56, number).save(tmp_path / f"{number}.jpg")
    return tmp_path


@pytest.fixture
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("mmeb")
    model.save_pretrained(path)
    return path


def rows() -> list[dict]:
    """Pictures asked for by words, among three candidates each, one of them twice."""
    found = []
    for number, fact in enumerate(FACTS):
        others = [(number + step) % len(FACTS) for step in (0, 1, 3, 1)]
        found.append(
            {
                "qry_text": f"<|image_1|>\nFind a picture of the moth that {fact}." if number % 2 else fact,
                "qry_img_path": f"{number}.jpg" if number % 2 else "",
                "tgt_text": ["<|image_1|>\nRepresent the picture." for _ in others],
                "tgt_img_path": [f"{other}.jpg" for other in others],
            }
        )
    return found


def precision(encoder: MTEBEncoder, images) -> float:
    """Score by hand: is the first candidate the nearest one?"""
    right = []
    for row in rows():
        query = encoder.model.encode_queries([marked(row["qry_text"], row["qry_img_path"], images)])
        pairs = zip(row["tgt_text"], row["tgt_img_path"], strict=True)
        right.append(
            int((encoder.model.encode_documents([marked(*pair, images) for pair in pairs]) @ query[0]).argmax()) == 0
        )
    return float(np.mean(right))


@pytest.mark.parametrize("instruction", ["", "Find what answers: "])
def test_precision_among_a_querys_own_candidates(instruction, folder, images):
    encoder = MTEBEncoder(folder, query_instruction=instruction)
    assert encoder.model.processor.query_instruction == instruction
    result = mteb.evaluate(encoder, make_task("OK-VQA", rows(), images), cache=None, show_progress_bar=False)
    scores = result.task_results[0].scores["test"][0]
    expected = precision(encoder, images)
    assert scores["main_score"] == scores["precision_at_1"] == pytest.approx(expected, abs=1e-4)


def test_a_right_candidate_that_is_the_query_comes_first(folder, images):
    encoder = MTEBEncoder(folder, query_instruction="")
    same = [row | {"qry_text": row["tgt_text"][0], "qry_img_path": row["tgt_img_path"][0]} for row in rows()]
    result = mteb.evaluate(encoder, make_task("Same", same, images), cache=None, show_progress_bar=False)
    assert result.task_results[0].scores["test"][0]["precision_at_1"] == 1


def test_rows_of_another_shape_are_refused(images):
    with pytest.raises(ValueError, match=r"Row 0 lacks \['qry_img_path', 'tgt_text', 'tgt_img_path'\]"):
        make_task("OK-VQA", [{"qry_text": "a"}], images)
    with pytest.raises(ValueError, match="picture outside the folder"):
        make_task("OK-VQA", [rows()[0] | {"tgt_img_path": ["../a.jpg"] * 4}], images)
