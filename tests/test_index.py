"""An index finds what brute force finds, and is never half written or silently wrong."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Event

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from nyx.index import LOCK, Index, _checksum
from nyx.manifest import FORMAT, MANIFEST
from nyx.records import Chunk
from tests.conftest import text


def unit(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def chunks(count, start=0):
    return [Chunk(str(i), f"d{i}", f"page {i}", [text(f"text {i}")]) for i in range(start, start + count)]


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


MEGABYTE = 2**20
FILES = ["documents-1.parquet", MANIFEST, "vectors-1.safetensors"]


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


def test_an_index_holds_no_pictures(tmp_path):
    pictures = [[{"type": "image", "image": Random(i).randbytes(MEGABYTE)}] for i in range(20)]
    pages = [Chunk(str(i), f"d{i}", f"page {i}", picture) for i, picture in enumerate(pictures)]
    Index.create(tmp_path / "i", pages, unit(20), model_name="m")
    before = pa.total_allocated_bytes()
    index = Index.open(tmp_path / "i")
    assert pa.total_allocated_bytes() - before < MEGABYTE
    assert [hit.content for (hit,) in index.search(unit(20), 1)] == pictures
    assert pa.total_allocated_bytes() - before < 8 * MEGABYTE


def test_more_results_than_chunks_gives_all(index):
    assert len(index.search(unit(1), 100)[0]) == 30


def test_adding_keeps_known_ids_once(index):
    assert index.add(chunks(10, start=25), unit(10, seed=2)) == 5
    index.save()
    again = Index.open(index.folder)
    assert len(again.chunks) == 35 and len({*(chunk.id for chunk in again.chunks)}) == 35
    assert again.search(unit(10, seed=2)[5:6], 1)[0][0].id == "30"
    assert files(index.folder) == [
        "documents-2.parquet",
        MANIFEST,
        "vectors-2.safetensors",
    ]


def test_a_chunk_takes_the_place_of_another_one_with_its_id(index):
    moved = Chunk("3", "d3", "renamed", [text("text 3")])
    changed = Chunk("5", "d5", "page 5", [text("another text")])
    vectors = unit(2, seed=4)
    assert index.add([moved, changed], vectors) == 0
    expected = unit(30)
    expected[5] = vectors[1]
    index.save()
    again = Index.open(index.folder)
    assert again.chunks == [*chunks(3), moved, *chunks(1, start=4), changed, *chunks(24, start=6)]
    assert np.array_equal(again.vectors, expected)
    again.add(chunks(2, start=7), unit(2, seed=5))
    again.save()
    assert again.generation == 2  # nothing changed


def test_removing_equals_never_having_added(index, tmp_path):
    gone = {str(i) for i in range(0, 30, 3)}
    assert index.remove(each for each in (*gone, "nowhere")) == 10 and index.remove(gone) == 0
    index.save()
    again, left = Index.open(index.folder), [i for i in range(30) if i % 3]
    new = Index.create(tmp_path / "new", [chunks(30)[i] for i in left], unit(30)[left], model_name="m")
    assert again.chunks == new.chunks and np.array_equal(again.vectors, new.vectors)
    assert again.search(unit(4, seed=3), 5) == index.search(unit(4, seed=3), 5) == new.search(unit(4, seed=3), 5)
    assert again.add(chunks(30), unit(30)) == 10 and again.remove("12") == 1
    with pytest.raises(ValueError, match="Nothing would be left of 20 chunks"):
        index.remove(index.ids)
    index.save()
    assert len(Index.open(index.folder).chunks) == 20


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
    assert files(index.folder) == FILES
    index.save()
    assert len(Index.open(index.folder).chunks) == 35


@pytest.mark.parametrize("given", [{"model_name": "other"}, {"revision": "other"}])
def test_another_model_is_refused(index, given):
    with pytest.raises(ValueError, match="was made with the model 'm r', but is opened with .*other"):
        Index.open(index.folder, **given)


def test_the_revision_tells_the_model_whatever_its_name(index):
    assert Index.open(index.folder, model_name="./moved/m/", revision="r").model_name == "m"
    with pytest.raises(ValueError, match="cannot be compared"):
        Index.open(index.folder, model_name="m", revision="other")


def test_an_index_without_a_folder_is_not_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="has no folder. Make it with Index.create"):
        Index.of(chunks(3), unit(3), model_name="m").save()
    assert not list(tmp_path.iterdir())


def test_only_what_is_new_is_written(index):
    index.save()
    assert index.add(chunks(30), unit(30)) == 0
    index.save()
    assert files(index.folder) == FILES


def test_a_second_writer_is_refused(index, tmp_path):
    first, second = Index.open(index.folder), Index.open(index.folder)
    first.add(chunks(1, start=30), unit(1, seed=2))
    second.add(chunks(1, start=31), unit(1, seed=3))
    first.save()
    with pytest.raises(ValueError, match=r"saved by another run .*\(generation 2; expected 1\)"):
        second.save()
    assert [chunk.id for chunk in Index.open(index.folder).chunks[30:]] == ["30"]
    first.add(chunks(1, start=31), unit(1, seed=3))
    first.save()
    assert len(Index.open(index.folder).chunks) == 32


def test_of_two_saves_at_once_the_second_is_refused_and_nothing_is_lost(index, monkeypatch):
    first, second = Index.open(index.folder), Index.open(index.folder)
    first.add(chunks(5, start=30), unit(5, seed=2))
    second.add(chunks(7, start=40), unit(7, seed=3))
    begun, checksum = Event(), _checksum

    def slowly(path):
        begun.set()
        time.sleep(0.2)
        return checksum(path)

    monkeypatch.setattr("nyx.index._checksum", slowly)
    with ThreadPoolExecutor() as pool:
        saving = pool.submit(first.save)
        begun.wait()
        with pytest.raises(ValueError, match="saved by another run"):
            second.save()
        saving.result()
    assert len(Index.open(index.folder).chunks) == 35


def test_an_index_that_is_saved_while_it_is_opened_is_read_again(index, monkeypatch):
    writer = Index.open(index.folder)
    writer.add(chunks(5, start=30), unit(5, seed=2))
    checksum, read = _checksum, []

    def overtaken(path):
        read.append(path.name)
        if len(read) == 1:
            writer.save()
        return checksum(path)

    monkeypatch.setattr("nyx.index._checksum", overtaken)
    assert len(Index.open(index.folder).chunks) == 35


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ([Chunk("x", "d", "s", [])], "Chunk x: Empty content"),
        ([Chunk(None, "d", "s", [text("a")])], "Chunk 0 of 1 has the id None"),
        ([Chunk("", "d", "s", [text("a")])], "has the id ''"),
        ([Chunk("x", "d", "s", [text("a")]), Chunk("x", "d", "s", [text("b")])], "different content have the id x"),
    ],
)
def test_odd_chunks_are_refused_before_anything_is_written(index, tmp_path, odd, message):
    with pytest.raises(ValueError, match=message):
        Index.create(tmp_path / "new", odd, unit(len(odd)), model_name="m")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=message):
        index.add(odd, unit(len(odd)))
    assert len(index.chunks) == len(index.vectors) == 30


def test_the_same_chunk_twice_counts_once(index):
    assert index.add([*chunks(1, start=30), *chunks(1, start=30)], unit(1).repeat(2, axis=0)) == 1


def test_a_picture_that_cannot_be_read_leaves_nothing_behind(tmp_path):
    lost = Chunk("x", "d", "s", [{"type": "image", "image": tmp_path / "none.png"}])
    with pytest.raises(OSError, match="none.png"):
        Index.create(tmp_path / "new", [lost], unit(1), model_name="m")
    assert files(tmp_path / "new") == []


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
    for dim in (0, -1, 17):
        with pytest.raises(ValueError, match=f"dim is {dim}; expected 1 to 16"):
            index.rank(unit(1), 1, dim)
    with pytest.raises(ValueError, match="must be finite"):
        index.search(np.full((1, 16), np.nan, dtype=np.float32), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": FORMAT + 1, "new": 1}, "Update nyx-retriever"),
        ({"new": 1}, "is damaged .*'new'"),
        ({"dim": None}, "is damaged .*dim"),
        ({"files": {"vectors": "vectors-1.safetensors"}}, "is damaged .*files"),
        ({"checksums": {}}, "is damaged .*checksums"),
        ({"files": ["vectors-1.safetensors"]}, "is damaged .*files"),
        ({"dim": 8}, r"vectors of shape \(30, 16\) for 30 chunks"),
    ],
)
def test_an_odd_manifest_is_named(index, change, message):
    manifest = json.loads((index.folder / MANIFEST).read_text())
    (index.folder / MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(ValueError, match=message):
        Index.open(index.folder)


@pytest.mark.parametrize("given", ["{}", "[]", "", "no json", f'{{"format": {FORMAT}}}'])
def test_what_is_no_manifest_is_named(index, given):
    (index.folder / MANIFEST).write_text(given)
    with pytest.raises(ValueError, match=f"{MANIFEST} is (no index's manifest|damaged).*Index the chunks again"):
        Index.open(index.folder)


@pytest.mark.parametrize("broken", [lambda path: path.write_bytes(b"x"), lambda path: save_file({}, path)])
def test_vectors_that_cannot_be_read_are_named(index, broken):
    path = index.folder / "vectors-1.safetensors"
    broken(path)
    manifest = json.loads((index.folder / MANIFEST).read_text())
    manifest["checksums"]["vectors"] = _checksum(path)
    (index.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="holds no readable vectors"):
        Index.open(index.folder)
