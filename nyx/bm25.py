"""BM25 over the words of content, pictures ignored: the baseline that every retriever is held against."""

from collections.abc import Sequence

import numpy as np

from modeling_nyx.content_nyx import Content, text_of

try:
    import bm25s
except ImportError as error:
    raise ImportError("BM25 needs bm25s: pip install 'nyx-retriever[data]'") from error


class BM25:
    """An index over the texts of contents; `search` gives positions in the order they came."""

    def __init__(self, contents: Sequence[Content]) -> None:
        self.size = len(contents)
        self._index = bm25s.BM25()
        tokens = self._tokens(contents)
        self._has_words = any(tokens)
        if self._has_words:
            self._index.index(tokens, show_progress=False)

    def search(self, queries: Sequence[Content], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and scores of the best k, each (queries, k).

        Without words, be it a query's or all of the documents', the ranking is by position.
        """
        k = min(k, self.size)
        if not self._has_words:
            return np.tile(np.arange(k), (len(queries), 1)), np.zeros((len(queries), k), dtype=np.float32)
        return tuple(self._index.retrieve(self._tokens(queries), k=k, show_progress=False, sorted=True))

    def scores(self, queries: Sequence[Content]) -> np.ndarray:
        """Return every document's score, (queries, documents)."""
        if not self._has_words:
            return np.zeros((len(queries), self.size), dtype=np.float32)
        rows = [self._index.get_scores(words) if words else np.zeros(self.size) for words in self._tokens(queries)]
        return np.array(rows, dtype=np.float32).reshape(len(queries), self.size)

    @staticmethod
    def _tokens(contents: Sequence[Content]) -> list[list[str]]:
        texts = [text_of(content) for content in contents]
        return bm25s.tokenize(texts, stopwords=None, return_ids=False, show_progress=False)
