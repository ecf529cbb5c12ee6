"""Scores of a guide, and the committed reader on species it has never seen."""

import numpy as np
import pytest

from dataset_builders.almanac import TINY_VLM
from dataset_builders.almanac_guide import field_guide
from modeling_nyx.content_nyx import text_of
from nyx.metrics import mean
from nyx.reader import Reader
from train_scripts.scoring import (
    Guide,
    dimension_rows,
    order_wins,
    random_documents,
    replaced_pictures,
    retriever_row,
)


@pytest.fixture(scope="module")
def guide():
    return Guide(*field_guide("test", 25, seed=7))


@pytest.fixture(scope="module")
def reader():
    return Reader.from_pretrained(TINY_VLM)


def gold_positions(guide):
    places = {chunk.id: place for place, chunk in enumerate(guide.chunks)}
    return np.array([[places[question.gold_ids[0]]] for question in guide.questions])


def test_the_reader_reads(guide, reader):
    """Answers come from `.generate()`. The bars leave room for a small sample; the benchmark reports the figures."""
    gold, _ = retriever_row("gold", guide, gold_positions(guide), reader)
    assert gold["recall@1"] == gold["mrr"] == 1 and gold["answer_em"] >= 0.85
    assert mean(guide.answers(reader, random_documents(guide)).em) <= 0.1
    assert mean(guide.answers(reader, [[] for _ in guide.questions]).em) <= 0.05
    replaced = guide.by_kind(guide.answers(reader, replaced_pictures(guide)).em)
    assert replaced["look"] <= 0.4 < 0.7 < gold["answer_em_by_kind"]["look"]
    assert gold["answer_f1"] >= gold["answer_em"]


def test_recall_by_kind_is_of_the_questions_of_that_kind(guide):
    rng = np.random.default_rng(0)
    positions = np.stack([rng.permutation(len(guide.chunks))[:50] for _ in guide.questions])
    found = guide.found(positions)
    assert 0 < mean(found) < 1 and mean(found) == pytest.approx(guide.retrieval(positions)["recall@5"])
    is_order = [question.kind == "order" for question in guide.questions]
    positions[is_order] = gold_positions(guide)[is_order]
    by_kind = guide.by_kind(guide.found(positions))
    assert by_kind.pop("order") == 1
    others = [value for value, order in zip(found, is_order, strict=True) if not order]
    assert mean(list(by_kind.values())) < 1 and guide.found(positions).count(1.0) == sum(others) + sum(is_order)


def test_random_documents_are_never_gold(guide):
    ids = {text_of(chunk.content) + str(len(chunk.content)): chunk.id for chunk in guide.chunks}
    assert len(ids) > 50
    for question, (document,) in zip(guide.questions, random_documents(guide), strict=True):
        chosen = next(chunk.id for chunk in guide.chunks if chunk.content == document)
        assert chosen not in question.gold_ids


def test_replaced_pictures_keep_the_words(guide):
    for document, (replaced,) in zip(guide.gold_documents(), replaced_pictures(guide), strict=True):
        assert text_of(document) == text_of(replaced) and len(document) == len(replaced)


def test_order_wins_compare_a_page_with_its_twin(guide):
    documents = np.eye(len(guide.chunks), dtype=np.float32)
    queries = documents[gold_positions(guide)[:, 0]]
    asked = sum(question.kind == "order" for question in guide.questions)
    assert order_wins(guide, queries, documents) == (asked, asked) and asked == 20
    assert order_wins(guide, -queries, documents) == (0, asked)


def test_dimension_rows_rank_by_prefix(guide):
    documents = np.random.default_rng(0).normal(size=(len(guide.chunks), 64)).astype(np.float32)
    queries = documents[gold_positions(guide)[:, 0]]
    rows = dimension_rows(guide, queries, documents, [64, 1])
    assert rows[0]["dim"] == 64 and rows[0]["recall@1"] == 1 > rows[1]["recall@1"]
