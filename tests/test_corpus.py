"""A corpus gives back what was written, from disk."""

import pytest

from dataset_builders.corpus import Corpus
from dataset_builders.schema import Chunk, QAPair, write_records
from nyx.records import image_bytes
from tests.conftest import colored, small_files, text


def chunks(count):
    for number in range(count):
        picture = {"type": "image", "image": image_bytes(colored(56, 56, number % 7))}
        yield Chunk(f"c{number}", f"d{number // 2}", "s", [text(f"before {number}"), picture, text("after")])


def test_contents_by_id_in_any_order(tmp_path):
    write_records(chunks(600), tmp_path / "c.parquet")
    corpus, expected = Corpus.open(tmp_path / "c.parquet"), {chunk.id: chunk for chunk in chunks(600)}
    wanted = ["c599", "c0", "c256", "c255", "c0"]
    assert corpus.contents(wanted) == [expected[each].content for each in wanted]
    assert corpus.ids == list(expected) and len(corpus) == 600 and corpus.documents["c5"] == "d2"
    assert [path.name for path in tmp_path.iterdir()] == ["c.parquet"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="No corpus at"):
        Corpus.open(tmp_path / "none.parquet")
    write_records([QAPair("q", [text("x")], ["y"], [], None, [], "text")], tmp_path / "q.parquet")
    with pytest.raises(ValueError, match="a corpus needs .*'document_id'"):
        Corpus.open(tmp_path / "q.parquet")


def test_a_full_disk_is_no_damaged_corpus(tmp_path):
    write_records([Chunk("1", "d", "s", [text("a" * 1000)])], tmp_path / "c.parquet")
    with pytest.raises(OSError, match="too large"), small_files(100):
        Corpus.open(tmp_path / "c.parquet")
