"""Verdicts become positives and negatives by the rules, and by nothing else."""

import pytest

from dataset_builders.feedback import NO_NEGATIVE, NO_PASS, FeedbackCounts, FeedbackRule, collect, judge
from dataset_builders.schema import Chunk, QAPair
from modeling_nyx.content_nyx import text_of
from tests.conftest import text

RANKED = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("rule", "scores", "positives", "negatives"),
    [
        # One document a window: each has its own verdict.
        ({}, {0: 0, 1: 1, 2: 0, 3: 0}, ["b"], ["a", "c", "d"]),
        ({}, {0: 0, 1: 1, 2: 0, 3: 1}, ["b", "d"], ["a", "c"]),
        ({}, {0: 0, 1: 0, 2: 0, 3: 0}, [], []),
        ({}, {0: 1, 1: 1, 2: 1, 3: 1}, RANKED, []),
        ({"negatives": 1}, {0: 0, 1: 1, 2: 0, 3: 0}, ["b"], ["a"]),
        # Two a window: a document of a window that passed is never a negative.
        ({"window": 2}, {0: 0, 1: 1, 2: 0}, ["b"], ["a", "d"]),
        # A stride beyond the window: what nobody read is no negative.
        ({"stride": 2}, {0: 0, 2: 1, 3: 0}, ["c"], ["a", "d"]),
        # A threshold on F1, and the best instead of a threshold.
        ({"metric": "f1", "threshold": 0.5}, {0: 0.4, 1: 0.5, 2: 0, 3: 0.9}, ["b", "d"], ["a", "c"]),
        ({"metric": "f1", "argmax": True}, {0: 0.4, 1: 0.5, 2: 0, 3: 0.2}, ["b"], ["a", "c", "d"]),
        ({"argmax": True}, {0: 0, 1: 0, 2: 0, 3: 0}, [], []),
        # Stopped at the first pass: the other candidates, unverified.
        ({"all_windows": False}, {0: 0, 1: 1}, ["b"], ["a", "c", "d"]),
    ],
)
def test_judge(rule, scores, positives, negatives):
    assert judge(RANKED, scores, FeedbackRule(candidates=4, **rule)) == (positives, negatives)


def test_windows_reach_the_end():
    assert FeedbackRule(candidates=8, window=3, stride=2).starts(8) == [0, 2, 4, 5]
    assert FeedbackRule(candidates=8, window=3).starts(2) == [0]


@pytest.mark.parametrize(
    "wrong", [{"window": 9}, {"stride": 0}, {"metric": "bleu"}, {"argmax": True, "all_windows": False}]
)
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected|Unknown metric|argmax needs"):
        FeedbackRule(**wrong)


class Literal:
    """A reader that answers with the last word of the first document that holds the question's word."""

    def __init__(self) -> None:
        self.read: list[list[str]] = []

    def answer(self, prompts, show_progress=False):
        self.read += [[text_of(document) for document in prompt.documents] for prompt in prompts]
        found = []
        for prompt in prompts:
            hits = [words for words in map(text_of, prompt.documents) if text_of(prompt.question) in words]
            found.append(hits[0].split()[-1] if hits else "unknown")
        return found


CHUNKS = [Chunk(key, key, "s", [text(words)]) for key, words in zip(RANKED, ["x 1", "y 2", "x 3", "z 4"], strict=True)]


def pair(word, answer):
    return QAPair(f"{word}{answer}", [text(word)], [answer], [], None, [], "text")


def run(questions, **rule):
    counts, reader = FeedbackCounts(), Literal()
    made = list(collect(questions, [RANKED] * len(questions), CHUNKS, reader, FeedbackRule(4, **rule), counts))
    return made, counts, reader


def test_examples_hold_content_and_dropped_questions_their_reason():
    made, counts, reader = run([pair("x", "3"), pair("y", "9"), pair("z", "4")])
    assert [text_of(each.positives[0]) for each in made] == ["x 3", "z 4"]
    assert [[text_of(negative) for negative in each.negatives] for each in made] == [
        ["x 1", "y 2", "z 4"],
        ["x 1", "y 2", "x 3"],
    ]
    assert counts.kept == 2 and counts.dropped == {NO_PASS: ["y9"]}
    assert str(counts) == "2 examples; dropped: 1 no window passed"
    assert len(reader.read) == 12


def test_without_a_failed_document_there_is_no_example():
    assert run([pair("x", "1")], window=4)[1].dropped == {NO_NEGATIVE: ["x1"]}


def test_stopping_reads_no_further():
    made, _, reader = run([pair("y", "2"), pair("z", "4")], all_windows=False)
    assert len(reader.read) == 2 + 4
    assert [text_of(negative) for negative in made[0].negatives] == ["x 1", "x 3", "z 4"]
