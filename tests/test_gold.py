"""Gold are the chunks that a question names, and all chunks of documents and sources that it names."""

import pytest

from dataset_builders.gold import GoldChunks
from dataset_builders.schema import QAPair
from tests.conftest import text

PLACES = [("1", "a", "a.md"), ("2", "b", "b.md"), ("3", "a", "a.md"), ("4", "c", "a"), ("c", "d", "d.md")]
GOLD = GoldChunks(*zip(*PLACES, strict=True))


@pytest.mark.parametrize(
    ("ids", "named", "every"),
    [
        (["2"], [1], [1]),
        (["3", "1"], [2, 0], [2, 0]),
        (["a"], [], [0, 2]),
        (["a", "2"], [1], [1, 0, 2]),
        (["a", "1", "a.md"], [0], [0, 2]),
        # A chunk's name goes before a document's, and that before a source's ("a" is one, too).
        (["c"], [4], [4]),
        (["a.md", "b"], [], [0, 2, 1]),
        (["nowhere"], [], []),
        ([], [], []),
    ],
)
def test_gold(ids, named, every):
    question = QAPair("q", [text("?")], ["x"], [], None, ids, "text")
    assert GOLD.named(question) == named and GOLD.all(question) == every
