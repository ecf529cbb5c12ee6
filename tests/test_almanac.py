"""The Almanac is the same world for a seed, keeps its splits apart, and its questions have the answers it says."""

import hashlib
import json
from collections import Counter
from random import Random

import pytest

from dataset_builders import almanac_world as world
from dataset_builders.almanac import build, write_pages
from dataset_builders.almanac_guide import field_guide, topical_examples
from dataset_builders.almanac_lessons import UNKNOWN, page_lesson, picture_lesson, plate_lesson
from dataset_builders.almanac_pages import Entry, ask_order, write_page, write_plate
from dataset_builders.almanac_pictures import SIZES, picture
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


def test_the_world_is_what_it_was():
    # Of texts and sizes, whatever JPEG's encoder makes of the drawings.
    chunks, questions = field_guide("test", 12, seed=0)
    examples = list(topical_examples("train", 40, seed=0))
    told = [_told(each.content) for each in chunks]
    told += [[*_told(each.question), each.answers[0], each.kind] for each in questions]
    told += [_told(content) for each in examples for content in (each.query, *each.positives, *each.negatives)]
    assert (
        hashlib.sha256(json.dumps(told).encode()).hexdigest()
        == "c17f00dcb62191b92984843ae2614916ba3e5b97a24757f137da51cbd54a47d0"
    )


def _told(content):
    return [item["text"] if item["type"] == "text" else load_image(item["image"]).size for item in content]


def test_with_a_side_every_page_shows_what_it_is_about():
    chunks, questions = field_guide("test", 12, seed=0, side=112)
    examples = list(topical_examples("train", 20, seed=0, side=112))
    documents = [chunk.content for chunk in chunks]
    documents += [document for each in examples for document in (*each.positives, *each.negatives)]
    assert all(any(item["type"] == "image" for item in document) for document in documents)
    asked = [question.question for question in questions] + [each.query for each in examples]
    shown = [item["image"] for content in documents + asked for item in content if item["type"] == "image"]
    assert {load_image(image).size for image in shown} == {(112, 112)}


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
    pattern = set(world.GENERA)
    found = set()
    for chunk in chunks:
        words = text_of(chunk.content).replace(".", " ").replace(":", " ").split()
        for place, word in enumerate(words[:-1]):
            if word in pattern:
                three = words[place : place + 3]
                found.add(" ".join(three if len(three) == 3 and three[2] in world.FORMS else three[:2]))
    return found


def test_order_questions_have_a_twin_with_the_same_words(guide):
    chunks, questions = guide
    content = {chunk.id: chunk.content for chunk in chunks}
    words = Counter(text_of(chunk.content) for chunk in chunks)
    for question in questions:
        if question.kind == "order":
            page = content[question.gold_ids[0]]
            assert words[text_of(page)] == 2
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
        page = write_page(rng, [Entry(s, tuple(rng.sample(world.FACTS, 2)), rng.random() < 0.7) for s in species])
        assert all(
            item["text"].split()[0] not in world.GENERA or item["text"].startswith("shows")
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
    plates = [example for example in examples if text_of(example.positives[0]) == text_of(example.negatives[0])]
    for example in plates:
        page, twin = example.positives[0], example.negatives[0]
        assert [page[0], page[3], page[2], page[1], page[4]] == twin
    shown = [sum(item["type"] == "image" for item in example.query) for example in plates]
    assert set(shown) == {1, 2} and 10 < len(shown) < 40


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
