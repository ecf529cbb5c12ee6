"""An index finds what brute force finds, and is never half written or silently wrong."""

import json

import numpy as np
import pytest

from nyx.index import MANIFEST, Index
from nyx.records import Chunk
from tests.conftest import text


def unit(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def chunks(count, start=0):
    return [Chunk(str(i), f"d{i}", f"page {i}", [text(f"text {i}")]) for i in range(start, start + count)]


@pytest.fixture
def index(tmp_path):
    return Index.create(tmp_path / "index", chunks(30), unit(30), model_name="m", revision="r")


@pytest.mark.parametrize("dim", [None, 4])
def test_search_equals_brute_force(index, dim):
    queries, documents = unit(5, seed=1)[:, :dim], unit(30)[:, :dim]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    expected = queries @ documents.T
    for row, hits in zip(expected, index.search(unit(5, seed=1), 7, dim), strict=True):
        order = np.argsort(-row)[:7]
        assert [hit.id for hit in hits] == [str(i) for i in order]
        assert [hit.score for hit in hits] == pytest.approx(row[order].tolist(), abs=1e-6)
        assert hits[0].source == f"page {order[0]}" and hits[0].content == [text(f"text {order[0]}")]


def test_opened_equals_created(index):
    again = Index.open(index.folder, model_name="m", revision="r")
    assert again.chunks == index.chunks and np.array_equal(again.vectors, index.vectors)


def test_more_results_than_chunks_gives_all(index):
    assert len(index.search(unit(1), 100)[0]) == 30


def test_adding_keeps_known_ids_once(index):
    assert index.add(chunks(10, start=25), unit(10, seed=2)) == 5
    index.save()
    again = Index.open(index.folder)
    assert len(again.chunks) == 35 and len({*(chunk.id for chunk in again.chunks)}) == 35
    assert again.search(unit(10, seed=2)[5:6], 1)[0][0].id == "30"
    assert sorted(path.name for path in index.folder.iterdir()) == [
        "documents-2.parquet",
        MANIFEST,
        "vectors-2.safetensors",
    ]


@pytest.mark.parametrize("crash_in", ["save_file", "write_records", "_checksum"])
def test_a_crash_while_saving_leaves_the_old_index(index, monkeypatch, crash_in):
    index.add(chunks(5, start=30), unit(5, seed=2))

    def crash(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"nyx.index.{crash_in}", crash)
        with pytest.raises(KeyboardInterrupt):
            index.save()
    assert len(Index.open(index.folder).chunks) == 30
    index.save()
    assert len(Index.open(index.folder).chunks) == 35


@pytest.mark.parametrize("given", [{"model_name": "other"}, {"revision": "other"}])
def test_another_model_is_refused(index, given):
    with pytest.raises(ValueError, match="was made with the model 'm r', but is opened with .*other"):
        Index.open(index.folder, **given)


@pytest.mark.parametrize("name", ["vectors-1.safetensors", "documents-1.parquet"])
def test_damaged_files_are_refused(index, name):
    data = bytearray((index.folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (index.folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is missing or damaged"):
        Index.open(index.folder)


def test_a_manifest_cannot_name_files_elsewhere(index, tmp_path):
    manifest = json.loads((index.folder / MANIFEST).read_text())
    (index.folder / "vectors-1.safetensors").rename(tmp_path / "vectors-1.safetensors")
    manifest["files"]["vectors"] = "../vectors-1.safetensors"
    (index.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="missing or damaged"):
        Index.open(index.folder)


def test_wrong_input_is_named(index, tmp_path):
    with pytest.raises(ValueError, match="holds no index"):
        Index.open(tmp_path)
    with pytest.raises(ValueError, match="already holds an index"):
        Index.create(index.folder, chunks(1), unit(1), model_name="m")
    with pytest.raises(ValueError, match=r"shape \(2, 16\) came for 1 chunks"):
        index.add(chunks(1), unit(2))
    with pytest.raises(ValueError, match="finite and of norm 1"):
        index.add(chunks(1, start=99), unit(1) * 2)
    with pytest.raises(ValueError, match=r"expected \(queries, 16\)"):
        index.search(np.ones((1, 8), dtype=np.float32), 1)
    (index.folder / MANIFEST).write_text("{}")
    with pytest.raises(ValueError, match="no manifest of this version"):
        Index.open(index.folder)
