"""Ranking by a prefix is ranking by its cosine."""

import numpy as np

from nyx.ranking import rank, top
from nyx.records import Chunk


def test_top_is_brute_force():
    generator = np.random.default_rng(0)
    queries, documents = (generator.normal(size=(n, 8)).astype(np.float32) for n in (4, 20))
    cosine = queries[:, :3] @ documents[:, :3].T
    cosine /= np.linalg.norm(queries[:, :3], axis=1)[:, None] * np.linalg.norm(documents[:, :3], axis=1)
    assert np.array_equal(top(queries, documents, 5, 3), np.argsort(-cosine, axis=1)[:, :5])


def test_a_page_finds_itself(model, pages):
    chunks = [Chunk(str(index), "d", "s", page) for index, page in enumerate(pages)]
    model.processor.query_instruction, kept = "", model.processor.query_instruction
    ranked = rank(model, chunks, pages, k=2)
    model.processor.query_instruction = kept
    assert [row[0] for row in ranked] == [chunk.id for chunk in chunks]
