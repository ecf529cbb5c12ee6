"""Answers are scored question by question, from the documents given."""

import pytest

from nyx.answers import Answers, rag
from nyx.reader import Prompt
from tests.conftest import text


class Echo:
    """A reader that answers with its first document's text."""

    def answer(self, prompts: list[Prompt], show_progress: bool = False) -> list[str]:
        return [prompt.documents[0][0]["text"] if prompt.documents else "" for prompt in prompts]


def test_scores_belong_to_their_questions():
    documents = [[[text("salt marsh")]], [[text("the marsh")], [text("salt marsh")]], []]
    answers = rag(Echo(), [[text("where?")]] * 3, [["salt marsh"]] * 3, documents)
    assert answers.texts == ["salt marsh", "the marsh", ""]
    assert answers.em == [1, 0, 0] and answers.accuracy == [1, 0, 0]
    assert answers.f1 == [1, pytest.approx(2 / 3), 0]
    assert answers.scores() == {
        "answer_em": pytest.approx(1 / 3),
        "answer_f1": pytest.approx(5 / 9),
        "answer_accuracy": pytest.approx(1 / 3),
    }


def test_questions_and_documents_must_go_together():
    with pytest.raises(ValueError, match="zip"):
        rag(Echo(), [[text("where?")]], [["x"]], [])
    assert isinstance(Answers([], [], [], []), Answers)
