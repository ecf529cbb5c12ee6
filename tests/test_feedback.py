"""Verdicts become positives and negatives by the rules, and by nothing else."""

import io
import json
import re
from dataclasses import asdict

import pytest
from rich.console import Console

from dataset_builders.corpus import Corpus
from dataset_builders.feedback import (
    NO_GOLD,
    NO_NEGATIVE,
    NO_PASS,
    NOT_READ,
    FeedbackRule,
    Verdict,
    collect,
    judge,
    read,
    utility,
)
from dataset_builders.feedback_statistics import FeedbackStatistics
from dataset_builders.schema import Chunk, QAPair, write_records
from modeling_nyx.content_nyx import text_of, to_content
from nyx.engines import ReaderError
from nyx.reader import Reader
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
    assert judge(RANKED, [scores], FeedbackRule(candidates=4, **rule)) == (positives, negatives)


def test_windows_reach_the_end():
    assert FeedbackRule(candidates=8, window=3, stride=2).starts(8) == [0, 2, 4, 5]
    assert FeedbackRule(candidates=8, window=3).starts(2) == [0]


@pytest.mark.parametrize(
    "wrong", [{"window": 9}, {"stride": 0}, {"metric": "bleu"}, {"argmax": True, "all_windows": False}]
)
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected|Unknown metric|argmax needs"):
        FeedbackRule(**wrong)


def prompt(request):
    return text_of(to_content(request.content))


class Literal:
    """An engine that answers with the last word of the first document that holds the question's word."""

    identity, workers, at_once = "literal", 3, 1

    def __init__(self, failing=()):
        self.read, self.failing = [], failing

    def answer(self, requests):
        for place, request in enumerate(requests):
            *documents, question = prompt(request).split("\n")
            documents = [words.removeprefix("Document: ") for words in documents if words.startswith("Document: ")]
            self.read.append(documents)
            hits = [words for words in documents if question.removeprefix("Question: ") in words]
            if set(documents) & set(self.failing):
                yield place, ReaderError(f"{len(self.read)} failures")
            else:
                yield place, hits[0].split()[-1] if hits else "unknown"


@pytest.fixture
def corpus(tmp_path):
    words = zip(RANKED, ["x 1", "y 2", "x 3", "z 4"], strict=True)
    write_records((Chunk(key, f"page {key}", "s", [text(each)]) for key, each in words), tmp_path / "c.parquet")
    return Corpus.open(tmp_path / "c.parquet")


def pair(word, answer, gold=()):
    return QAPair(f"{word}{answer}", [text(word)], [answer] if answer else [], [], None, list(gold), "text")


def run(corpus, questions, failing=(), **rule):
    statistics, dropped, engine = FeedbackStatistics(), {}, Literal(failing)
    made_by = FeedbackRule(4, **rule)
    asked = ((question, RANKED) for question in questions)
    judged = ((*found, [verdict]) for *found, verdict in read(asked, corpus, Reader(engine), made_by))
    made = list(collect(judged, corpus, made_by, statistics, dropped.__setitem__))
    return made, statistics, dropped, engine


def texts(contents):
    return [text_of(content) for content in contents]


def test_examples_hold_content_and_dropped_questions_their_reason(corpus):
    made, statistics, dropped, engine = run(corpus, [pair("x", "3"), pair("y", "9"), pair("z", "4"), pair("z", "")])
    assert [texts(each.positives) for each in made] == [["x 3"], ["z 4"]]
    assert [texts(each.negatives) for each in made] == [["x 1", "y 2", "z 4"], ["x 1", "y 2", "x 3"]]
    assert dropped == {"y9": NO_PASS, "z": NO_GOLD}
    assert str(statistics) == "2 examples; dropped: 1 no window passed, 1 nothing to compare an answer with"
    assert len(engine.read) == 12


def test_utilities_are_the_scores_of_the_windows_that_hold_a_document(corpus):
    (made,) = run(corpus, [pair("x", "3")], metric="f1", threshold=1.0)[0]
    assert [texts(made.positives), texts(made.negatives)] == [["x 3"], ["x 1", "y 2", "z 4"]]
    assert made.utilities == [1.0, 0.0, 0.0, 0.0]
    scores = [{0: 0.25, 1: 0.5, 2: 1.0}, {0: 0.75, 1: 0.0}]
    rule = FeedbackRule(4, window=2)
    assert [utility(place, scores, rule) for place in range(4)] == [0.5, 0.625, 0.5, 0.5]


