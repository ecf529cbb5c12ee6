"""The statistics of the benchmarks equal their closed forms, and those of speed run, tiny, to a table."""

import json
from multiprocessing import Pipe

import numpy as np
import pytest

from benchmarks import loss, search
from benchmarks.almanac import RETRIEVERS, mcnemar, score_seed, sign_test, train_seed
from benchmarks.pages import document_recall
from benchmarks.tables import speed_table
from benchmarks.textbooks import write_dataset
from dataset_builders.almanac import build
from dataset_builders.schema import Chunk, QAPair, read_records
from nyx import funnel
from tests.conftest import text

NAMES = [f"document {number}" for number in range(25)]


@pytest.mark.parametrize(("won", "lost", "p"), [(5, 0, 2 / 32), (3, 3, 1.0), (8, 2, 112 / 1024), (0, 0, 1.0)])
def test_sign_test(won, lost, p):
    assert sign_test(won, lost) == pytest.approx(p) == sign_test(lost, won)


def test_mcnemar_counts_pairs_that_differ():
    result = mcnemar([1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1])
    assert result == {"won": 2, "lost": 1, "p": 1.0}


def test_a_seed_of_the_almanac_trains_and_scores_every_retriever(tmp_path):
    build(
        tmp_path / "nyxqa",
        species={"train": 8, "validation": 4, "test": 4},
        triplets={"train": 16, "validation": 4, "test": 4},
    )
    counts = train_seed(tmp_path, 0, ["--max_steps", "1", "--per_device_train_batch_size", "4"])
    report = score_seed(tmp_path, counts)
    assert set(report["retrievers"]) == {"bm25", *RETRIEVERS}
    assert len(report["em"]["stage 2"]) == report["questions"] > 0


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


def test_the_loss_equals_sentence_transformers(capsys):
    loss.main(["--dry"])
    results = json.loads(capsys.readouterr().out)
    for products in results["products"].values():
        for name in ("rival against ours", "ours against float64"):
            assert max(products["8×32"][name].values()) < 1e-5
    assert "| Matryoshka loss and gradients, 8×32 × 64 | sentence-transformers" in speed_table({"loss": results})


def test_memory_is_what_a_loss_takes():
    here, there = Pipe()
    loss.peak("ours", 256, 8192, [64, 8], 0, there)
    similarities = 256 * 8192 * 4 / 2**20
    assert similarities <= here.recv() <= 16 * similarities


def test_search_is_measured_against_faiss(capsys, monkeypatch, model_folder):
    monkeypatch.setattr(funnel, "SMALL", 64 * 2000)
    search.main(["--dry", "--model", str(model_folder)])
    results = json.loads(capsys.readouterr().out)
    exact, coded = (results["sizes"][size]["ours"] for size in ("1000", "2000"))
    assert exact["recall@10"] == 1 and exact["plan"] == "every vector is compared"
    assert coded["recall@10"] >= 0.9 and coded["plan"]["prefix"] == 64
    assert results["all dimensions"]["largest difference of a cosine"] < 1e-5
    table = speed_table({"search": results})
    assert "| a single query, 2,000 pages | FAISS `IndexFlatIP`" in table
    assert "| memory and building, 1,000 pages |" in table


def test_what_was_not_measured_is_no_row():
    assert "sentence-transformers" not in speed_table({}) and speed_table({}).count("|") == 10
