"""Feedback of the reader: which of the retrieved documents make it answer right (paper section 3.3)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dataset_builders.schema import Chunk, Example, QAPair
from nyx.metrics import accuracy, exact_match, token_f1
from nyx.reader import Prompt

Metric = Literal["em", "f1", "accuracy"]
METRICS = {"em": exact_match, "f1": token_f1, "accuracy": accuracy}


class Answerer(Protocol):
    """Whatever answers prompts in the order given, as `nyx.reader.Reader` does."""

    def answer(self, prompts: Sequence[Prompt], show_progress: bool = False) -> list[str]: ...


@dataclass(frozen=True)
class FeedbackRule:
    """How verdicts come about, and examples from verdicts.

    The reader sees windows of `window` documents, each starting `stride` further down the first `candidates`. A window
    passes if its answer scores at least `threshold`; with `argmax`, the best-scoring windows pass instead, if above 0.
    `all_windows=False` stops at a query's first passing window: its negatives are then all other candidates,
    unverified, as in the paper.
    """

    candidates: int = 8
    window: int = 1
    stride: int = 1
    metric: Metric = "em"
    threshold: float = 1.0
    argmax: bool = False
    all_windows: bool = True
    negatives: int = 7

    def __post_init__(self) -> None:
        if not (1 <= self.window <= self.candidates and self.stride >= 1 and self.negatives >= 1):
            raise ValueError(f"{self}: expected 1 ≤ window ≤ candidates, stride ≥ 1 and negatives ≥ 1.")
        if self.metric not in METRICS:
            raise ValueError(f"Unknown metric {self.metric!r}; expected one of {', '.join(METRICS)}.")
        if self.argmax and not self.all_windows:
            raise ValueError("argmax needs every window's score: set all_windows to true.")

    def starts(self, found: int) -> list[int]:
        """Return where windows start among `found` candidates; the last one is never left out."""
        last = max(found - self.window, 0)
        starts = list(range(0, last + 1, self.stride))
        return starts if starts[-1] == last else [*starts, last]

    def places(self, starts: Iterable[int]) -> set[int]:
        """Return the places in the ranking that windows cover."""
        return {place for start in starts for place in range(start, start + self.window)}


@dataclass
class FeedbackCounts:
    """What became of the queries: examples, or dropped for a reason."""

    kept: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, query: str) -> None:
        self.dropped.setdefault(reason, []).append(query)

    def __str__(self) -> str:
        reasons = ", ".join(f"{len(queries)} {reason}" for reason, queries in self.dropped.items())
        return f"{self.kept} examples; dropped: {reasons or 'none'}"


NO_PASS = "no window passed"
NO_NEGATIVE = "no document failed"


def collect(
    questions: Sequence[QAPair],
    rankings: Sequence[Sequence[str]],
    chunks: Sequence[Chunk],
    reader: Answerer,
    rule: FeedbackRule,
    counts: FeedbackCounts,
    show_progress: bool = False,
) -> Iterator[Example]:
    """Yield an example per question that the reader answers right from some window.

    `rankings` are the retriever's chunk ids, best first. Positives: the first document of the first passing window,
    then other passing windows' first documents. Negatives: candidates all of whose windows failed, best first.
    """
    content = {chunk.id: chunk.content for chunk in chunks}
    top = [list(ranked[: rule.candidates]) for ranked in rankings]
    scores = _read(questions, top, content, reader, rule, show_progress)
    for question, ranked, verdicts in zip(questions, top, scores, strict=True):
        positives, negatives = judge(ranked, verdicts, rule)
        if not positives or not negatives:
            counts.drop(NO_PASS if not positives else NO_NEGATIVE, question.id)
            continue
        counts.kept += 1
        yield Example(
            id=question.id,
            query=question.question,
            positives=[content[chunk] for chunk in positives],
            negatives=[content[chunk] for chunk in negatives],
            answers=question.answers,
        )


def judge(ranked: Sequence[str], scores: dict[int, float], rule: FeedbackRule) -> tuple[list[str], list[str]]:
    """Tell positives and negatives apart, from the score of each window by where it starts."""
    bar = rule.threshold
    if rule.argmax and scores:
        best = max(scores.values())
        bar = best if best > 0 else float("inf")
    passed = [start for start, score in sorted(scores.items()) if score >= bar]
    positives = list(dict.fromkeys(ranked[start] for start in passed))
    if not positives:
        return [], []
    if not rule.all_windows:
        return positives[:1], [chunk for chunk in ranked if chunk != positives[0]][: rule.negatives]
    helped, read = rule.places(passed), rule.places(scores)
    failed = [chunk for place, chunk in enumerate(ranked) if place in read - helped]
    return positives, failed[: rule.negatives]


def _read(
    questions: Sequence[QAPair],
    top: Sequence[Sequence[str]],
    content: dict[str, list],
    reader: Answerer,
    rule: FeedbackRule,
    show_progress: bool,
) -> list[dict[int, float]]:
    """Return each question's window scores; queries are read side by side, all at once or one window a round."""
    scores: list[dict[int, float]] = [{} for _ in questions]
    score = METRICS[rule.metric]
    windows = [(index, start) for index, ranked in enumerate(top) for start in rule.starts(len(ranked))]
    while windows:
        if rule.all_windows:
            batch = windows
        else:
            firsts: dict[int, tuple[int, int]] = {}
            for each in windows:
                firsts.setdefault(each[0], each)
            batch = list(firsts.values())
        prompts = [
            Prompt([content[chunk] for chunk in top[index][start : start + rule.window]], questions[index].question)
            for index, start in batch
        ]
        for (index, start), answer in zip(batch, reader.answer(prompts, show_progress=show_progress), strict=True):
            scores[index][start] = score(answer, questions[index].answers)
        passed = {index for index, start in batch if scores[index][start] >= rule.threshold}
        done = set(batch)
        windows = [each for each in windows if each not in done and not (each[0] in passed and not rule.all_windows)]
    return scores
