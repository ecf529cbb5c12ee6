"""Intervals, tests and sentences equal their closed forms."""

from math import sqrt

import numpy as np
import pytest

from evaluation.statistics import compare, compare_seeds, in_words, interval, pooled, sign_test, spread


@pytest.mark.parametrize(("won", "lost", "p"), [(5, 0, 2 / 32), (3, 3, 1.0), (8, 2, 112 / 1024), (0, 0, 1.0)])
def test_the_sign_test_is_the_binomial_sum(won, lost, p):
    assert sign_test(won, lost) == pytest.approx(p) == sign_test(lost, won)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_interval_of_a_share_is_the_normal_one_for_many_questions(share):
    values = [1.0] * round(1000 * share) + [0.0] * round(1000 * (1 - share))
    low, high = interval(values)
    half = 1.96 * sqrt(share * (1 - share) / 1000)
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.003)
    assert interval(values) == (low, high) and interval(values[::-1]) == pytest.approx((low, high), abs=0.003)


def test_the_interval_covers_the_truth_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = interval(rng.random(60))
        covered += low <= 0.5 <= high
    assert 89 <= covered <= 99  # binomial: outside by chance once in 50


def test_values_without_spread_have_a_point_for_an_interval():
    assert interval([0.25] * 9) == (0.25, 0.25) and interval([1.0]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least one"):
        interval([])


def test_outcomes_of_0_and_1_are_compared_by_the_exact_mcnemar_test():
    found = compare([1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1])
    assert (found.won, found.lost, found.p, found.seeds) == (2, 1, 1.0, ())
    assert found.difference == pytest.approx(1 / 6)
    assert compare([1.0] * 8 + [0.0] * 2, [0.0] * 8 + [1.0] * 2).p == pytest.approx(112 / 1024)
    back = compare([0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 1])
    assert (back.won, back.lost) == (1, 2) and back.difference == -found.difference
    low, high = found.interval
    assert back.interval == pytest.approx((-high, -low), abs=0.1)


def test_other_scores_are_compared_by_the_paired_bootstrap():
    """Its p is about that of the normal test on the differences."""
    rng = np.random.default_rng(1)
    first, noise = rng.random(400), rng.normal(0.0, 0.2, 400)
    shifted = first + noise - noise.mean() + 0.015  # the differences' mean, 1.5 times its standard error
    found = compare(list(shifted), list(first))
    z = 0.015 / (noise.std() / sqrt(400))
    normal = 2 * (1 - (1 + np.tanh(0.7978845608 * (z + 0.044715 * z**3))) / 2)
    assert found.p == pytest.approx(normal, abs=0.02) and 0.05 < found.p < 0.25
    assert found.interval == pytest.approx((0.015 - 1.96 * 0.015 / z, 0.015 + 1.96 * 0.015 / z), abs=0.002)
    assert compare(list(first), list(first)).p == 1.0
    assert compare(list(first + 1), list(first)).p == pytest.approx(2 / 10_000)


def test_few_questions_that_differ_are_compared_by_the_sign_test():
    alike = [0.5] * 50
    assert compare([0.7] * 3 + alike, [0.5] * 3 + alike).p == pytest.approx(2 / 8)
    assert compare([0.7] * 8 + [0.3] + alike, [0.5] * 9 + alike).p == pytest.approx(20 / 512)


def test_pairs_must_be_of_the_same_questions():
    with pytest.raises(ValueError, match="2 and 1 scores"):
        compare([1, 0], [1])
    with pytest.raises(ValueError, match="seed number 1 differ in 2 questions"):
        compare_seeds([{"a": 1}, {"a": 1}], [{"a": 0}, {"b": 0}])


def test_seeds_are_averaged_for_the_same_questions_and_pooled_for_others():
    shared = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 0.0}]
    assert pooled(shared) == {"a": 0.5, "b": 0.0}
    assert pooled([{"a": 1.0}, {"b": 0.0}]) == {"a": 1.0, "b": 0.0}
    others = [{"a": 1.0, "b": 1.0}, {"c": 1.0, "d": 0.0}]
    nothing = [dict.fromkeys(each, 0.0) for each in others]
    found = compare_seeds(others, nothing)
    assert (found.won, found.lost, found.p) == (3, 0, 0.25)  # exact: outcomes stay 0 and 1
    assert found.seeds == (1.0, 0.5) and found.difference == 0.75
    assert spread(found.seeds) == pytest.approx(sqrt(0.125)) and spread([0.3]) == 0.0
    repeated = compare_seeds(shared * 10, [dict.fromkeys(each, 0.0) for each in shared * 10])
    assert (repeated.won, repeated.difference) == (1, 0.25)  # asking again makes no more questions


def test_words_say_what_the_numbers_do():
    apart = compare([1.0] * 20, [0.0] * 10 + [1.0] * 10)
    assert in_words(apart, "stage 2", "bm25", "em").startswith(
        "stage 2 against bm25: better in em; +50.0 points (95 % interval +"
    )
    assert in_words(apart).endswith("higher on 10 questions and lower on 0, p = 2.0e-03.")
    assert "The first against the second: worse;" in in_words(compare([0.0] * 10, [1.0] * 10))
    alike = compare([1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1])
    assert "no difference shown; +16.7 points" in in_words(alike) and in_words(alike).endswith("p = 1.00.")
    seeds = compare_seeds([{"a": 1.0}, {"b": 1.0}], [{"a": 0.0}, {"b": 1.0}])
    assert "± 70.7 over 2 seeds)" in in_words(seeds)
