"""Examples are read as they were written, a few at a time, and other files are named."""

from random import Random

import pyarrow as pa
import pytest

from dataset_builders.schema import Example, Preference, write_records
from tests.conftest import text
from train_scripts.data import Examples

MEGABYTE = 2**20


def example(number, size=100):
    picture = {"type": "image", "image": Random(number).randbytes(size)}
    return Example(str(number), [text(f"q {number}")], [[picture, text("a")]], [[text("b")]])


@pytest.fixture
def path(tmp_path):
    write_records(map(example, range(40)), tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def test_examples_are_read_as_they_were_written(path, tmp_path):
    found = Examples(path)
    assert [found[index] for index in range(len(found))] == [example(number) for number in range(40)]
    judged = Preference("1", [text("q")], [[text("a")]], [[text("b")]], utilities=[1.0, 0.0])
    write_records([judged], tmp_path / "feedback.parquet")
    assert Examples(tmp_path / "feedback.parquet")[0] == judged


def test_replay_adds_the_wanted_share(path, tmp_path):
    write_records(map(example, range(100, 105)), tmp_path / "few.parquet")
    few, many = Examples(tmp_path / "few.parquet"), Examples(path)
    mixed = few.mixed(many, 0.75, seed=0)
    assert len(few) == 5 and len(mixed) == 20
    ids = [mixed[index].id for index in range(20)]
    assert ids[:5] == [str(number) for number in range(100, 105)]
    assert len({*ids}) == 20 and {*ids[5:]} <= {str(number) for number in range(40)}


def test_pictures_are_not_in_memory_and_a_new_file_is_read(tmp_path):
    path, before = tmp_path / "train.parquet", pa.total_allocated_bytes()
    write_records((example(number, MEGABYTE) for number in range(16)), path)
    found = Examples(path)
    assert [found[index] for index in range(16)] == [example(number, MEGABYTE) for number in range(16)]
    assert pa.total_allocated_bytes() - before < MEGABYTE
    write_records([example(99)], path)
    assert Examples(path)[0] == example(99) and found[3] == example(3, MEGABYTE)


def test_what_cannot_be_read_is_named(path, tmp_path):
    with pytest.raises(ValueError, match="No examples at .*none.parquet"):
        Examples(tmp_path / "none.parquet")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no Parquet", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="train.parquet cannot be read"):
            Examples(path)
