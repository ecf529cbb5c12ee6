"""Scores equal what the benchmarks' own scorers say, in closed forms and on kept rows."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.scorers import choice, list_scores, score, spelled

VECTORS = Path(__file__).parents[2] / "shared" / "data" / "eval-vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="needs ../shared/data/eval-vectors")
NAMES = {"squad": "squad", "hotpotqa": "hotpot", "musique": "musique", "multimodalqa": "mmqa"}


@pytest.mark.parametrize(
    ("name", "prediction", "golds", "em", "f1"),
    [
        ("squad", "The salt-marsh!", ["saltmarsh"], 1, 1),
        ("squad", "the marsh", ["meadow", "salt marsh"], 0, 2 / 3),
        ("squad", "", ["the", "marsh"], 0, 0),
        ("squad", "", ["the"], 1, 1),
        ("musique", "", ["the", "marsh"], 1, 1),
        ("squad", "yes", ["yes and no"], 0, 0.5),
        ("hotpotqa", "yes", ["yes and no"], 0, 0),
        ("hotpotqa", "yes and no", ["no"], 0, 0),
        ("hotpotqa", "Yes.", ["yes"], 1, 1),
        ("hotpotqa", "no answer", ["noanswer"], 0, 0),
        ("hotpotqa", "no one", ["yes", "one"], 0, 2 / 3),
        ("hotpotqa", "", ["the"], 1, 0),
        ("hotpotqa", "", ["marsh"], 0, 0),
        ("squad", "Ångström  1,000", ["ångström 1000"], 1, 1),
        ("multimodalqa", "1,000", ["1000.0"], 1, 1),
        ("squad", "1,000", ["1000.0"], 0, 0),
        ("multimodalqa", "twenty-two moths", ["20 2 moths"], 1, 1),
        ("multimodalqa", "twelve oak moths", ["13 oak moths"], 0, 0),
        ("multimodalqa", "oak moths", ["oak moths, oak moths"], 0, 1),
        ("multimodalqa", "", ["the"], 1, 1),
        ("multimodalqa", "", ["marsh"], 0, 0),
        ("multimodalqa", "marsh", ["the"], 0, 0),
        ("multimodalqa", "a salt marsh", ["salt", "marsh"], 0, 0.33),
        ("multimodalqa", "Marsh, the salt", ["salt", "marsh"], 1, 1),
        ("multimodalqa", "sand and marsh;\nsalt", ["salt", "marsh", "sand"], 1, 1),
        ("multimodalqa", "sand and marsh", ["sand and marsh"], 1, 1),
        ("multimodalqa", " , ", ["salt", "marsh"], 0, 0),
    ],
)
def test_answers(name, prediction, golds, em, f1):
    assert score(name, prediction, golds) == {"em": em, "f1": pytest.approx(f1)}


@pytest.mark.parametrize("name", ["squad", "hotpotqa", "musique", "multimodalqa"])
def test_an_answer_equals_itself_and_the_best_gold_answer_counts(name):
    for text in ("the salt marsh", "3.5", "Ęłk", "twenty", "1,000-2,000", "A. B."):
        assert score(name, text, [text]) == {"em": 1, "f1": 1}
        if name != "multimodalqa":
            assert score(name, text, ["nothing of it", text]) == {"em": 1, "f1": 1}


@pytest.mark.parametrize(
    ("predictions", "golds", "em", "f1"),
    [
        (["b", "a c"], ["a c", "b"], 1, 1),
        (["x y"], ["x", "y"], 0, 0.33),
        (["x", "y", "z"], ["x", "y"], 0, 0.67),
        # The first prediction fits both, the second only one: the best for each alone is not the best for all.
        (["x y z", "x y"], ["x y", "z w"], 0, 0.7),
        (["x", "x"], ["x", "y"], 0, 0.5),
        (["x", "x"], ["x"], 0, 0.5),
        (["x"], [], 0, 0),
        ([], ["x"], 0, 0),
        ([], [], 1, 1),
    ],
)
def test_lists_are_matched_in_any_order(predictions, golds, em, f1):
    assert list_scores(predictions, golds) == (em, pytest.approx(f1))
    assert list_scores(predictions[::-1], golds[::-1]) == (em, pytest.approx(f1))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  (2006) A-Team", "2006.0 team"),
        ("eleven million, 3.50 and -5", "11.0 1000000.0 3.5 and 5.0"),
        ("O'Hara's 1e3 the", "oharas 1000.0"),
        ("2 GB\n3 GB", "2.0 gb 3 gb"),
    ],
)
def test_numbers_are_spelled_alike(answer, expected):
    assert spelled(answer) == expected


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        ("the salt marsh", 1),
        ("Salt marsh.", 1),
        ("B", 1),
        ("(b)", 1),
        ("B. The oak", 1),
        ("B: because", 1),
        ("The answer is B.", 1),
        ("Answer: (B)", 1),
        ("A", 0),
        ("A salt lick", 0),
        ("by the salt marsh", 0),
        ("the oak", 0),
        ("Z", 0),
        ("", 0),
        ("B-side", 0),
    ],
)
def test_an_option_is_named_by_its_text_or_its_letter(prediction, right):
    assert score("choice", prediction, ["The salt marsh"], ["The oak", "The salt marsh"]) == {"accuracy": right}


def test_an_option_named_literally_is_meant():
    assert choice("5", ["-5"], ["-5", "5"]) == 0 and choice("-5", ["-5"], ["-5", "5"]) == 1
    assert choice("B", ["B"], ["B", "A"]) == 1 and choice("A", ["B"], ["B", "A"]) == 0
    assert choice("The A", ["A"], ["B", "A"]) == 0
    assert choice("\u212a", ["A"], ["B", "A"]) == 0  # the sign of kelvin is no letter of an option


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bleu", "x", ["x"]), "Unknown scorer 'bleu'; expected one of squad, .*choice"),
        (("squad", "x", []), "at least one gold answer"),
        (("hotpotqa", "x", "x"), "at least one gold answer"),
        (("choice", "x", ["x"], ["y"]), "None of the answers"),
    ],
)
def test_what_cannot_be_scored_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        score(*arguments)


def vectors(name: str) -> Iterator[dict]:
    yield from map(json.loads, (VECTORS / name).read_text().splitlines())


@needs_vectors
@pytest.mark.parametrize("name", NAMES)
def test_every_kept_answer(name):
    rows = list(vectors("em_f1_vectors.jsonl"))
    assert len(rows) == 804
    for row in rows:
        expected = {"em": row[f"{NAMES[name]}_em"], "f1": pytest.approx(row[f"{NAMES[name]}_f1"], abs=1e-12)}
        assert score(name, row["prediction"], row["golds"]) == expected, row


@needs_vectors
def test_every_kept_list():
    rows = list(vectors("mmqa_list_vectors.jsonl"))
    assert len(rows) == 1085
    for row in rows:
        assert list_scores(row["prediction"], row["gold"]) == (row["list_em"], row["list_f1"]), row
