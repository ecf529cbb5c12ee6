"""Gold are the chunks that a question names, and all chunks of documents that it names."""

import pytest

from dataset_builders.gold import GoldChunks
from dataset_builders.schema import QAPair
from tests.conftest import text

PLACES = [("1", "a"), ("2", "b"), ("3", "a"), ("4", "c"), ("c", "d")]
GOLD = GoldChunks([name for name, _ in PLACES], [document for _, document in PLACES])


@pytest.mark.parametrize(
    ("ids", "named", "every"),
    [
        (["2"], [1], [1]),
        (["3", "1"], [2, 0], [2, 0]),
        (["a"], [], [0, 2]),
        (["a", "2"], [1], [1, 0, 2]),
        # A chunk's name goes before a document's.
        (["c"], [4], [4]),
        (["nowhere"], [], []),
        ([], [], []),
    ],
)
def test_gold(ids, named, every):
    question = QAPair("q", [text("?")], ["x"], [], None, ids, "text")
    assert GOLD.named(question) == named and GOLD.all(question) == every
