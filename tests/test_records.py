"""Records come back from Parquet as they were written; files are whole or absent."""

import io
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import nyx.records
from dataset_builders.schema import Chunk, Example, QAPair, content_id, read_records, write_records
from modeling_nyx import load_image
from modeling_nyx.images_nyx import ORIENTATION
from nyx.records import features, open_parquet, write_dropped
from tests.conftest import colored, picture, text


def png(seed):
    buffer = io.BytesIO()
    colored(30, 30, seed).save(buffer, format="PNG")
    return {"type": "image", "image": buffer.getvalue()}


CHUNK = Chunk("1", "d", "pages/a.md", [text("a"), png(1), text("b"), png(2)])
PAIR = QAPair("2", [png(1), text("what?")], ["x", "y"], [], None, ["1"], "mixed", "picture name")
EXAMPLE = Example("3", [text("q")], [[png(1)], [text("p")]], [], ["x"])


@pytest.mark.parametrize("record", [CHUNK, PAIR, EXAMPLE], ids=lambda record: type(record).__name__)
def test_what_is_written_is_read(record, tmp_path):
    path = tmp_path / "a" / "records.parquet"
    assert write_records([record] * 300, path) == 300
    assert list(read_records(type(record), path)) == [record] * 300
    assert [each.name for each in path.parent.iterdir()] == ["records.parquet"]


def test_datasets_reads_the_same_features(tmp_path):
    write_records([PAIR], tmp_path / "qa.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "qa.parquet"), cache_dir=tmp_path / "c")[
        "train"
    ]
    assert loaded.features == features(QAPair)
    assert isinstance(loaded[0]["question"][0]["image"], Image.Image)


def test_a_pil_image_is_kept_pixel_by_pixel(tmp_path):
    write_records([Chunk("1", "d", "s", [picture(20, 30, 4)])], tmp_path / "c.parquet")
    (chunk,) = read_records(Chunk, tmp_path / "c.parquet")
    assert load_image(chunk.content[0]["image"]).tobytes() == colored(20, 30, 4).tobytes()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "PA", "L"])
def test_a_pil_image_is_kept_as_it_is_encoded(tmp_path, mode):
    image = colored(20, 30, 4).convert("P" if mode == "PA" else mode)
    image = image.convert("PA") if mode == "PA" else image
    image.getexif()[ORIENTATION] = 6
    write_records([Chunk("1", "d", "s", [{"type": "image", "image": image}])], tmp_path / "c.parquet")
    (chunk,) = read_records(Chunk, tmp_path / "c.parquet")
    kept = load_image(chunk.content[0]["image"])
    assert kept.size == (30, 20) and kept.tobytes() == load_image(image).tobytes()


def test_ids_depend_on_content_and_order_alone():
    assert content_id([text("a"), png(1)]) == content_id([text("a"), png(1)])
    others = [[png(1), text("a")], [text("a")], [text("a"), png(2)], [text("b"), png(1)]]
    assert len({content_id(content) for content in [*others, [text("a"), png(1)]]}) == 5


def test_large_pictures_lie_in_groups_that_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(nyx.records, "BYTES_PER_GROUP", 2500)
    chunks = [Chunk(str(i), "d", "s", [{"type": "image", "image": bytes(1000)}]) for i in range(7)]
    write_records(chunks, tmp_path / "c.parquet")
    file = pq.ParquetFile(tmp_path / "c.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [3, 3, 1]
    assert [batch.num_rows for batch in nyx.records.batches(file)] == [3, 3, 1]
    assert list(read_records(Chunk, tmp_path / "c.parquet")) == chunks


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.parquet"
    write_records([CHUNK], path)

    def broken():
        yield CHUNK
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_records(broken(), path)
    assert list(read_records(Chunk, path)) == [CHUNK] and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="No records to write"):
        write_records([], tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()


def test_a_missing_column_is_named(tmp_path):
    write_records([CHUNK], tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"QAPair needs \['answers'"):
        next(read_records(QAPair, tmp_path / "c.parquet"))


def rows(path, contents, ids):
    """Write chunks as somebody else might."""
    values = [
        {"id": name, "document_id": "d", "source": "s", "content": content}
        for name, content in zip(ids, contents, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(values), path)
    return path


def test_a_path_in_a_file_is_never_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(1)["image"])
    secret = str(tmp_path / "secret.png")
    pictures = [{"bytes": png(1)["image"], "path": None}, {"bytes": None, "path": secret}]
    contents = [[{"type": "image", "image": picture}] for picture in pictures]
    found = read_records(Chunk, rows(tmp_path / "c.parquet", contents, ["1", "2"]))
    assert next(found).content == [png(1)]
    with pytest.raises(ValueError, match=r"c.parquet, row 1: The picture is '/.*secret.png'; expected a file's bytes"):
        next(found)
    rows(tmp_path / "s.parquet", [[{"type": "image", "image": secret}]], ["1"])
    with pytest.raises(ValueError, match=r"s.parquet, row 0: The picture is '/.*secret.png'"):
        next(read_records(Chunk, tmp_path / "s.parquet"))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ([], "2", r"c.parquet, row 1: Empty content"),
        ([text("a")], None, r"c.parquet, row 1: The id is None"),
        ([text("a")], "", r"c.parquet, row 1: The id is ''"),
    ],
)
def test_a_bad_row_is_named(content, name, message, tmp_path):
    found = read_records(Chunk, rows(tmp_path / "c.parquet", [[text("a")], content], ["1", name]))
    assert next(found).id == "1"
    with pytest.raises(ValueError, match=message):
        next(found)


def test_ids_that_are_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="row 0: The id is 7"):
        next(read_records(Chunk, rows(tmp_path / "c.parquet", [[text("a")]], [7])))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "c.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="c.parquet cannot be read as Parquet: .*magic bytes"):
        next(read_records(Chunk, tmp_path / "c.parquet"))
    write_records([CHUNK] * 3000, tmp_path / "d.parquet")
    with open_parquet(tmp_path / "d.parquet") as file:
        column = file.metadata.row_group(0).column(0)
    data = bytearray((tmp_path / "d.parquet").read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    (tmp_path / "d.parquet").write_bytes(data)
    with pytest.raises(ValueError, match="d.parquet cannot be read as Parquet: "):
        list(read_records(Chunk, tmp_path / "d.parquet"))


def test_reasons_replace_those_of_an_earlier_run(tmp_path):
    path = tmp_path / "new" / "c.dropped.jsonl"
    write_dropped([{"source": "a", "reason": "é"}, {"source": "b", "reason": "x"}], path)
    assert [json.loads(line)["reason"] for line in path.read_text().splitlines()] == ["é", "x"]
    write_dropped([], path)
    assert list(path.parent.iterdir()) == []
