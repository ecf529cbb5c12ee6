"""What the page offers: a library, perhaps a second retriever to compare with, perhaps a reader; with examples."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataset_builders.schema import QAPair
from library import Library, Retriever, Told
from modeling_nyx.content_nyx import Content
from nyx.engines import ReaderError
from nyx.index import Hit
from nyx.metrics import exact_match
from nyx.reader import Prompt, Reader

logger = logging.getLogger(__name__)

TRIED = 60  # questions that are looked at for examples
EXAMPLES = 5
DOCUMENTS = 3  # that the reader is given unless told otherwise


@dataclass
class Desk:
    """All of it is shared by the visitors; what is one visitor's own is kept in their session."""

    library: Library
    rival: Retriever | None = None
    reader: Reader | None = None
    reader_name: str = ""
    # Why there is no reader, though one was named.
    reader_error: str = ""
    card: str = ""
    _other: Library | None = None
    _embedding: threading.Lock = field(default_factory=threading.Lock)
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def other(self, told: Told) -> Library:
        """Return the library as the second retriever embeds it, which it does when it is first asked for."""
        assert self.rival is not None
        with self._embedding:
            if self._other is None:
                self._other = self.rival.read(self.library.index.chunks, told)
            return self._other

    def answer(self, question: Content, documents: Sequence[Hit]) -> tuple[str, float]:
        """Let the reader answer from documents; returns the answer and the seconds it took.

        Raises `ValueError` (`ReaderError`) for what it cannot read, `ConnectionError` for a server that is away.
        """
        assert self.reader is not None
        started = time.perf_counter()
        with self._reading:
            prompt = Prompt([hit.content for hit in documents], question, fenced=True)
            (answer,) = self.reader.answer([prompt])
        return answer, time.perf_counter() - started


def working_examples(desk: Desk, questions: Iterable[QAPair]) -> list[QAPair]:
    """Choose questions whose page comes first and, if there is a reader, that are answered right; of each kind one."""
    found: dict[str, QAPair] = {}
    for number, pair in enumerate(questions):
        if number == TRIED or len(found) == EXAMPLES:
            break
        if pair.kind in found:
            continue
        hits, _ = desk.library.search(desk.library.embed(pair.question)[0], DOCUMENTS, desk.library.dims[0])
        if hits[0].id not in pair.gold_ids:
            continue
        try:
            if desk.reader is None or exact_match(desk.answer(pair.question, hits)[0], pair.answers):
                found[pair.kind] = pair
        except ReaderError as error:
            logger.warning("No example: %s", error)
    return list(found.values())


def read_card(model: str) -> str:
    """Return the model's card without its header: the one in its folder, or the checkout's."""
    places = (Path(model) / "README.md", Path(__file__).parents[1] / "MODEL_CARD.md")
    text = next((place.read_text() for place in places if place.is_file()), "")
    return text.split("---", 2)[2].strip() if text.startswith("---") else text
