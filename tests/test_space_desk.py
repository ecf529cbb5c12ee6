"""What the desk chooses to show, and how its library is searched."""

import numpy as np
import pytest

from dataset_builders.schema import QAPair
from desk import Desk, working_examples
from nyx.engines import ReaderError
from nyx.reader import Reader
from tests.conftest import text
from tests.space_pages import few_chunks, library_of


@pytest.fixture(scope="module")
def desk(model, model_folder) -> Desk:
    return Desk(library_of(model, few_chunks()), reader=Reader.from_pretrained(model_folder))


def test_examples_are_questions_that_come_out_right(desk):
    best = search_first(desk, "First this:")
    answer, _ = desk.answer([text("First this:")], desk.library.search(*embedded(desk, "First this:"))[0])
    questions = [
        pair("wrong page", "First this:", ["absent"], [answer]),
        pair("wrong answer", "First this:", [best], [f"not {answer}"]),
        pair("right", "First this:", [best], [answer or "?"]),
        pair("right", "again", [best], [answer]),
    ]
    chosen = working_examples(desk, questions)
    assert [each.kind for each in chosen] == (["right"] if answer else [])
    alone = working_examples(Desk(desk.library), questions)
    assert [each.kind for each in alone] == ["wrong answer", "right"]


def test_a_question_that_the_reader_cannot_read_is_no_example(desk, monkeypatch):
    best = search_first(desk, "First this:")

    def answer(self, question, documents):
        if question == [text("again")]:
            raise ReaderError("too long")
        return "May", 0.0

    monkeypatch.setattr(Desk, "answer", answer)
    asked = [
        pair("too long", "again", [search_first(desk, "again")], ["May"]),
        pair("right", "First this:", [best], ["May"]),
    ]
    assert [each.kind for each in working_examples(desk, asked)] == ["right"]


def test_any_dimension_is_searched_exactly_and_nothing_is_kept_for_it(desk):
    index, vector = desk.library.index, desk.library.embed([text("First this:")])[0]
    kept = dict(index._funnels)
    other = next(dim for dim in range(3, 9) if dim not in desk.library.dims)
    hits, _ = desk.library.search(vector, 3, other)
    assert [hit.id for hit in hits] == [hit.id for hit in index.search(vector, 3, other, exact=True)[0]]
    assert index._funnels == kept


def embedded(desk: Desk, words: str) -> tuple[np.ndarray, int, int]:
    return desk.library.embed([text(words)])[0], 3, desk.library.dims[0]


def search_first(desk: Desk, words: str) -> str:
    return desk.library.search(*embedded(desk, words))[0][0].id


def pair(kind: str, words: str, gold: list[str], answers: list[str]) -> QAPair:
    return QAPair("q", [text(words)], answers, [], None, gold, "text", kind)
