"""Candidates are what the ranking says, and a search that was stopped goes on where it was."""

import pytest

from dataset_builders import candidates
from dataset_builders.candidates import nearest, read_candidates, retrieve
from dataset_builders.corpus import Corpus
from dataset_builders.schema import Chunk, write_records
from nyx.ranking import rank
from tests.conftest import text

QUERIES = [(f"q{number}", [text(f"where does moth {number} live?")]) for number in range(11)]


@pytest.fixture
def corpus(tmp_path):
    chunks = [Chunk(f"c{number}", "d", "s", [text(f"moth {number} lives here")]) for number in range(9)]
    write_records(chunks, tmp_path / "c.parquet")
    return Corpus.open(tmp_path / "c.parquet")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(candidates, "QUERIES", 4)
    monkeypatch.setattr(candidates, "CHUNKS", 5)


def search(path, corpus, load, queries=QUERIES, about="this"):
    retrieve(path, {"about": about}, queries, corpus.ids, lambda: nearest(load(), corpus, 3), len(queries))
    return path.read_bytes()


def test_candidates_are_the_best_in_order(tmp_path, corpus, model):
    search(tmp_path / "f" / "found.jsonl", corpus, lambda: model)
    chunks = [
        Chunk(key, "d", "s", content) for key, content in zip(corpus.ids, corpus.contents(corpus.ids), strict=True)
    ]
    expected = rank(model, chunks, [content for _, content in QUERIES], 3)
    assert list(read_candidates(tmp_path / "f" / "found.jsonl")) == [
        (key, ranked) for (key, _), ranked in zip(QUERIES, expected, strict=True)
    ]


@pytest.mark.parametrize("left", [0, 3, 40, 200, 450, 535])
def test_a_search_that_was_stopped_goes_on(left, tmp_path, corpus, model):
    path = tmp_path / "found.jsonl"
    whole = search(path, corpus, lambda: model)
    path.write_bytes(whole[:left])
    asked = []
    assert search(path, corpus, lambda: model, [asked.append(each) or each for each in QUERIES]) == whole
    assert left < len(whole)
    # What is there is not searched for again.
    assert search(path, corpus, lambda: pytest.fail("loaded")) == whole


def test_a_search_for_others_begins_anew(tmp_path, corpus, model):
    path = tmp_path / "found.jsonl"
    search(path, corpus, lambda: model)
    other = search(path, corpus, lambda: model, QUERIES[:5], "that")
    assert other == search(tmp_path / "fresh.jsonl", corpus, lambda: model, QUERIES[:5], "that")
