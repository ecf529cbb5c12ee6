"""The Almanac is the same world for a seed, keeps its splits apart, and its questions have the answers it says."""

import hashlib
import re
from collections import Counter
from random import Random

import numpy as np
import pytest

from dataset_builders import almanac_guide
from dataset_builders import almanac_world as world
from dataset_builders.almanac import build, write_pages
from dataset_builders.almanac_guide import field_guide
from dataset_builders.almanac_kinds import FIRST_NAMES, LARGE_MOTHS, LAST_NAMES, MINERALS, MOTHS
from dataset_builders.almanac_lessons import UNKNOWN, page_lesson, picture_lesson, plate_lesson
from dataset_builders.almanac_pages import Entry, ask, ask_order, write_page, write_plate
from dataset_builders.almanac_pictures import SIZES, picture
from dataset_builders.almanac_triplets import topical_examples
from dataset_builders.schema import Chunk, Example, QAPair, read_records
from dataset_builders.sources import read_pages
from modeling_nyx import load_image
from modeling_nyx.content_nyx import text_of
from modeling_nyx.images_nyx import image_key


@pytest.fixture(scope="module")
def guide():
    return field_guide("test", 30, seed=0)


def test_splits_share_neither_names_nor_looks():
    rng = Random(0)
    species = {split: world.distinct_species(rng, 60, split) for split in ("train", "validation", "test")}
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not {s.name for s in species[one]} & {s.name for s in species[other]}
        assert not {s.look for s in species[one]} & {s.look for s in species[other]}
    looks = world.LOOKS_BY_SPLIT
    assert sum(map(len, looks.values())) == len(world.LOOKS) == 672


def test_the_same_seed_gives_the_same_guide(guide):
    assert field_guide("test", 30, seed=0) == guide != field_guide("test", 30, seed=1)


def test_gold_chunks_state_what_only_they_state(guide):
    chunks, questions = guide
    texts = {chunk.id: text_of(chunk.content) for chunk in chunks}
    assert len(texts) == len(chunks) and set(Counter(q.kind for q in questions)) == {
        "fact",
        "look",
        "picture fact",
        "picture name",
        "order",
    }
    for question in questions:
        assert question.gold_ids and set(question.gold_ids) <= texts.keys()
        if question.kind in ("fact", "picture fact"):
            assert all(question.answers[0] in texts[chunk] for chunk in question.gold_ids)
        if question.kind == "fact":
            # The name is the question's last words but for its verb; a page with name and value both is gold.
            asked = text_of(question.question)
            name = next(
                n
                for n in _names(chunks)
                if n in asked and not any(n != m and n in m and m in asked for m in _names(chunks))
            )
            alone = [k for k, words in texts.items() if name in words and question.answers[0] in words]
            assert set(question.gold_ids) <= set(alone)


def _names(chunks):
    pattern, _, third = map(set, MOTHS.names)
    found = set()
    for chunk in chunks:
        words = text_of(chunk.content).replace(".", " ").replace(":", " ").split()
        for place, word in enumerate(words[:-1]):
            if word in pattern:
                three = words[place : place + 3]
                found.add(" ".join(three if len(three) == 3 and three[2] in third else three[:2]))
    return found


def test_order_questions_have_a_twin_with_the_same_words(guide):
    chunks, questions = guide
    content = {chunk.id: chunk.content for chunk in chunks}
    for question in questions:
        if question.kind == "order":
            page = content[question.gold_ids[0]]
            swapped = [page[0], page[3], page[2], page[1], page[4]]
            assert swapped in content.values()


def test_some_answers_have_several_words_and_pictures_several_sizes(guide):
    chunks, questions = guide
    assert sum(" " in question.answers[0] for question in questions) > len(questions) / 4
    sizes = {load_image(item["image"]).size for chunk in chunks for item in chunk.content if item["type"] == "image"}
    assert sizes == {(side, side) for side in SIZES}


def test_pictures_are_the_same_again_and_differ_by_look():
    look, other = world.LOOKS[0], world.LOOKS[400]
    assert picture(look, Random(1)) == picture(look, Random(1)) != picture(other, Random(1))


def test_order_is_told_by_the_pictures_alone():
    rng = Random(3)
    first, second = world.distinct_species(rng, 2)
    page, twin = write_plate(rng, first, second)
    assert [item for item in page if item["type"] == "text"] == [item for item in twin if item["type"] == "text"]
    assert (page[1], page[3]) == (twin[3], twin[1])
    assert ask_order(rng, (first, second), 0, "wing").answer == second.look.wing
    assert ask_order(rng, (first, second), 1, "wing").answer == first.look.wing


def test_no_text_starts_with_a_bare_name():
    rng = Random(5)
    for _ in range(300):
        species = world.distinct_species(rng, 2)[: rng.randint(1, 2)]
        page = write_page(rng, [Entry(s, tuple(rng.sample(MOTHS.facts, 2)), rng.random() < 0.7) for s in species])
        assert all(
            item["text"].split()[0] not in MOTHS.names[0] or item["text"].startswith("shows")
            for item in page
            if "text" in item
        )


