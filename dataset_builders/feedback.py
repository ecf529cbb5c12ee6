"""Feedback of the reader: which of the retrieved documents make it answer right (paper section 3.3)."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dataset_builders.corpus import Corpus
from dataset_builders.feedback_statistics import FeedbackStatistics
from dataset_builders.options import with_options
from dataset_builders.schema import Preference, QAPair
from modeling_nyx.content_nyx import Content
from nyx.conversations import Conversation
from nyx.engines import ReaderError
from nyx.metrics import accuracy, exact_match, mean, token_f1
from nyx.reader import Prompt, Reader

Metric = Callable[[str, Sequence[str]], float]
# By name; "option" compares with the correct option instead of the answers, and shows the options to retriever and
# reader.
METRICS: dict[str, Metric] = {"em": exact_match, "f1": token_f1, "accuracy": accuracy, "option": exact_match}


@dataclass(frozen=True)
class FeedbackRule:
    """How verdicts come about, and examples from verdicts.

    The reader sees windows of `window` documents, each starting `stride` further down the first `candidates`. A window
    passes if its answer scores at least `threshold`; with `argmax`, the best-scoring windows pass instead, if above 0.
    `metric` is a name or a function of the answer and the right ones. `all_windows=False` stops at a query's first
    passing window: its negatives are then all other candidates, unverified, as in the paper.
    """

    candidates: int = 8
    window: int = 1
    stride: int = 1
    metric: str | Metric = "em"
    threshold: float = 1.0
    argmax: bool = False
    all_windows: bool = True
    negatives: int = 7

    def __post_init__(self) -> None:
        if not (1 <= self.window <= self.candidates and self.stride >= 1 and self.negatives >= 1):
            raise ValueError(f"{self}: expected 1 ≤ window ≤ candidates, stride ≥ 1 and negatives ≥ 1.")
        if not callable(self.metric) and self.metric not in METRICS:
            raise ValueError(f"Unknown metric {self.metric!r}; expected one of {', '.join(METRICS)}.")
        if self.argmax and not self.all_windows:
            raise ValueError("argmax needs every window's score: set all_windows to true.")

    @property
    def score(self) -> Metric:
        return METRICS[self.metric] if isinstance(self.metric, str) else self.metric

    def golds(self, pair: QAPair) -> list[str]:
        """Return what an answer is compared with; nothing, if the question has none of that sort."""
        if self.metric != "option":
            return pair.answers
        return [] if pair.correct_option is None else pair.options[pair.correct_option : pair.correct_option + 1]

    def query(self, pair: QAPair) -> Content:
        """Return what is searched for: the question, and its options if one of them is the answer (paper's form)."""
        return with_options(pair) if self.metric == "option" else pair.question

    def starts(self, found: int) -> list[int]:
        """Return where windows start among `found` candidates; the last one is never left out."""
        last = max(found - self.window, 0)
        starts = list(range(0, last + 1, self.stride))
        return starts if starts[-1] == last else [*starts, last]

    def places(self, starts: Iterable[int]) -> set[int]:
        """Return the places in the ranking that windows cover."""
        return {place for start in starts for place in range(start, start + self.window)}

    def passed(self, scores: dict[int, float]) -> list[int]:
        """Return where the windows start that passed."""
        bar = self.threshold
        if self.argmax and scores:
            best = max(scores.values())
            bar = best if best > 0 else float("inf")
        return [start for start, score in sorted(scores.items()) if score >= bar]


@dataclass(frozen=True)
class Verdict:
    """A reader's scores of a question's windows, by where they start, and why others have none."""

    id: str
    scores: dict[int, float] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> "Verdict":
        """Read the JSON of one, whose keys are strings."""
        found = json.loads(line)
        scores, unread = ({int(start): each for start, each in found[name].items()} for name in ("scores", "unread"))
        return cls(found["id"], scores, unread)


# A question, its candidates' ids, best first, and one verdict a reader.
Judged = tuple[QAPair, Sequence[str], Sequence[Verdict]]

NO_GOLD = "nothing to compare an answer with"
NO_PASS = "no window passed"
NO_NEGATIVE = "no document failed"
NOT_READ = "no window was read"


def read(
    asked: Iterable[tuple[QAPair, Sequence[str]]],
    corpus: Corpus,
    reader: Reader,
    rule: FeedbackRule,
    total: int | None = None,
) -> Iterator[tuple[QAPair, Sequence[str], Verdict]]:
    """Let a reader answer every question from the windows of its candidates (chunk ids, best first).

    Questions are read side by side, and come out in their order, with a progress bar if `total` is given.
    """
    conversations = (_hear(pair, ranked, corpus, reader.max_new_tokens, rule) for pair, ranked in asked)
    return reader.converse(conversations, show_progress=total is not None, total=total)


def _hear(
    pair: QAPair, ranked: Sequence[str], corpus: Corpus, max_tokens: int, rule: FeedbackRule
) -> Conversation[tuple[QAPair, Sequence[str], Verdict]]:
    """Ask about all windows together, or about one after the other until one passes."""
    verdict, golds, score = Verdict(pair.id), rule.golds(pair), rule.score
    starts = rule.starts(len(ranked)) if golds else []
    options = pair.options if rule.metric == "option" else ()
    for together in [starts] if rule.all_windows else [[start] for start in starts]:
        prompts = [
            Prompt(corpus.contents(ranked[start : start + rule.window]), pair.question, options) for start in together
        ]
        answers = yield [prompt.request(max_tokens) for prompt in prompts]
        for start, answer in zip(together, answers, strict=True):
            if isinstance(answer, ReaderError):
                verdict.unread[start] = str(answer)
            else:
                verdict.scores[start] = score(answer, golds)
        if not rule.all_windows and rule.passed(verdict.scores):
            break
    return pair, ranked, verdict


def judge(
    ranked: Sequence[str], scores: Sequence[dict[int, float]], rule: FeedbackRule
) -> tuple[list[str], list[str]]:
    """Tell positives and negatives apart, from each reader's scores of the windows by where they start.

    Positives: the first document of each window that passed, those that most readers passed first, then by rank.
    Negatives: documents that were read, and from no window of which any reader answered right, best first.
    """
    votes = Counter(start for each in scores for start in rule.passed(each))
    positives = list(dict.fromkeys(ranked[start] for start in sorted(votes, key=lambda start: (-votes[start], start))))
    if not positives:
        return [], []
    if not rule.all_windows:
        return positives, [chunk for chunk in ranked if chunk not in positives][: rule.negatives]
    failed = rule.places(start for each in scores for start in each) - rule.places(votes)
    return positives, [chunk for place, chunk in enumerate(ranked) if place in failed][: rule.negatives]


def collect(
    judged: Iterable[Judged],
    corpus: Corpus,
    rule: FeedbackRule,
    statistics: FeedbackStatistics,
    dropped: Callable[[str, str], None],
) -> Iterator[Preference]:
    """Yield an example per question that a reader answers right from some window, with its query's options if any.

    Questions without an example go to `dropped(id, reason)`.
    """
    for pair, ranked, readers in judged:
        _note(statistics, readers, rule)
        positives, negatives = judge(ranked, [verdict.scores for verdict in readers], rule)
        if not positives or not negatives:
            reason = _reason(pair, readers, bool(positives), rule)
            statistics.dropped[reason] += 1
            why = next((why for verdict in readers for why in verdict.unread.values()), "")
            dropped(pair.id, f"{reason}: {why}" if reason == NOT_READ else reason)
            continue
        statistics.examples += 1
        if pair.gold_ids:
            statistics.gold_known += 1
            statistics.not_gold += not {positives[0], corpus.documents[positives[0]]} & set(pair.gold_ids)
        places = [ranked.index(chunk) for chunk in (*positives, *negatives)]
        found = corpus.contents([*positives, *negatives])
        yield Preference(
            id=pair.id,
            query=rule.query(pair),
            positives=found[: len(positives)],
            negatives=found[len(positives) :],
            answers=rule.golds(pair),
            utilities=[utility(place, [verdict.scores for verdict in readers], rule) for place in places],
        )


def utility(place: int, scores: Sequence[dict[int, float]], rule: FeedbackRule) -> float:
    """Return the best score of a window that holds the document at this place of the ranking, averaged over readers.

    A document that a reader didn't read has no use for it: 0.
    """
    held = range(place - rule.window + 1, place + 1)
    return mean([max((each[start] for start in held if start in each), default=0.0) for each in scores])


def _note(statistics: FeedbackStatistics, verdicts: Sequence[Verdict], rule: FeedbackRule) -> None:
    """Count one question's windows."""
    passed = [rule.passed(verdict.scores) for verdict in verdicts]
    statistics.questions += 1
    statistics.windows += sum(len(verdict.scores) for verdict in verdicts)
    statistics.passed += sum(map(len, passed))
    for verdict in verdicts:
        for why in verdict.unread.values():
            statistics.unread[re.sub(r"\d+", "N", why)[:200]] += 1
    if any(passed):
        statistics.first_passing_rank[1 + min(starts[0] for starts in passed if starts)] += 1


def _reason(pair: QAPair, readers: Sequence[Verdict], passed: bool, rule: FeedbackRule) -> str:
    if not rule.golds(pair):
        return NO_GOLD
    if not any(verdict.scores for verdict in readers):
        return NOT_READ
    return NO_NEGATIVE if passed else NO_PASS
