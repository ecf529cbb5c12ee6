"""Which chunks of a corpus answer a question: those it names, or all chunks of a document it names."""

from collections import defaultdict
from collections.abc import Sequence

from dataset_builders.schema import Chunk, QAPair


class GoldChunks:
    """Looks up the gold chunks of questions, by their positions in a corpus."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = {chunk.id: position for position, chunk in enumerate(chunks)}
        self._documents: dict[str, list[int]] = defaultdict(list)
        for position, chunk in enumerate(chunks):
            self._documents[chunk.document_id].append(position)

    def named(self, question: QAPair) -> list[int]:
        """Return the chunks that a question names themselves."""
        return [self._chunks[name] for name in question.gold_ids if name in self._chunks]

    def all(self, question: QAPair) -> list[int]:
        """Return the chunks that a question names, and every chunk of a document that it names."""
        documents = (self._documents.get(name, []) for name in question.gold_ids if name not in self._chunks)
        return self.named(question) + [position for document in documents for position in document]
