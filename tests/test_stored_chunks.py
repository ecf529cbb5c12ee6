"""Chunks that stay in their file are those that are read at once, at any time, from any thread."""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nyx.records import Chunk, read_records, write_records
from nyx.stored_chunks import stored_chunks
from tests.conftest import text


def page(number):
    picture = {"type": "image", "image": random.Random(number).randbytes(1000)}
    return Chunk(str(number), f"d{number}", f"page {number}", [text(f"a {number}"), picture, text("b")])


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file of 60 chunks in groups of 5."""
    monkeypatch.setattr("nyx.records.BYTES_PER_GROUP", 5000)
    write_records(map(page, range(60)), tmp_path / "c.parquet")
    assert pq.ParquetFile(tmp_path / "c.parquet").num_row_groups == 12
    return tmp_path / "c.parquet"


def test_in_any_order_they_equal_those_that_are_read_at_once(path):
    stored, read = stored_chunks(path), list(read_records(Chunk, path))
    assert stored == read and read == stored
    for place in random.Random(0).choices(range(60), k=200):
        assert stored[place] == read[place] == page(place) and stored[place] != page(place + 1)


def test_each_of_several_threads_gets_its_own(path):
    stored, places = stored_chunks(path), random.Random(0).choices(range(60), k=2000)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: stored[place].content, places))
    assert found == [page(place).content for place in places]


def test_a_file_that_is_replaced_or_removed_is_read_on(path):
    stored = stored_chunks(path)
    write_records([page(99)], path)
    assert stored == [page(number) for number in range(60)] and stored_chunks(path) == [page(99)]
    path.unlink()
    assert stored[30] == page(30)


def test_a_missing_column_and_another_file_are_named(tmp_path, path):
    pq.write_table(pq.read_table(path).drop_columns(["source"]), tmp_path / "less.parquet")
    with pytest.raises(ValueError, match=r"less.parquet has columns .*Chunk needs \['source'\] too"):
        stored_chunks(tmp_path / "less.parquet")
    (tmp_path / "other.parquet").write_text("no Parquet")
    for name in ("other.parquet", "none.parquet"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as Parquet"):
            stored_chunks(tmp_path / name)


def test_what_is_no_content_is_named_when_it_is_asked_for(tmp_path):
    secret = {"type": "image", "text": None, "image": {"bytes": None, "path": "/etc/hostname"}}
    contents = [[{"type": "text", "text": "a", "image": None}], [secret], []]
    rows = [{"id": str(i), "document_id": "d", "source": "s", "content": each} for i, each in enumerate(contents)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    first, second, third = stored_chunks(tmp_path / "c.parquet")
    assert first.content == [text("a")]
    with pytest.raises(ValueError, match=r"c.parquet, row 1: The picture is '/etc/hostname'; expected a file's bytes"):
        second.content  # noqa: B018
    with pytest.raises(ValueError, match="row 2: Empty content"):
        third.content  # noqa: B018


def test_a_file_that_is_damaged_after_it_was_opened_is_named(path):
    stored = stored_chunks(path)
    os.truncate(path, 100)
    with pytest.raises(ValueError, match="c.parquet cannot be read as Parquet"):
        stored[59].content  # noqa: B018
