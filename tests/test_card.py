"""A dataset folder says what it holds: the `datasets` library loads it by its name alone, offline and streaming."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import yaml

from dataset_builders.almanac import build
from dataset_builders.card import CARD, RECORDS, fingerprints, write_card
from dataset_builders.schema import Chunk, Example, QAPair, features, read_records, write_records
from modeling_nyx import to_content

SIZES = {"train": 4, "validation": 3, "test": 3}
SCRIPT = """
import json, sys
from datasets import load_dataset
loaded = load_dataset(sys.argv[1])
streamed = load_dataset(sys.argv[1], "corpus", split="test", streaming=True).decode(False)
content = next(iter(streamed))["content"]
pictures = [item["image"]["bytes"][:3].hex() for item in content if item["type"] == "image"]
print(json.dumps({"rows": {split: each.num_rows for split, each in loaded.items()}, "pictures": pictures,
                  "columns": loaded["train"].column_names}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("nyxqa"), species=SIZES, triplets=dict.fromkeys(SIZES, 4))


def header(folder: Path) -> dict:
    return yaml.safe_load((folder / CARD).read_text().split("---")[1])


def test_without_a_name_the_questions_come_offline(folder, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    rows = {split: len(list(read_records(QAPair, folder / "qa" / f"{split}.parquet"))) for split in SIZES}
    assert found["rows"] == rows and found["columns"] == list(features(QAPair))
    assert found["pictures"] and set(found["pictures"]) == {"ffd8ff"}  # JPEG's first bytes


@pytest.mark.parametrize("config", ["corpus", "qa", "triplets"])
def test_every_config_streams_as_it_was_written(config, folder):
    for split in SIZES:
        stream = datasets.load_dataset(str(folder), config, split=split, streaming=True)
        assert stream.features == features(RECORDS[config])
        rows = list(stream.decode(False))
        records = list(read_records(RECORDS[config], folder / config / f"{split}.parquet"))
        assert [row["id"] for row in rows] == [record.id for record in records]
    name = {"corpus": "content", "qa": "question", "triplets": "query"}[config]
    assert [to_content(row[name]) for row in rows] == [getattr(record, name) for record in records]


def test_feedback_is_declared_once_it_is_there(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "nyxqa")
    assert [each["config_name"] for each in header(copy)["configs"]] == ["corpus", "qa", "triplets"]
    assert [each["config_name"] for each in header(copy)["configs"] if each.get("default")] == ["qa"]
    examples = list(read_records(Example, copy / "triplets" / "test.parquet"))
    write_records(examples, copy / "feedback" / "train.parquet")
    write_card(copy, "feedback", {"metric": "em"})
    assert header(copy)["configs"][-1] == {
        "config_name": "feedback",
        "data_files": [{"split": "train", "path": "feedback/train.parquet"}],
    }
    card = (copy / CARD).read_text()
    assert '| metric | `"em"` |' in card and "| seed | `0` |" in card
    loaded = datasets.load_dataset(str(copy), "feedback", cache_dir=tmp_path / "cache")
    assert {split: each.num_rows for split, each in loaded.items()} == {"train": len(examples)}


def test_building_again_notes_nothing_new(folder):
    card = (folder / CARD).read_text()
    build(folder, seed=7, species=SIZES, triplets=dict.fromkeys(SIZES, 4))
    assert (folder / CARD).read_text() == card


def test_fingerprints_are_those_of_the_content(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert fingerprints(copy) == fingerprints(folder) and set(fingerprints(folder)) == {"corpus", "qa", "triplets"}
    chunks = list(read_records(Chunk, copy / "corpus" / "test.parquet"))
    write_records(chunks[1:], copy / "corpus" / "test.parquet")
    differing = {name for name in RECORDS if fingerprints(copy).get(name) != fingerprints(folder).get(name)}
    assert differing == {"corpus"}


def test_a_folder_without_questions_is_refused(tmp_path):
    (tmp_path / "corpus").mkdir()
    with pytest.raises(ValueError, match=r"is no NyxQA folder: there is no qa/\{train,validation,test\}.parquet"):
        write_card(tmp_path)
    assert not (tmp_path / CARD).exists()
