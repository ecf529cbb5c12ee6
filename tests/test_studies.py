"""Every study runs dry, keeps what it measured, and says what its outcomes are."""

import json
from dataclasses import replace
from importlib import import_module

import pytest
from rich.console import Console

from benchmarks import tables
from benchmarks.studies import rule
from benchmarks.studies.data_scale import log_linear
from benchmarks.studies.golden import conditional
from benchmarks.studies.graded import likelihoods
from benchmarks.studies.pixels import CAPS, capped, visual_tokens
from benchmarks.studies.readers import ALL, DOMAINS, WIDTHS, aligned, gains
from benchmarks.studies.study import RESULTS, Study
from benchmarks.studies.teacher import asked_by, teacher_of
from dataset_builders.almanac import TINY_VLM
from dataset_builders.almanac_kinds import MOTHS
from nyx.local_engine import LocalEngine
from nyx.models import load_encoder
from tests.conftest import picture, text

SHARED = ("__init__", "study", "world")
NAMES = sorted(path.stem for path in RESULTS.parents[1].glob("studies/*.py") if path.stem not in SHARED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A world that all studies share."""
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture
def few_rules(monkeypatch):
    """Of rules of a kind one: each is a training for two readers."""
    few = {name: rule.RULES[name] for name in ("recipe", "K 4", "window 2", "F1 > 0")}
    told = [pair for pair in rule.COMPARED if {arm.split(",")[0] for arm in pair} <= {*few, "stage 1"}]
    monkeypatch.setattr(rule, "RULES", few)
    monkeypatch.setattr(rule, "STUDY", replace(rule.STUDY, compared=told))


@pytest.mark.parametrize("name", NAMES)
def test_a_study_runs_dry_and_goes_on_where_it_was(name, folder, tmp_path, few_rules):
    study: Study = import_module(f"benchmarks.studies.{name}").STUDY
    arguments = ["--dry", "--seeds", "0", "--folder", str(folder), "--output", str(tmp_path)]
    study.run(arguments)
    results = json.loads((tmp_path / f"{name}.json").read_text())
    assert results["questions"] in (12, 16, 24) and results["command"] == f"python -m benchmarks.studies.{name} --dry"
    assert (tmp_path / f"{name}.png").stat().st_size > 1000
    for arm in results["arms"].values():
        low, high = arm[study.judged_by]["interval"]
        assert 0 <= low <= arm[study.judged_by]["mean"] <= high <= 1
    assert {each["better"] for each in results["comparisons"]} == {better for better, _ in study.compared}
    replace(study, measure=pytest.fail).run(arguments)  # what was measured is not measured again
    assert json.loads((tmp_path / f"{name}.json").read_text())["arms"] == results["arms"]


def scored(world):
    """What a study measures that has one question."""
    return {"arms": {"a": {"answer EM": {f"{world.seed}/fact/0": 0.0 if world.dry else 1.0}}}}


def run_study(folder, *arguments):
    study = Study("x", None, scored, metrics=("answer EM",), pretrained=False)
    for seed in range(2):
        (folder / f"seed{seed}").mkdir(parents=True, exist_ok=True)
        (folder / "dry" / f"seed{seed}").mkdir(parents=True, exist_ok=True)
    study.run(["--seeds", "0", "1", "--folder", str(folder), "--output", str(folder), *arguments])
    return json.loads((folder / "x.json").read_text())


def test_a_dry_run_lies_aside(tmp_path):
    for arguments, right in (([], 1.0), (["--dry"], 0.0), ([], 1.0)):
        assert run_study(tmp_path, *arguments)["arms"]["a"]["answer EM"]["mean"] == right


def test_what_was_kept_is_told_with_what_measured_it(tmp_path, monkeypatch):
    first = run_study(tmp_path)
    monkeypatch.setattr("benchmarks.measure.commit", lambda: "f" * 40)
    assert run_study(tmp_path) == first and first["commit"] != "f" * 40
    (tmp_path / "seed1" / "studies" / "x.json").unlink()
    assert run_study(tmp_path)["commit"] == [first["commit"], "f" * 40]


def test_outcomes_are_pooled_over_worlds_and_compared_question_by_question():
    def world(seed, first, second):
        arms = {"a @ 1": first, "a @ 2": second}
        named = {
            arm: {"answer EM": {f"{seed}/{'fact' if i else 'look'}/{i}": float(v) for i, v in enumerate(values)}}
            for arm, values in arms.items()
        }
        return {"arms": named}

    study = Study("x", None, lambda _: {}, [("a @ 2", "a @ 1")], metrics=("answer EM",), axis="n")
    summary = study.summary([world(0, [0, 0, 1, 0], [1, 1, 1, 0]), world(1, [1, 0, 0, 0], [1, 1, 0, 0])])
    assert summary["questions"] == 8
    assert summary["arms"]["a @ 2"]["answer EM"]["mean"] == 5 / 8
    assert summary["arms"]["a @ 2"]["answer EM"]["seeds"] == [0.75, 0.5]
    assert summary["arms"]["a @ 1"]["by kind"] == {"look": 0.5, "fact": round(1 / 6, 4)}
    (found,) = summary["comparisons"]
    assert (found["won"], found["lost"], found["p"]) == (3, 0, 0.25) and found["difference"] == 3 / 8
    console = Console(record=True, width=120)
    study.show(summary, console)
    assert "0.625 (" in console.export_text()


def test_the_fit_finds_the_line_that_scores_lie_on():
    # A share of 0.2, 0.4 and 0.6 of ten questions at 10, 100 and 1000 examples.
    metrics = ("recall@1", "recall@5", "answer EM")
    scores = {n: {f"0/fact/{i}": float(i < right) for i in range(10)} for n, right in ((10, 2), (100, 4), (1000, 6))}
    arms = {f"stage 1 @ {n}": dict.fromkeys(metrics, found) for n, found in scores.items()}
    fit = log_linear([{"arms": arms}])["log-linear fit"]["answer EM"]
    assert (fit["slope"], fit["intercept"], fit["R²"]) == (0.2, 0.0, 1.0)
    assert fit["interval"][0] < 0.2 < fit["interval"][1]


def test_answers_are_counted_by_what_their_document_was():
    golden, right = {"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 1.0, "b": 0.0, "c": 1.0}
    arm = {"recall@1": golden, "answer EM": right}
    rates = conditional([{"arms": dict.fromkeys(("BM25", "stage 1", "stage 2"), arm)}])
    found = rates["right, given the document"]["stage 2"]
    assert (found["golden"]["right"], found["golden"]["questions"]) == (0.5, 2)
    assert (found["not golden"]["right"], found["not golden"]["questions"]) == (1.0, 1)


def test_a_teacher_asks_the_same_in_its_own_words():
    picture_first = [picture(56, 56, 1), text("How wide is this moth?")]
    assert teacher_of(picture_first) == "B" and teacher_of([text("What is this moth called?")]) is None
    assert asked_by(picture_first, "A") == [picture_first[0], text("What is the wingspan of this moth?")]
    for forms in MOTHS.fact_questions.values():
        words = [[text(form.format(S="the moth Vela lunaris"))] for form in forms]
        assert [teacher_of(each) for each in words] == ["A", "B"]
        assert all(asked_by(each, teacher) == own for each in words for teacher, own in zip("AB", words, strict=True))


def test_a_cap_is_the_encoders_and_not_the_readers(tmp_path):
    page, encoders = [[picture(112, 112, 1), picture(112, 112, 2)]], {}
    for cap in CAPS:
        capped(tmp_path / str(cap), cap)
        encoders[cap] = load_encoder(tmp_path / str(cap))
    assert [visual_tokens(encoder, page) for encoder in encoders.values()] == [1, 4, 9, 16]
    assert encoders[28].encode_documents(page).shape == (1, 128)
    assert visual_tokens(LocalEngine.load(TINY_VLM), page) == 16


def test_gains_are_told_by_the_reader_that_answers():
    # Of ten questions stage 1 has two right, alignment with the own reader one more for each width, others none more.
    def right(count):
        return {"answer EM": {f"0/fact/{i}": float(i < count) for i in range(10)}}

    names = ("stage 1", *map(aligned, WIDTHS), ALL)
    arms = {f"{name}, {domain} @ {width}": right(2) for name in names for domain in DOMAINS for width in WIDTHS}
    arms |= {f"{aligned(width)}, moths @ {width}": right(3 + place) for place, width in enumerate(WIDTHS)}
    found = gains([{"arms": arms}])["gain over stage 1"]
    own = {width: 10.0 * (1 + place) for place, width in enumerate(WIDTHS)}
    assert {width: found["moths"]["by reader that answers"][aligned(width)][width] for width in WIDTHS} == own
    assert set(found["minerals"]["by reader that answers"][ALL].values()) == {0.0}
    assert found["moths"]["words"].endswith(
        f"+10.0 at {WIDTHS[0]}, +20.0 at {WIDTHS[1]}, +30.0 at {WIDTHS[2]} points; it rises with width"
    )


def test_the_reader_finds_the_right_answer_likelier_where_it_is_written():
    engine = LocalEngine.load(TINY_VLM)
    page = [text("The moth Vela mirabilis lives by the salt marsh. It flies in May.")]
    other = [text("The moth Kindra lunaris lives by the old mill. It flies in June.")]
    question = [text("Where does Vela mirabilis live?")]
    asked = [(page, question, "salt marsh"), (other, question, "salt marsh"), (page, question, "old mill")]
    written, elsewhere, wrong = likelihoods(engine, asked)
    assert written > 0.9 and max(elsewhere, wrong) < 0.2
    assert likelihoods(engine, asked[:1]) == pytest.approx([written], abs=1e-4)


def test_every_result_has_its_place_in_the_document():
    document = RESULTS.parents[1] / "studies.md"
    assert document in tables.documents()
    marks = {f"<!-- study {path.stem} -->" for path in RESULTS.glob("*.json")}
    assert all(mark in document.read_text() for mark in marks)
