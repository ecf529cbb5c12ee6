"""The protocol: rank a benchmark's corpus for its questions, let a reader answer from the best documents, score.

Rankings stay on disk, answers in the reader's cache, so that a run that was killed goes on where it was; records are
made of both, and written whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from dataset_builders.candidates import Search, read_lines, retrieve
from dataset_builders.options import with_options
from dataset_builders.retrievers import Retriever
from dataset_builders.schema import QAPair
from evaluation.benchmark import Benchmark
from evaluation.records import Record, Records, records_path, slug, stem, write_table
from evaluation.scorers import score
from evaluation.systems import CONTROLS, open_system, system_facts
from modeling_nyx.content_nyx import IMAGE_MARK, Content
from nyx.engines import ReaderError, Request
from nyx.metrics import mrr, ndcg_at_k, recall_at_k
from nyx.models import shown
from nyx.ranking import best
from nyx.reader import Prompt, Reader

DEPTH = 100
Options = Literal["texts", "letters", "none"]


@dataclass(frozen=True)
class Settings:
    """What the figures depend on, besides retriever, reader and benchmark.

    `documents`: how many the reader is given, by the beginning of their source, each kind ranked by itself: `{"": 1}`
    is the best one of all, `{"lecture": 1, "example": 2}` ScienceQA's. None: the benchmark's own number.
    `words`: the longest that a prompt's documents may be together; what follows is cut off. 0: whole documents.
    `options`: how the reader is shown a question's options; `options_in_query`: whether the retriever is.
    """

    documents: dict[str, int] | None = None
    words: int = 0
    options: Options = "texts"
    options_in_query: bool = False

    def __post_init__(self) -> None:
        if self.options not in get_args(Options):
            raise ValueError(f"Options as {self.options!r}; expected one of {', '.join(get_args(Options))}.")
        if any(not 0 <= count <= DEPTH for count in (self.documents or {}).values()) or self.words < 0:
            raise ValueError(f"{self}: expected 0 to {DEPTH} documents, and words ≥ 0.")


class Evaluation:
    """One benchmark and its settings; what is found and answered is kept in a folder."""

    def __init__(self, benchmark: Benchmark, settings: Settings, folder: Path) -> None:
        self.benchmark, self.settings, self.folder = benchmark, settings, folder
        self.documents = benchmark.documents if settings.documents is None else settings.documents

    def run(self, system: str, readers: dict[str, Reader]) -> Iterator[Records]:
        """Rank by a system, and let every reader (by the name the user gave it) answer; none: rank alone.

        Yields the records of each as they are written.
        """
        rankings = self.rankings(system)
        for name, reader in readers.items() or [("", None)]:
            about = self.about(system, name, reader)
            rows = self.ranked(rankings)
            if reader is not None:
                self.answer(rows, rankings, reader)
            records = Records(about, rows)
            write_table(records, records_path(self.folder, about))
            yield records

    def about(self, system: str, name: str, reader: Reader | None) -> dict[str, Any]:
        """Say what records depend on."""
        read = {**asdict(self.settings), "documents": self.documents} if reader is not None else {}
        return {
            **self._of_benchmark(),
            **system_facts(system),
            "reader": shown(name),
            "engine": reader.engine.identity if reader is not None else "",
            "scorer": self.benchmark.scorer,
            "settings": read | {"options_in_query": self.settings.options_in_query},
        }

    def _of_benchmark(self) -> dict[str, str]:
        benchmark = self.benchmark
        return {"benchmark": benchmark.name, "split": benchmark.split, "data": benchmark.revision}

    def rankings(self, system: str) -> dict[str, list[dict[str, Any]]]:
        """Return each question's `candidates`, chunk ids, and their `scores`, best first; by source, "" for all."""
        if system in CONTROLS:
            return {source: self._controlled(system, source) for source in ("", *self.documents)}
        opened: list[Retriever] = []

        def retriever() -> Retriever:
            if not opened:
                opened.append(open_system(system, self.benchmark.corpus))
            return opened[0]

        return {source: self._retrieved(system, source, retriever) for source in ("", *self.documents)}

    def _controlled(self, system: str, source: str) -> list[dict[str, Any]]:
        chunks = list(self._places_from(source))
        ids = [CONTROLS[system](self.benchmark, place, chunks) for place in range(len(self.benchmark.questions))]
        return [{"candidates": ranking, "scores": [0.0] * len(ranking)} for ranking in ids]

    def _places_from(self, source: str) -> dict[str, int]:
        """Return the chunks whose source begins so, and their places in the corpus."""
        corpus = self.benchmark.corpus
        return {
            chunk: place
            for place, (chunk, each) in enumerate(zip(corpus.ids, corpus.sources, strict=True))
            if each.startswith(source)
        }

    def _retrieved(self, system: str, source: str, retriever: Any) -> list[dict[str, Any]]:
        about = {
            **self._of_benchmark(),
            **system_facts(system),
            "options_in_query": self.settings.options_in_query,
            "source": source,
        }
        benchmark, chosen = self.benchmark, self._places_from(source)
        if not chosen:
            raise ValueError(f"No chunk of {benchmark.name} has a source that begins with {source!r}.")
        path = self.folder / "rankings" / slug(f"{benchmark.name}-{benchmark.split}")
        path /= f"{stem([about['retriever']], about)}.jsonl"
        queries = ((question.id, self.query(question)) for question in benchmark.questions)

        def load() -> Search:
            places, scores = np.array(list(chosen.values())), retriever().scores
            return lambda contents: best(scores(contents)[:, places], DEPTH)

        retrieve(path, about, queries, list(chosen), load, len(benchmark.questions))
        return list(read_lines(path))

    def query(self, question: QAPair) -> Content:
        """Return what is searched for."""
        return with_options(question) if self.settings.options_in_query else question.question

    def ranked(self, rankings: dict[str, list[dict[str, Any]]]) -> list[Record]:
        """Score what was found."""
        rows = []
        for question, gold, found in zip(self.benchmark.questions, self.benchmark.gold, rankings[""], strict=True):
            ids = found["candidates"]
            rank = next((place for place, chunk in enumerate(ids, 1) if chunk in gold), None)
            row = Record(question.id, question.kind, question.modality, gold, ids, found["scores"], rank)
            if gold:  # else nothing is known of what should be found
                row.scores |= {f"recall@{k}": recall_at_k(ids, gold, k) for k in (1, 5)}
                row.scores |= {"mrr": mrr(ids, gold), "ndcg@10": ndcg_at_k(ids, gold, 10)}
            rows.append(row)
        return rows

    def answer(self, rows: Sequence[Record], rankings: dict[str, list[dict[str, Any]]], reader: Reader) -> None:
        """Let the reader answer, and score what it says; no answer counts as a wrong one."""
        for place, row in enumerate(rows):
            row.documents = [
                chunk
                for source, count in self.documents.items()
                for chunk in rankings[source][place]["candidates"][:count]
            ]
        questions = self.benchmark.questions
        asked = ((question, row) for question, row in zip(questions, rows, strict=True))
        requests = (self.prompt(question, row.documents).request(reader.max_new_tokens) for question, row in asked)
        answers = reader.complete(_noted(requests, rows), show_progress=True, total=len(rows))
        for question, row, answer in zip(questions, rows, answers, strict=True):
            if isinstance(answer, ReaderError):
                row.unanswered = str(answer)
            else:
                row.answer = answer
            row.scores |= self.score(question, row.answer or "")

    def prompt(self, question: QAPair, documents: Sequence[str]) -> Prompt:
        """Return what the reader is asked."""
        contents, options = self.benchmark.corpus.contents(documents), self.settings.options
        if self.settings.words:
            contents = list(cut(contents, self.settings.words))
        choices = question.options if options != "none" else ()
        return Prompt(contents, question.question, choices, letters=options == "letters")

    def score(self, question: QAPair, answer: str) -> dict[str, float]:
        """Score an answer: by the options, if the reader was shown some."""
        if question.correct_option is not None and self.settings.options != "none":
            right = question.options[question.correct_option]
            return score(self.benchmark.scorer or "choice", answer, [right], question.options)
        name = self.benchmark.scorer
        return score(name if name and name != "choice" else "squad", answer, question.answers)


