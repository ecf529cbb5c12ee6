"""Metrics equal their closed forms."""

import math

import pytest

from nyx.metrics import accuracy, exact_match, mrr, ndcg_at_k, recall_at_k, retrieval_scores, token_f1


@pytest.mark.parametrize(
    ("prediction", "golds", "em", "f1", "right"),
    [
        ("The salt marsh.", ["salt marsh"], 1, 1, 1),
        ("marsh", ["salt marsh"], 0, 2 / 3, 0),
        ("by the salt marsh", ["meadow", "salt marsh"], 0, 0.8, 1),
        ("salty marshes", ["salt marsh"], 0, 0, 0),
        ("marsh marsh", ["marsh"], 0, 2 / 3, 1),
        ("", ["marsh"], 0, 0, 0),
        ("the", ["a"], 1, 1, 0),
        ("thirty-four mm", ["thirty-four mm"], 1, 1, 1),
    ],
)
def test_answers(prediction, golds, em, f1, right):
    assert exact_match(prediction, golds) == em
    assert token_f1(prediction, golds) == pytest.approx(f1)
    assert accuracy(prediction, golds) == right


@pytest.mark.parametrize("golds", [[], "marsh"])
def test_golds_must_be_a_list_of_some(golds):
    for score in (exact_match, token_f1, accuracy):
        with pytest.raises(ValueError, match="at least one gold answer"):
            score("marsh", golds)


def test_rankings():
    ranked = ["a", "b", "c", "d"]
    assert recall_at_k(ranked, ["b", "d"], 1) == 0 and recall_at_k(ranked, ["b", "d"], 2) == 1
    assert mrr(ranked, ["b", "d"]) == 1 / 2 and mrr(ranked, ["x"]) == 0
    best = 1 + 1 / math.log2(3)
    assert ndcg_at_k(ranked, ["b", "d"], 4) == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / best)
    assert ndcg_at_k(ranked, ["a", "b"], 4) == 1 and ndcg_at_k(ranked, [], 4) == 0


def test_scores_are_means_over_queries():
    scores = retrieval_scores([["a", "b"], ["b", "a"]], [["a"], ["a"]])
    assert scores["recall@1"] == 0.5 and scores["recall@5"] == 1 and scores["mrr"] == 0.75
