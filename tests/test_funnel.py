"""A funnel finds what exact search finds, up to what it promises, and reads its candidates only."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from modeling_nyx.modeling_nyx import truncate
from nyx import funnel
from nyx.funnel import RECALL, Funnel, Plan, choose
from nyx.index import LOCK, Index
from nyx.manifest import MANIFEST, read_manifest
from nyx.ranking import top_by_dim
from nyx.records import Chunk
from tests.conftest import text

SIZE, COUNT = 64, 6000


def pages(count=COUNT, seed=0):
    """Embeddings that five hidden values and a little noise decide: any 32 values tell most."""
    generator, fixed = np.random.default_rng(seed), np.random.default_rng(99).normal(size=(5, SIZE))
    vectors = generator.normal(size=(count, 5)) @ fixed + 0.05 * generator.normal(size=(count, SIZE))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(funnel, "SMALL", 1000 * SIZE)
    monkeypatch.setattr(funnel, "PREFIX", 32)


def chunks(count, start=0):
    return [Chunk(str(i), f"d{i}", "s", [text(f"text {i}")]) for i in range(start, start + count)]


@pytest.fixture
def index():
    return Index.of(chunks(COUNT), pages(), model_name="m")


def share(scores, exact):
    return (scores >= exact[:, -1:] - 1e-6).mean()


@pytest.mark.parametrize("dim", [None, 32])
def test_recall_is_measured_and_reached(index, dim):
    queries = pages(300, seed=1)
    (positions, scores), (exact, best) = (index.rank(queries, 10, dim, each) for each in (False, True))
    plan = index._funnels[dim or SIZE].plan
    assert RECALL <= plan.recall <= 1 and plan.prefix == 32 and plan.candidates < COUNT / 10
    # The queries measured here aren't those it was chosen by.
    assert share(scores, best) >= RECALL - 0.01
    # Every cosine is exact, and no page comes twice.
    cosines = truncate(queries, dim) @ truncate(index.vectors, dim).T
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, positions, axis=1), atol=1e-6)
    np.testing.assert_allclose(best, -np.sort(-cosines, axis=1)[:, :10], atol=1e-6)
    assert all(len(set(row)) == 10 for row in positions)


def test_every_page_as_candidate_is_exact_search(monkeypatch):
    monkeypatch.setattr(funnel, "COMPARED", 1000)
    vectors = np.repeat(pages(500), 2, axis=0)  # all pages twice: ties everywhere
    searched = Funnel.build(vectors, SIZE, Plan(16, len(vectors), 1.0)).search(pages(20, seed=1), 7)
    exact = top_by_dim(pages(20, seed=1), vectors, 7, [SIZE])[SIZE]
    assert np.array_equal(searched[0], exact[0])
    np.testing.assert_allclose(searched[1], exact[1], atol=1e-6)


def test_a_longer_prefix_is_coded_when_the_short_one_tells_nothing():
    vectors = pages()
    vectors[:, 32:], vectors[:, :32] = vectors[:, :32].copy(), 0.01
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert choose(pages(), SIZE).plan.prefix == 32 and choose(vectors, SIZE).plan.prefix == 64


def test_noise_is_searched_exactly(monkeypatch):
    monkeypatch.setattr(funnel, "CANDIDATES", [10])
    noise = np.random.default_rng(0).normal(size=(COUNT, SIZE)).astype(np.float32)
    assert choose(noise / np.linalg.norm(noise, axis=1, keepdims=True), SIZE) is None


@pytest.mark.parametrize("k", [COUNT // 2, COUNT, COUNT + 1])
def test_more_results_than_candidates_are_searched_exactly(index, k):
    positions, scores = index.rank(pages(3, seed=1), k)
    exact, best = index.rank(pages(3, seed=1), k, exact=True)
    assert positions.shape == (3, min(k, COUNT)) and np.array_equal(positions, exact) and np.array_equal(scores, best)


def test_small_and_empty_corpora_are_searched_exactly():
    vectors = pages(30)
    small = Index.of(chunks(30), vectors, model_name="m")
    assert np.array_equal(small.rank(vectors, 1)[0][:, 0], np.arange(30))
    empty = Index.of([], np.empty((0, SIZE), dtype=np.float32), model_name="m")
    assert empty.search(vectors[:2], 5) == [[], []] and empty.rank(vectors[:2], 5, 16)[0].shape == (2, 0)
    for each in (small, empty):
        each.prepare()
        assert each.plan is None and not any(each._funnels.values())


def test_pages_added_later_are_found(index):
    index.prepare()
    assert index.plan is not None
    new = pages(5, seed=2)
    index.add(chunks(5, start=COUNT), new)
    assert index.plan is None
    assert [hits[0].id for hits in index.search(new, 1)] == [str(COUNT + i) for i in range(5)]


def test_the_manifest_keeps_what_was_measured(index, tmp_path, monkeypatch):
    index.folder = tmp_path / "index"
    index.save()
    assert read_manifest(index.folder).search is None
    index.prepare()
    assert read_manifest(index.folder).search == index.plan is not None
    files = sorted(path.name for path in index.folder.iterdir() if path.name != LOCK)
    assert files == ["documents-1.parquet", MANIFEST, "vectors-1.safetensors"]
    again = Index.open(index.folder)
    monkeypatch.setattr("nyx.index.choose", None)  # measured once, it isn't again
    for queries in (pages(1, seed=1), pages(70, seed=1)):
        for found, expected in zip(again.rank(queries, 10), index.rank(queries, 10), strict=True):
            assert np.array_equal(found, expected)
    monkeypatch.undo()
    again.add(chunks(1, start=COUNT), pages(1, seed=3))
    again.save()
    assert read_manifest(index.folder).search is None
    index.plan = None
    with pytest.raises(ValueError, match="saved by another run"):
        index.prepare()
    assert read_manifest(index.folder).search is None


def test_given_queries_are_what_it_is_measured_by(index):
    queries = pages(50, seed=4)
    index.prepare(queries)
    exact = index.rank(queries, 10, exact=True)[1]
    assert index.plan.recall == pytest.approx(share(index.rank(queries, 10)[1], exact))
    with pytest.raises(ValueError, match=r"expected \(queries, 64\)"):
        index.prepare(queries[:, :8])


def test_a_search_reads_its_candidates_only(index, tmp_path):
    class Watched(np.ndarray):
        read = 0

        def __getitem__(self, item):
            found = super().__getitem__(item).view(np.ndarray)
            Watched.read += found.size
            return found

    index.prepare()
    index._funnels[SIZE].vectors = index.vectors.view(Watched)
    index.rank(pages(4, seed=1), 10)
    assert Watched.read == 4 * min(index.plan.candidates, 10 * funnel.COMPARED) * SIZE


def test_longer_codes_choose_among_many_candidates(index):
    """They lose next to nothing, though a tenth of the candidates' vectors is read."""
    queries = pages(200, seed=5)
    best = index.rank(queries, 10, exact=True)[1]
    few, some, many = (
        share(Funnel.build(index.vectors, SIZE, Plan(16, candidates, 1.0)).search(queries, 10)[1], best)
        for candidates in (20, 400, 4000)
    )
    assert few < some - 0.05 and many >= max(some, 0.99)