def _noted(requests: Iterator[Request], rows: Sequence[Record]) -> Iterator[Request]:
    """Note what is asked, pictures marked, and pass it on."""
    for request, row in zip(requests, rows, strict=True):
        items = (item["text"] if item["type"] == "text" else IMAGE_MARK for item in request.content)
        row.prompt = f"{request.system}\n\n{''.join(items)}"
        yield request


def cut(documents: Sequence[Content], words: int) -> Iterator[Content]:
    """Yield documents in order until so many words have come; pictures count none, and are kept up to there."""
    left = words
    for document in documents:
        kept: Content = []
        for item in document:
            if left <= 0:
                break
            if item["type"] == "text":
                found = item["text"].split()
                item = item if len(found) <= left else {"type": "text", "text": " ".join(found[:left])}
                left -= len(found)
            kept.append(item)
        if kept:
            yield kept


def parse_documents(spelled: str) -> dict[str, int]:
    """Read `3`, or `lecture=1,example=2`: how many documents, by the beginning of their source."""
    found = {}
    for part in spelled.split(","):
        source, _, count = part.rpartition("=")
        if not count.strip().isdecimal():
            raise ValueError(f"Documents {spelled!r}: expected a number, or SOURCE=NUMBER with commas between.")
        found[source.strip()] = int(count)
    return found