def test_lessons_answer_from_their_documents_or_not_at_all():
    rng = Random(7)
    unknown = asked = 0
    for _ in range(60):
        lesson = page_lesson(rng, 2, 6, unanswerable=0.3)
        words = " ".join(text_of(document) for document in lesson.documents)
        for question in lesson.questions:
            asked += 1
            unknown += question.answer == UNKNOWN
            if question.answer != UNKNOWN and question.kind in ("fact", "picture fact"):
                assert question.answer in words
    assert 0.1 < unknown / asked < 0.5
    assert {q.answer for q in page_lesson(rng, 0, 4, unanswerable=1.0).questions} == {UNKNOWN}
    assert len(picture_lesson(rng).questions) == 4 and len(plate_lesson(rng, 6).documents) == 1


def test_stage_1_examples_are_topical(guide):
    examples = list(topical_examples("train", 80, seed=0))
    assert len({example.id for example in examples}) == 80
    assert all(len(example.positives) == len(example.negatives) == 1 for example in examples)
    assert examples == list(topical_examples("train", 80, seed=0))


def test_stage_1_examples_come_two_and_two_with_each_others_positive_for_negative():
    examples = list(topical_examples("train", 200, seed=0))
    swapped = order = 0
    for one, other in zip(examples[::2], examples[1::2], strict=True):
        assert one.negatives == other.positives and one.query != other.query
        page, twin = one.positives[0], other.positives[0]
        if text_of(page) != text_of(twin):
            assert other.negatives == one.positives
            continue
        assert [page[0], page[3], page[2], page[1], page[4]] == twin
        swapped += 1
        order += sum(item["type"] == "image" for item in one.query) == 1
        # The second of two plates has another page of a species of theirs for its negative.
        assert other.negatives[0] not in (page, twin) and any(item["type"] == "image" for item in other.negatives[0])
    assert 30 < swapped < 60 and 10 < order < swapped - 10


@pytest.mark.parametrize(("species", "half"), [(16, 8), (6, 3), (2, 1)])
def test_pictures_of_a_species_are_on_many_plates_and_one_at_the_place_that_is_asked_for(monkeypatch, species, half):
    monkeypatch.setattr(almanac_guide, "write_plate", lambda _, *both: (both, both[::-1]))
    plates = list(almanac_guide._plates(Random(0), world.distinct_species(Random(0), species, "test")))
    assert len(plates) == half * (half + 1)
    asked = [(page, place) for page in plates if page.plate for place in (0, 1)]
    assert {page.plate[place].name for page, place in asked} == {s.name for page in plates for s in page.content}
    for page, place in asked:
        assert page.plate == page.content
        shown = page.content[place]
        assert [other for other in plates if other.content[place] is shown] == [page]
        assert sum(shown in other.content for other in plates) == half + 1


def test_a_plate_shows_two_that_look_different(monkeypatch):
    drawn = []
    monkeypatch.setattr(almanac_guide, "write_plate", lambda *args: drawn.append(args[1:]) or write_plate(*args))
    assert len(world.LOOKS_BY_SPLIT["validation"]) < 120
    field_guide("validation", 120, seed=0)
    assert 300 < len(drawn) < 6 * 64 and all(first.look != second.look for first, second in drawn)


def test_a_quote_leads_to_the_page_that_says_it_and_not_to_another_of_the_species():
    values = [value for each in MOTHS.values.values() for value in each]
    values += [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]

    def stated(content):
        found = {value for value in values if re.search(rf"\b{value}\b", text_of(content))}
        return {value for value in found if not any(value != other and value in other for other in found)}  # June Xu

    examples = list(topical_examples("train", 80, seed=0))
    quotes = [each for each in examples if len(each.query) == 1 and "?" not in text_of(each.query)]
    assert 8 < len(quotes) < 24
    for each in quotes:
        (value,) = stated(each.query)
        assert value in stated(each.positives[0]) and value not in stated(each.negatives[0])
        assert len(stated(each.positives[0]) & stated(each.negatives[0])) == 0 < len(stated(each.negatives[0]))


def test_pages_as_markdown_are_ingested_as_they_were(guide, tmp_path):
    chunks, _ = guide
    write_pages(chunks, tmp_path)
    pages = list(read_pages(tmp_path, lambda page, reason: pytest.fail(reason)))
    found = {page.source.removesuffix(".md"): page.content for page in pages}
    assert len(pages) == len(chunks)
    for chunk in chunks:
        assert text_of(found[chunk.id]) == text_of(chunk.content)
        keys = [
            [image_key(item["image"]) for item in c if item["type"] == "image"]
            for c in (found[chunk.id], chunk.content)
        ]
        assert keys[0] == keys[1]


