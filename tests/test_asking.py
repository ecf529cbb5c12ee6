"""Answers are read as JSON of the shape that was asked for; one retry, then the reason."""

import json

import pytest

from dataset_builders.asking import NO_ANSWER, NO_FIT, NO_JSON, Rejected, asked, side_by_side
from dataset_builders.prompts import OPTIONS_SCHEMA, PAIRS_SCHEMA, ask_shorter, misfit
from nyx.engines import ReaderError
from tests.conftest import text
from tests.scripted_reader import lead, spelt

REQUEST = ask_shorter([text("It flies in May.")], "When does it fly?", "in May")
GOOD = '{"answer": "May"}'


def ask(*answers):
    left = list(answers)
    return lead(asked("refine", REQUEST, lambda value: value["answer"]), lambda _: left.pop(0))


@pytest.mark.parametrize("good", [GOOD, f"```json\n{GOOD}\n```", '{"answer": "May", "more": 1}'])
def test_an_answer_is_read(good):
    assert ask(good) == ("May", [REQUEST])


@pytest.mark.parametrize("bad", ["Here you are: May", '{"answer": "M', '["May"]', '{"reply": "May"}', '{"answer": 5}'])
def test_a_bad_answer_is_asked_for_again_with_the_reason(bad):
    found, requests = ask(bad, GOOD)
    assert found == "May" and len(requests) == 2 and requests[1].system == REQUEST.system
    assert spelt(requests[1]).startswith(spelt(REQUEST)) and "An earlier answer could not be used" in spelt(
        requests[1]
    )


@pytest.mark.parametrize(
    ("answers", "reason", "detail"),
    [
        (("prose", '{"answer"'), NO_JSON, "'{\"answer\"' is no JSON"),
        (("prose", "[" * 100_000), NO_JSON, "is no JSON"),
        (("prose", '{"answer": "\\ud83d"}'), NO_JSON, "is no JSON"),
        (("prose", '{"reply": ""}'), NO_FIT, "the answer lacks answer"),
        ((ReaderError("status 500"),), NO_ANSWER, "status 500"),
        (("prose", ReaderError("too late")), NO_ANSWER, "too late"),
    ],
)
def test_what_stays_bad_is_rejected(answers, reason, detail):
    with pytest.raises(Rejected) as rejected:
        ask(*answers)
    assert (rejected.value.step, rejected.value.reason) == ("refine", reason) and detail in rejected.value.detail


def test_misfits_are_named():
    assert misfit({"pairs": [{"question": "a", "answer": "b"}] * 7}, PAIRS_SCHEMA) is None
    assert misfit({"pairs": [{"question": "a"}]}, PAIRS_SCHEMA) == "item 1 of pairs lacks answer"
    assert misfit({"options": ["a", "b"]}, OPTIONS_SCHEMA) == "options has 2 items of 3"
    assert misfit({"options": ["a", "b", None]}, OPTIONS_SCHEMA) == "item 3 of options is no string"


def test_conversations_side_by_side_ask_together():
    def talk(name, rounds):
        heard = []
        for number in range(rounds):
            heard += yield [f"{name}{number}"]
        return name, heard

    talks = side_by_side([talk("a", 2), talk("b", 0), talk("c", 3)])
    asked_together, answers = [], None
    try:
        while True:
            asked_together.append(talks.send(answers))
            answers = [word.upper() for word in asked_together[-1]]
    except StopIteration as end:
        assert end.value == [("a", ["A0", "A1"]), ("b", []), ("c", ["C0", "C1", "C2"])]
    assert asked_together == [["a0", "c0"], ["a1", "c1"], ["c2"]]
    assert lead(side_by_side([]), json.loads) == ([], [])
