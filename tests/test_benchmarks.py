"""The statistics of the benchmarks equal their closed forms."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import encode, gpu, train_step
from benchmarks.almanac import mcnemar, sign_test
from benchmarks.encode import as_files, repeated
from benchmarks.encode_case import documents, write_checkpoint
from benchmarks.pages import document_recall
from benchmarks.textbooks import write_dataset
from dataset_builders.schema import Chunk, QAPair, read_records
from modeling_nyx import NyxModel
from nyx.records import content_id
from tests.conftest import text

NAMES = [f"document {number}" for number in range(25)]


@pytest.mark.parametrize(("won", "lost", "p"), [(5, 0, 2 / 32), (3, 3, 1.0), (8, 2, 112 / 1024), (0, 0, 1.0)])
def test_sign_test(won, lost, p):
    assert sign_test(won, lost) == pytest.approx(p) == sign_test(lost, won)


def test_mcnemar_counts_pairs_that_differ():
    result = mcnemar([1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1])
    assert result == {"won": 2, "lost": 1, "p": 1.0}


def test_a_documents_rank_is_its_best_chunks():
    chunks = [Chunk(str(i), document, "s", [text("x")]) for i, document in enumerate("aabc")]
    positions = np.array([[0, 1, 3, 2], [2, 3, 0, 1]])
    assert document_recall(positions, chunks, ["c", "b"]) == {"recall@1": 0.5, "recall@10": 1.0}


def test_questions_are_split_by_the_document_they_are_about(tmp_path):
    chunks = [Chunk(f"{name}{part}", name, "s", [text(f"{name} {part}")]) for name in NAMES for part in "ab"]
    questions = [
        QAPair(f"{name}{i}", [text(name)], ["x"], [], None, [name], "text") for name in NAMES[:20] for i in (0, 1)
    ]
    counts = write_dataset(tmp_path, chunks, questions, seed=1)
    assert counts == {"train": 28, "validation": 4, "test": 8}
    about = {split: _gold_documents(tmp_path / "qa" / f"{split}.parquet") for split in counts}
    assert set.union(*about.values()) == set(NAMES[:20]) and sum(map(len, about.values())) == 20
    corpora = {split: _documents(tmp_path / "corpus" / f"{split}.parquet") for split in counts}
    assert corpora["train"] == set(NAMES) - about["validation"] - about["test"]
    assert corpora["validation"] == about["validation"] and corpora["test"] == set(NAMES)


def _gold_documents(path):
    return {question.gold_ids[0] for question in read_records(QAPair, path)}


def _documents(path):
    return {chunk.document_id for chunk in read_records(Chunk, path)}


def test_a_training_step_is_timed_and_weighed(capsys):
    train_step.main(["--dry"])
    results = json.loads(capsys.readouterr().out)
    assert results["contents"] == 12 and results["patches"] > 0
    for vision in ("trained", "frozen"):
        assert results["steps"][vision]["ours"]["median seconds"] > 0
        weighed = results["memory"][vision]["ours"]["2"]
        assert 50 < weighed["before"] < weighed["peak"]


def test_examples_of_a_batch_are_all_different():
    batch = train_step.triplets(6)
    contents = [content for each in batch for content in (each.query, *each.positives, *each.negatives)]
    assert len({content_id(content) for content in contents}) == 18
    pictures = [item["image"] for content in contents for item in content if item["type"] == "image"]
    assert len(set(pictures)) == len(pictures) > 18


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs the train extra")
def test_what_a_gpu_would_measure_runs_on_a_cpu(capsys):
    """All of it: encoding beside transformers, steps with the cache and without, a launch under ZeRO-2."""
    gpu.main(["--dry"])
    results = json.loads(capsys.readouterr().out)
    encode = results["encode"]
    assert encode["ours"]["least cosine with the same content alone"] > 0.9999
    assert encode["least cosine with transformers"] > 0.999
    assert all(each["median seconds"] > 0 for each in results["stage 1 step"].values())
    assert results["ZeRO-2"]["processes"] == results["ZeRO-2"]["steps"] == 2


def test_encoding_is_measured_without_a_rival_too(tmp_path):
    encode.main(["--dry", "--rounds", "1", "--threads", "1", "--output", str(tmp_path / "encode.json")])
    report = json.loads((tmp_path / "encode.json").read_text())
    assert report["ours, together against alone"] == 0 and report["documents"] == 6
    assert report["documents per second"] == pytest.approx(6 / report["parts"]["encode"]["median"], rel=0.01)
    curves = report["documents per second against"]
    assert set(curves) == {"documents", "words per document", "pictures per document", "processes"}
    assert (tmp_path / "encode.png").stat().st_size > 1000


def test_linear_work_is_counted_from_the_shapes(tmp_path):
    model = NyxModel.from_pretrained(write_checkpoint(tmp_path / "model", tiny=True))
    rows = model.processor.rows(documents(2, pictures=1))
    tokens, patches = sum(len(row.ids) for row in rows), sum(h * w for row in rows for h, w in row.grids)
    written = 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 128)
    seen = 1176 * 32 + 2 * (32 * (96 + 32) + 3 * 32 * 64)
    merged = 128 * (128 + 64)
    assert encode.linear_flops(model, rows) == 2 * (tokens * written + patches * seen + patches // 4 * merged)


def test_repeated_pictures_are_few(tmp_path):
    contents = repeated(documents(5, pictures=2), 3)
    files = as_files(contents, tmp_path / "files")
    paths = [item["image"] for content in files for item in content if item["type"] == "image"]
    assert len(paths) == 10 and len(set(paths)) == 3
