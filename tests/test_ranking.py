"""Ranking by a prefix is ranking by its cosine."""

import numpy as np
import pytest

from modeling_nyx.modeling_nyx import truncate
from nyx import ranking
from nyx.ranking import rank, top, top_by_dim
from nyx.records import Chunk


def test_top_is_brute_force():
    generator = np.random.default_rng(0)
    queries, documents = (generator.normal(size=(n, 8)).astype(np.float32) for n in (4, 20))
    cosine = queries[:, :3] @ documents[:, :3].T
    cosine /= np.linalg.norm(queries[:, :3], axis=1)[:, None] * np.linalg.norm(documents[:, :3], axis=1)
    assert np.array_equal(top(queries, documents, 5, 3), np.argsort(-cosine, axis=1)[:, :5])


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [1, 10, 200, 500])
def test_one_pass_is_a_search_by_every_prefix(monkeypatch, block, k):
    monkeypatch.setattr(ranking, "BLOCK", block)
    generator = np.random.default_rng(0)
    # Small integers: sums are exact in any order, and many documents equal.
    queries, documents = (generator.integers(-2, 3, (n, 8)).astype(np.float32) for n in (6, 300))
    documents[::50] = 0
    for dim, (positions, scores) in top_by_dim(queries, documents, k, [8, 2, 4, 2]).items():
        expected = queries[:, :dim] @ documents[:, :dim].T
        if dim < 8:
            expected /= np.maximum(np.linalg.norm(documents[:, :dim], axis=1), 1e-12)
        order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
        assert positions.shape == (6, min(k, 300)) and np.array_equal(positions, order)
        cosines = truncate(queries, dim) @ truncate(documents, dim).T
        np.testing.assert_allclose(scores, np.take_along_axis(cosines, order, axis=1), atol=1e-6)


def test_nothing_to_rank():
    assert top(np.ones((2, 4), dtype=np.float32), np.empty((0, 4), dtype=np.float32), 5).shape == (2, 0)
    assert top(np.empty((0, 4), dtype=np.float32), np.ones((3, 4), dtype=np.float32), 2).shape == (0, 2)


@pytest.mark.parametrize("dim", [0, 9, 2.0])
def test_a_prefix_that_is_none_is_refused(dim):
    with pytest.raises(ValueError, match="expected 1 to 8"):
        top(np.ones((1, 8), dtype=np.float32), np.ones((3, 8), dtype=np.float32), 1, dim)


def test_a_page_finds_itself(model, pages):
    chunks = [Chunk(str(index), "d", "s", page) for index, page in enumerate(pages)]
    model.processor.query_instruction, kept = "", model.processor.query_instruction
    ranked = rank(model, chunks, pages, k=2)
    model.processor.query_instruction = kept
    assert [row[0] for row in ranked] == [chunk.id for chunk in chunks]
