"""Which chunks of a corpus answer a question: those it names, or all chunks of a document or page it names."""

from collections import defaultdict
from collections.abc import Sequence

from dataset_builders.schema import QAPair


class GoldChunks:
    """Looks up the gold chunks of questions, by their positions in a corpus.

    `ids` are the chunks', `documents` the ids of their documents, and `sources` what those were read from, as a
    person who writes questions knows them (`guide/moths.md`); all in the same order.
    """

    def __init__(self, ids: Sequence[str], documents: Sequence[str], sources: Sequence[str]) -> None:
        self._chunks = {chunk: position for position, chunk in enumerate(ids)}
        self._documents, self._sources = _places(documents), _places(sources)

    def named(self, question: QAPair) -> list[int]:
        """Return the chunks that a question names themselves."""
        return [self._chunks[name] for name in question.gold_ids if name in self._chunks]

    def all(self, question: QAPair) -> list[int]:
        """Return the chunks that a question names, then all of a document or source that it names; each once."""
        names = (name for name in question.gold_ids if name not in self._chunks)
        wholes = (self._documents.get(name) or self._sources.get(name, []) for name in names)
        return list(dict.fromkeys([*self.named(question), *(position for whole in wholes for position in whole)]))


def _places(names: Sequence[str]) -> dict[str, list[int]]:
    places = defaultdict(list)
    for position, name in enumerate(names):
        places[name].append(position)
    return dict(places)
