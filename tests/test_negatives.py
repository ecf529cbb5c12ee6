"""Negatives are what ranks high and doesn't answer; every filter drops what it says, and counts it."""

import numpy as np
import pytest

from dataset_builders.negatives import (
    ANSWERS,
    CLOSE,
    GOLD,
    NO_GOLD,
    SAME,
    Corpus,
    MiningCounts,
    NegativeRule,
    best,
    mine,
)
from dataset_builders.retrievers import open_retriever
from dataset_builders.schema import Chunk, QAPair
from modeling_nyx.content_nyx import text_of
from tests.conftest import picture, text

WORDS = {
    "gold": "vela mirabilis lives by the salt marsh",
    "copy": "vela mirabilis lives by the salt marsh",
    "answer": "vela mirabilis was seen at The Salt Marsh!",
    "close": "vela mirabilis lives where it lives by day",
    "far": "where vela lives",
    "other": "masca lunaris feeds on oak",
}
CHUNKS = [Chunk(key, f"page {key}", "s", [text(words)]) for key, words in WORDS.items()]
CORPUS = Corpus(CHUNKS)
QUESTION = [text("where does vela mirabilis live, what does it feed on")]


def pair(gold, answers=("salt marsh",)):
    return QAPair("q", QUESTION, list(answers), [], None, list(gold), "text")


class Fixed:
    """Scores as written down."""

    def __init__(self, **scores):
        self.row = np.array([scores[key] for key in WORDS])

    def scores(self, queries):
        return np.stack([self.row] * len(queries))


RANKED = Fixed(copy=10, answer=9, gold=8, close=7.9, far=4, other=1)


def names(contents, corpus=CHUNKS):
    by_words = {text_of(chunk.content): chunk.id for chunk in reversed(corpus)}
    return [by_words[text_of(content)] for content in contents]


def run(question, **rule):
    counts = MiningCounts()
    examples = list(mine([question], CORPUS, RANKED, NegativeRule(**rule), counts))
    return examples, counts


@pytest.mark.parametrize(
    ("rule", "negatives", "left_out"),
    [
        ({}, ["close", "far", "other"], {SAME: 1, ANSWERS: 1, GOLD: 1}),
        ({"keep": 2}, ["close", "far"], {SAME: 1, ANSWERS: 1, GOLD: 1}),
        ({"depth": 4}, ["close"], {SAME: 1, ANSWERS: 1, GOLD: 1}),
        ({"skip": 3}, ["close", "far", "other"], {}),
        ({"skip": 4, "depth": 5}, ["far"], {}),
        ({"without_answers": False}, ["answer", "close", "far", "other"], {SAME: 1, GOLD: 1}),
        ({"ratio": 0.95}, ["far", "other"], {SAME: 1, ANSWERS: 1, GOLD: 1, CLOSE: 1}),
        ({"ratio": 1.0, "without_answers": False}, ["close", "far", "other"], {SAME: 1, GOLD: 1, CLOSE: 1}),
        ({"depth": 3}, [], {SAME: 1, ANSWERS: 1, GOLD: 1}),
    ],
)
def test_filters(rule, negatives, left_out):
    (example,), counts = run(pair(["gold"]), **rule)
    assert names(example.negatives) == negatives and dict(counts.left_out) == left_out
    assert names(example.positives) == ["gold"] and example.answers == ["salt marsh"] and example.query == QUESTION
    assert counts.negatives == len(negatives) and counts.without_negatives == (not negatives)


def test_yes_and_no_are_no_answers_in_a_text():
    assert run(pair(["gold"], ["no"]))[1].left_out == run(pair(["gold"], ["nowhere"]))[1].left_out


def test_of_several_gold_chunks_the_best_ranked_is_first():
    (example,), counts = run(pair(["other", "far", "gold"]))
    assert names(example.positives) == ["gold", "far", "other"] and names(example.negatives) == ["close"]
    assert counts.left_out == {SAME: 1, ANSWERS: 1, GOLD: 3}


def test_all_chunks_of_a_gold_document_are_gold_and_the_best_ranked_is_the_positive():
    chunks = [Chunk(chunk.id, "d" if chunk.id in ("close", "other") else "e", "s", chunk.content) for chunk in CHUNKS]
    counts = MiningCounts()
    (example,) = mine([pair(["d"])], Corpus(chunks), RANKED, NegativeRule(without_answers=False), counts)
    assert names(example.positives) == ["close"] and names(example.negatives) == ["gold", "answer", "gold", "far"]
    assert counts.left_out == {GOLD: 2} and (counts.positive_in_depth, counts.positive_first) == (1, 0)


def test_a_positive_below_the_depth_is_found_and_counted():
    _, counts = run(pair(["other"]), depth=2)
    assert (counts.examples, counts.positive_in_depth) == (1, 0)


def test_questions_without_gold_are_dropped_with_the_reason():
    examples, counts = run(pair(["nowhere"]))
    assert examples == [] and counts.dropped == [("q", NO_GOLD)] and "questions dropped: 1" in str(counts)


@pytest.mark.parametrize("rule", [{"skip": 10}, {"depth": 0}, {"keep": 0}, {"ratio": 0}, {"skip": -1}])
def test_rules_that_make_no_sense_are_refused(rule):
    with pytest.raises(ValueError, match="expected"):
        NegativeRule(**rule)


@pytest.mark.parametrize("depth", [1, 5, 39, 40, 100])
def test_best_is_a_stable_sort(depth):
    scores = np.random.default_rng(0).integers(0, 9, 40).astype(np.float32)
    assert np.array_equal(best(scores, depth), np.argsort(-scores, kind="stable")[:depth])


def test_pictures_count_for_equality():
    chunks = [
        Chunk(str(place), str(place), "s", [picture(28, 28, seed), text("a moth")])
        for place, seed in enumerate([1, 1, 2])
    ]
    counts = MiningCounts()
    retriever = open_retriever("bm25", chunks)
    (example,) = mine([pair(["0"], ["x"])], Corpus(chunks), retriever, NegativeRule(), counts)
    assert len(example.negatives) == 1 and counts.left_out == {GOLD: 1, SAME: 1}
