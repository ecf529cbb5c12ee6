"""Records come back from Parquet as they were written; files are whole or absent."""

import io

import datasets
import pytest
from PIL import Image

from dataset_builders.schema import Chunk, Example, QAPair, content_id, read_records, write_records
from modeling_nyx import load_image
from nyx.records import features
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


def test_ids_depend_on_content_and_order_alone():
    assert content_id([text("a"), png(1)]) == content_id([text("a"), png(1)])
    others = [[png(1), text("a")], [text("a")], [text("a"), png(2)], [text("b"), png(1)]]
    assert len({content_id(content) for content in [*others, [text("a"), png(1)]]}) == 5


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
