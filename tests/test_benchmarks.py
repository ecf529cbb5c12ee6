"""The statistics of the benchmarks equal their closed forms."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.almanac import mcnemar, sign_test
from benchmarks.pages import document_recall, read_questions
from nyx.records import Chunk
from tests.conftest import text


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


def test_questions_whose_text_is_in_the_corpus_are_left_out(tmp_path):
    rows = {
        "question": ["a", "b"],
        "gold_doc_id": ["1", "2"],
        "question_in_gold_doc": [False, True],
        "qclass": ["x", "x"],
    }
    pq.write_table(pa.table({**rows, "question_images": [[b"p"], []]}), tmp_path / "q.parquet")
    ((content, gold),) = read_questions(tmp_path / "q.parquet")
    assert gold == "1" and [item["type"] for item in content] == ["text", "image"]