def test_statistics(corpus):
    questions = [pair("x", "3", ["c"]), pair("x", "1", ["page b"]), pair("z", "4", ["page d"]), pair("y", "9", ["a"])]
    counts = run(corpus, [*questions, pair("y", "2")], failing=["z 4"])[1].as_dict()
    assert counts == {
        "questions": 5,
        "examples": 3,
        "dropped": {NO_PASS: 2},
        "share_discarded": 0.4,
        "windows": 15,
        "windows_passed": 3,
        "windows_unread": {"N failures": 5},
        "first_passing_rank": {"1": 1, "2": 1, "3": 1},
        "examples_with_gold": 2,
        "share_preferred_not_gold": 0.5,
    }
    shown = Console(width=200, file=io.StringIO())
    shown.print(FeedbackStatistics().table())
    assert "share discarded" in shown.file.getvalue()


def test_without_a_failed_document_there_is_no_example(corpus):
    assert run(corpus, [pair("x", "1")], window=4)[2] == {"x1": NO_NEGATIVE}


def test_stopping_reads_no_further(corpus):
    made, _, _, engine = run(corpus, [pair("y", "2"), pair("z", "4")], all_windows=False)
    assert len(engine.read) == 2 + 4
    assert texts(made[0].negatives) == ["x 1", "x 3", "z 4"]


def test_a_window_that_got_no_answer_is_neither_positive_nor_negative(corpus):
    made, _, dropped, _ = run(corpus, [pair("x", "3"), pair("z", "4")], failing=["x 1", "z 4"])
    assert texts(made[0].negatives) == ["y 2"] and dropped == {"z4": NO_PASS}
    _, _, dropped, _ = run(corpus, [pair("x", "3")], failing=["x 1", "y 2", "x 3", "z 4"])
    assert re.fullmatch(rf"{NOT_READ}: \d failures", dropped["x3"])
    # Stopping at the first pass goes on past it.
    made, _, _, engine = run(corpus, [pair("x", "3")], failing=["x 1"], all_windows=False)
    assert texts(made[0].positives) == ["x 3"] and len(engine.read) == 3


def test_options_are_shown_to_reader_and_retriever_and_the_correct_one_is_right(corpus):
    question = QAPair("q", [text("z")], ["four"], ["3", "4", "The 4.", "x"], 2, [], "text")
    rule = FeedbackRule(4, metric="option")
    assert text_of(rule.query(question)) == "Question: z\nChoices: 3, 4, The 4., x"
    seen = []

    class Chooser(Literal):
        def answer(self, requests):
            for place, request in enumerate(requests):
                seen.append(prompt(request))
                yield place, "the 4" if "z 4" in prompt(request) else "four"

    engine = Chooser()
    ((_, _, verdict),) = read([(question, RANKED)], corpus, Reader(engine), rule)
    assert verdict.scores == {0: 0, 1: 0, 2: 0, 3: 1}
    assert sorted(seen)[0] == "Document: x 1\nQuestion: z\nChoices: 3, 4, The 4., x"
    (made,) = collect([(question, RANKED, [verdict])], corpus, rule, FeedbackStatistics(), lambda *_: None)
    assert made.query == rule.query(question) and made.answers == ["The 4."]
    none = QAPair("n", [text("z")], ["4"], [], None, [], "text")
    assert run(corpus, [none], metric="option")[2] == {"n": NO_GOLD}


def test_any_function_scores(corpus):
    made, _, _, _ = run(corpus, [pair("x", "9")], metric=lambda answer, golds: float(answer == "3") / 2, threshold=0.5)
    assert texts(made[0].positives) == ["x 3"]


def test_verdicts_are_read_as_they_were_written():
    verdict = Verdict("q", {0: 0.5, 10: 1.0}, {2: "why"})
    assert Verdict.parse(json.dumps(asdict(verdict))) == verdict


@pytest.mark.parametrize(
    ("scores", "rule", "positives", "negatives"),
    [
        # The document that helps both comes first; what helps one is no negative.
        ([{0: 0, 1: 1, 2: 1, 3: 0}, {0: 0, 1: 0, 2: 1, 3: 0}], {}, ["c", "b"], ["a", "d"]),
        # One reader without an answer leaves the other's verdict; without any there is none.
        ([{0: 1, 1: 0}, {0: 0, 2: 0}], {}, ["a"], ["b", "c"]),
        ([{0: 0, 1: 0}, {}], {}, [], []),
        ([{0: 1}, {0: 0, 1: 0, 2: 1}], {"all_windows": False}, ["a", "c"], ["b", "d"]),
        ([{0: 0.2, 1: 0.4}, {0: 0.9, 1: 0.1}], {"metric": "f1", "argmax": True}, ["a", "b"], []),
    ],
)
def test_readers_together(scores, rule, positives, negatives):
    assert judge(RANKED, scores, FeedbackRule(candidates=4, **rule)) == (positives, negatives)
