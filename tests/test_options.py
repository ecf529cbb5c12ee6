"""The right option is ours, the others differ from it and from one another."""

import json

import pytest

from dataset_builders.asking import Rejected
from dataset_builders.filters import Draft
from dataset_builders.options import TOO_FEW, arrange, ask_options, distinct
from tests.conftest import text
from tests.scripted_reader import lead

DRAFT = Draft("When does it fly?", "in May", 0)


def test_options_that_say_the_same_are_left_out():
    given = ["In May.", "June", "june!", "the June", " July ", "", "?", "an August"]
    assert distinct(given, "in May") == ["June", "July", "an August"]


def ask(*answers):
    left = [json.dumps({"options": list(options)}) for options in answers]
    return lead(ask_options([text("It flies in May.")], DRAFT), lambda _: left.pop(0))


def test_three_are_taken():
    assert ask("abcd")[0] == ["b", "c", "d"]  # "a" is an article
    assert ask(["June", "July", "In May"], ["June", "July", "August", "April"])[0] == ["June", "July", "August"]


def test_too_few_twice_are_rejected():
    with pytest.raises(Rejected, match=TOO_FEW) as rejected:
        ask(["June", "July", "In May"], ["June", "July", "june"])
    assert rejected.value.detail.startswith("of ['June', 'July', 'june'] only ['June', 'July']")


def test_places_follow_the_seed():
    seen = set()
    for seed in range(50):
        options, right = arrange("in May", ["June", "July", "August"], str(seed))
        assert options[right] == "in May" and sorted(options) == ["August", "July", "June", "in May"]
        assert arrange("in May", ["June", "July", "August"], str(seed)) == (options, right)
        seen.add(right)
    assert seen == {0, 1, 2, 3}
