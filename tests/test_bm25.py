"""BM25 ranks by words; pictures play no part."""

import numpy as np
import pytest

from nyx.bm25 import BM25
from tests.conftest import picture, text

CORPUS = [
    [text("The moth Vela mirabilis lives by the salt marsh.")],
    [picture(56, 56, 1), text("Masca lunaris feeds on oak.")],
    [picture(56, 56, 2)],
]


def test_the_document_with_the_words_comes_first():
    positions, scores = BM25(CORPUS).search([[text("Where does Vela mirabilis live?")], [text("oak")]], 3)
    assert positions[:, 0].tolist() == [0, 1] and (scores[:, 0] > scores[:, 1]).all()
    assert positions.shape == (2, 3)


@pytest.mark.parametrize("documents", [[], [[picture(56, 56, 1)], [picture(56, 56, 2)]]])
def test_documents_without_words_are_ranked_by_position(documents):
    index = BM25(documents)
    positions, scores = index.search([[text("a word")]], 2)
    assert positions.tolist() == [list(range(len(documents)))] and not scores.any()
    assert np.array_equal(index.scores([[text("a word")]]), np.zeros((1, len(documents))))


def test_a_picture_alone_matches_nothing():
    positions, scores = BM25(CORPUS).search([[picture(56, 56, 2)]], 5)
    assert positions.shape == (1, 3) and (scores == 0).all()
