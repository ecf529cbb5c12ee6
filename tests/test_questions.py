"""Chunks are drawn in proportion, and questions show the pictures that their marks name."""

from collections import Counter

import pytest

from dataset_builders.filters import Draft
from dataset_builders.prompts import ASK_SEVERAL, PAIRS_SCHEMA
from dataset_builders.questions import (
    MODALITIES,
    ONE,
    PASSES,
    SEVERAL,
    SHARES,
    TEXT,
    ask_drafts,
    draw,
    modality,
    parts,
    question_content,
)
from tests.conftest import text
from tests.scripted_reader import lead

CENSUS = [(f"{kind} {number}", kind) for kind in MODALITIES for number in range(100)]


def test_the_papers_proportions():
    assert parts(10_000, SHARES) == {TEXT: 6329, ONE: 2985, SEVERAL: 686}
    assert parts(1, SHARES).total() == 1 and parts(7, SHARES).total() == 7
    assert [modality(pictures) for pictures in range(4)] == [TEXT, ONE, SEVERAL, SEVERAL]


@pytest.mark.parametrize("wrong", [(0, SHARES), (1, {TEXT: 0.0}), (1, {TEXT: -1.0, ONE: 2.0})])
def test_proportions_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected at least 1"):
        parts(*wrong)


def test_draws_follow_the_seed_alone():
    drawn = draw(CENSUS, 100, SHARES, seed=0)
    assert Counter(name.rsplit(" ", 1)[0] for name in drawn) == {TEXT: 63, ONE: 30, SEVERAL: 7}
    assert draw(CENSUS[::-1], 100, SHARES, seed=0) == drawn != draw(CENSUS, 100, SHARES, seed=1)
    # What is drawn stays drawn when there is more of it to draw.
    assert draw(CENSUS, 50, SHARES, seed=0) < drawn


def test_short_strata_give_all_they_have():
    drawn = draw(CENSUS, 250, SHARES, seed=0)
    assert Counter(name.rsplit(" ", 1)[0] for name in drawn) == {TEXT: 100, ONE: 75, SEVERAL: 17}


def test_pages_are_shown_with_their_pictures_numbered():
    page = [text("A"), {"type": "image", "image": b"1"}, text("B"), {"type": "image", "image": b"2"}]
    said = '{"pairs": [{"question": " What is in <image1>? ", "answer": "x "}]}'
    drafts, (request,) = lead(ask_drafts(page, *PASSES[SEVERAL][1]), lambda _: said)
    assert drafts == [Draft("What is in <image1>?", "x", pictures=2, least=2)]
    assert request.system == ASK_SEVERAL and request.schema == PAIRS_SCHEMA
    first, second = {"type": "image", "image": b"1"}, {"type": "image", "image": b"2"}
    marks = [text("\n<image1> "), text("\n<image2> ")]
    assert request.content == [text("Page: "), text("A"), marks[0], first, text("B"), marks[1], second]


def test_marks_become_pictures_in_place():
    content = question_content("What links <image2> to <image1>?", [b"1", b"2"])
    first, second = {"type": "image", "image": b"1"}, {"type": "image", "image": b"2"}
    assert content == [text("What links "), second, text(" to "), first, text("?")]
    assert question_content("When?", []) == [text("When?")]
