"""Which chunks of a corpus answer a question: those it names, or all chunks of a document it names."""

from collections import defaultdict
from collections.abc import Sequence

from dataset_builders.schema import QAPair


class GoldChunks:
    """Looks up the gold chunks of questions, by their positions in a corpus.

    `ids` are the chunks', `documents` the ids of their documents, in the same order.
    """

    def __init__(self, ids: Sequence[str], documents: Sequence[str]) -> None:
        self._chunks = {chunk: position for position, chunk in enumerate(ids)}
        self._documents: dict[str, list[int]] = defaultdict(list)
        for position, document in enumerate(documents):
            self._documents[document].append(position)

    def named(self, question: QAPair) -> list[int]:
        """Return the chunks that a question names themselves."""
        return [self._chunks[name] for name in question.gold_ids if name in self._chunks]

    def all(self, question: QAPair) -> list[int]:
        """Return the chunks that a question names, and every chunk of a document that it names."""
        documents = (self._documents.get(name, []) for name in question.gold_ids if name not in self._chunks)
        return self.named(question) + [position for document in documents for position in document]
