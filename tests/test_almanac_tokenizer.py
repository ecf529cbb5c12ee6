"""The tokenizer holds the Almanac's words whole, and any text at all."""

import pytest

from dataset_builders.almanac_kinds import LAST_NAMES, MONTHS, MOTHS, PLANTS
from dataset_builders.almanac_world import COLOURS


@pytest.mark.parametrize("words", [*MOTHS.names, PLANTS, MONTHS, LAST_NAMES, COLOURS])
def test_words_are_single_tokens(tokenizer, words):
    assert all(len(tokenizer.tokenize(f" {word}")) == 1 for word in words)


@pytest.mark.parametrize(
    "text", ["", "Ünïcødé 中文 🦋", "a\tb\n\n c  d", "1234567", "x = f(y) // {z}", "\u202ertl\x00"]
)
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    text = "The moth Vela mirabilis spans thirty-four mm, naïvely."
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"] and len(again) == len(tokenizer)