def test_build_writes_a_dataset_folder_once(tmp_path):
    sizes = {"train": 4, "test": 3}
    build(tmp_path, species=sizes, triplets={"train": 5, "test": 2})
    chunks = list(read_records(Chunk, tmp_path / "corpus" / "test.parquet"))
    questions = list(read_records(QAPair, tmp_path / "qa" / "test.parquet"))
    assert (chunks, questions) == field_guide("test", 3, seed=0)
    assert len(list(read_records(Example, tmp_path / "triplets" / "train.parquet"))) == 5
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    build(tmp_path, species=sizes, triplets={"train": 5, "test": 2})
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} and len(times) == 6


def test_the_world_of_moths_stays_as_it_is():
    """Checkpoints and results are of this world: its words and sizes of pictures, and how a moth is drawn."""
    chunks, questions = field_guide("test", 12, seed=1)
    content = [each.content for each in chunks] + [each.question for each in questions]
    for example in topical_examples("train", 80, seed=0):
        content += [example.query, *example.positives, *example.negatives]
    shown = [item.get("text") or load_image(item["image"]).size for items in content for item in items]
    answers = [each.answers for each in questions]
    assert hashlib.sha256(repr((shown, answers)).encode()).hexdigest()[:16] == "dc9765e281fcfd37"
    moth = load_image(picture(world.LOOKS[100], Random(1))).convert("L").resize((4, 4))
    np.testing.assert_allclose(
        np.asarray(moth, dtype=float),
        [[112, 101, 117, 114], [168, 139, 143, 161], [162, 142, 138, 162], [101, 102, 90, 97]],
        atol=4,
    )


def test_every_page_of_large_moths_shows_what_it_is_about():
    chunks, questions = field_guide("test", 12, seed=0, kind=LARGE_MOTHS)
    examples = list(topical_examples("train", 20, seed=0, kind=LARGE_MOTHS))
    documents = [chunk.content for chunk in chunks]
    documents += [document for each in examples for document in (*each.positives, *each.negatives)]
    assert all(any(item["type"] == "image" for item in document) for document in documents)
    asked = [question.question for question in questions] + [each.query for each in examples]
    shown = [item["image"] for content in documents + asked for item in content if item["type"] == "image"]
    assert {load_image(image).size for image in shown} == {(112, 112)}


@pytest.fixture(scope="module")
def minerals():
    return field_guide("test", 30, seed=0, kind=MINERALS)


def test_minerals_share_no_names_with_moths_or_between_splits():
    assert not {word for words in MINERALS.names for word in words} & {word for words in MOTHS.names for word in words}
    rng = Random(0)
    drawn = {split: world.distinct_species(rng, 60, split, kind=MINERALS) for split in ("train", "validation", "test")}
    assert all(species.kind is MINERALS for each in drawn.values() for species in each)
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not {s.name for s in drawn[one]} & {s.name for s in drawn[other]}
        assert not {s.look for s in drawn[one]} & {s.look for s in drawn[other]}


def test_a_guide_of_minerals_is_the_same_again_and_speaks_of_no_moth(minerals):
    assert field_guide("test", 30, seed=0, kind=MINERALS) == minerals
    chunks, questions = minerals
    words = [text_of(each.content) for each in chunks] + [text_of(each.question) for each in questions]
    assert any("mineral" in each for each in words)
    moths = set("moth moths wing wings wingspan caterpillars night fly flies feed feeds live lives".split())
    assert not moths & {word.strip(".:?").lower() for each in words for word in each.split()}


def test_a_gold_page_of_minerals_states_the_answer(minerals):
    chunks, questions = minerals
    content = {chunk.id: chunk.content for chunk in chunks}
    assert {q.kind for q in questions} == {"fact", "look", "picture fact", "picture name", "order"}
    for question in questions:
        for page in map(content.__getitem__, question.gold_ids):
            stated = question.answers[0] in text_of(page)
            assert stated or question.kind in ("look", "order") and any(item["type"] == "image" for item in page)


def test_every_fact_of_a_kind_has_its_words():
    for kind in (MOTHS, MINERALS):
        assert set(kind.facts) == set(kind.fact_questions) == set(kind.values) | {"recorder"}
        assert set(kind.plates) <= set(kind.facts) and set(kind.look_questions) == set(world.VISUALS)
        assert all(form.startswith("{S}") for form, _ in kind.sentences.values())
        species = world.random_species(Random(2), kind=kind)
        for about, value in species.facts.items():
            question = ask(Random(3), "fact", species, about)
            assert question.answer == value and species.full_name in text_of(question.content)


def test_a_mineral_is_drawn_unlike_a_moth_of_the_same_look():
    moth, mineral = (
        np.asarray(load_image(picture(world.LOOKS[100], Random(1), noun)), dtype=float) for noun in ("moth", "mineral")
    )
    assert moth.shape == mineral.shape and np.abs(moth - mineral).mean() > 5
    # In the middle of the left wing or crystal, beside the marks, both are of the look's colour.
    place = [round(side * share) for side, share in zip(moth.shape, (0.35, 0.1), strict=False)]
    assert np.abs(moth[*place] - mineral[*place]).max() < 60