def test_threads_stay_as_they_were(index):
    import faiss

    before = faiss.omp_get_max_threads()
    for threads in (1, 3):
        faiss.omp_set_num_threads(threads)
        index.rank(pages(1, seed=1), 10)
        assert faiss.omp_get_max_threads() == threads
    faiss.omp_set_num_threads(before)


def test_opened_vectors_are_mapped(index, tmp_path):
    index.folder = tmp_path / "index"
    index.save()
    again = Index.open(index.folder)
    path = index.folder / "vectors-1.safetensors"
    assert str(path) in Path("/proc/self/maps").read_text()
    assert np.array_equal(again.vectors, index.vectors) and not again.vectors.flags.owndata


@pytest.mark.parametrize(
    "odd",
    [
        {"prefix": 16},
        {"prefix": "16", "candidates": 100, "recall": 1.0},
        {"prefix": 18, "candidates": 100, "recall": 1.0},
        {"prefix": 68, "candidates": 100, "recall": 1.0},
        {"prefix": 16, "candidates": 0, "recall": 1.0},
        {"prefix": 16, "candidates": 100, "recall": 2.0},
        {"prefix": 16, "candidates": 100, "recall": 1.0, "new": 1},
        [],
    ],
)
def test_an_odd_plan_is_named(index, tmp_path, odd):
    index.folder = tmp_path / "index"
    index.save()
    manifest = asdict(read_manifest(index.folder)) | {"search": odd}
    (index.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="is damaged .*Index the chunks again"):
        Index.open(index.folder)


def test_without_faiss_a_large_corpus_says_what_to_install(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"needs FAISS .*pip install 'nyx-retriever\[cpu\]'"):
        index.rank(index.vectors[:1], 1)
    assert index.rank(index.vectors[:1], 1, exact=True)[0] == 0
