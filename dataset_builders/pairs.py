"""One chunk's questions, from the first request to finished pairs: each step asks the reader, or filters."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dataset_builders.asking import NO_ANSWER, Rejected, asked, side_by_side
from dataset_builders.filters import ERRORS, RULES, Draft, reason_against
from dataset_builders.options import arrange, ask_options
from dataset_builders.prompts import PAIRS, ask_shorter
from dataset_builders.questions import CHUNK, PASSES, SHARES, ask_drafts, modality, pictures_of, question_content
from dataset_builders.schema import Chunk, QAPair, content_id
from dataset_builders.splits import SplitRule
from modeling_nyx.content_nyx import Content
from nyx.conversations import Conversation
from nyx.engines import Answer, ReaderError
from nyx.metrics import accuracy
from nyx.reader import Prompt, Reader

CHECK_TOKENS = 32

NO_QUESTION = "no question in the chunk"
SURPLUS = "more pairs than asked for"
NO_SHORT_ANSWER = "the reader finds no short answer, or no sense without the page"
NOT_ANSWERED = "the reader doesn't answer it from its chunk"
ANSWERED_ANYWAY = "the reader answers it without its chunk"


@dataclass(frozen=True)
class QARule:
    """How many chunks are asked about, in which proportions, whether the reader checks its questions, and splits."""

    chunks: int = 10_000
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))
    seed: int = 0
    # Keep only what the reader answers from the chunk, and doesn't without it.
    check: bool = False
    held_out: int = 200
    held_out_share: float = 0.1

    def splits(self) -> SplitRule:
        return SplitRule(self.held_out, self.held_out_share, self.seed)


@dataclass(frozen=True)
class Reject:
    """What was left out: at which step, why, and what it was. Without a question it is the whole chunk."""

    step: str
    reason: str
    detail: str
    chunk: str
    source: str
    modality: str
    question: str = ""
    answer: str = ""


Result = QAPair | Reject


def make_pairs(
    chunks: Iterable[Chunk], reader: Reader, rule: QARule, total: int | None = None, show_progress: bool = False
) -> Iterator[tuple[Chunk, list[Result]]]:
    """Yield each chunk with its questions and what was left out, in the chunks' order; they are asked side by side."""
    conversations = (_with(chunk, rule) for chunk in chunks)
    return reader.converse(conversations, show_progress=show_progress, total=total)


def _with(chunk: Chunk, rule: QARule) -> Conversation[tuple[Chunk, list[Result]]]:
    return chunk, (yield from chunk_pairs(chunk, rule))


def chunk_pairs(chunk: Chunk, rule: QARule) -> Conversation[list[Result]]:
    """Ask for a chunk's questions, and make of each a pair or a rejection."""
    asks = [_drafts(chunk, instruction, least) for instruction, least in PASSES[modality_of(chunk)]]
    found: list[Result] = []
    drafts: list[tuple[int, Draft]] = []
    for each in (yield from side_by_side(asks)):
        if isinstance(each, Reject):
            found.append(each)
        else:
            drafts += enumerate(each)
    finished = yield from side_by_side([_finish(chunk, draft, place, rule) for place, draft in drafts])
    return [*found, *finished]


def _drafts(chunk: Chunk, instruction: str, least: int) -> Conversation[list[Draft] | Reject]:
    try:
        drafts = yield from ask_drafts(chunk.content, instruction, least)
    except Rejected as rejected:
        return reject(chunk, rejected)
    return drafts or reject(chunk, Rejected(CHUNK, NO_QUESTION))


def _finish(chunk: Chunk, draft: Draft, place: int, rule: QARule) -> Conversation[Result]:
    """Take a draft, the `place`-th of one answer, through all steps."""
    try:
        if place >= PAIRS:
            raise Rejected("questions", SURPLUS)
        if reason := reason_against(draft, ERRORS):
            raise Rejected("filter", reason)
        draft = yield from refine(chunk.content, draft)
        wrong = yield from ask_options(chunk.content, draft)
        content = question_content(draft.question, pictures_of(chunk.content))
        if rule.check:
            yield from check(chunk.content, content, [draft.answer])
    except Rejected as rejected:
        return reject(chunk, rejected, draft)
    name = content_id([*content, {"type": "text", "text": draft.answer}])
    options, right = arrange(draft.answer, wrong, f"{rule.seed} {name}")
    kind = "several pictures" if draft.least > 1 else ""
    return QAPair(name, content, [draft.answer], options, right, [chunk.id], modality_of(chunk), kind)


def refine(page: Content, draft: Draft) -> Conversation[Draft]:
    """Let the reader shorten the answer. Raises `Rejected` if it drops the pair or the answer stays too long."""
    shorter = yield from asked(
        "refine", ask_shorter(page, draft.question, draft.answer), lambda value: value["answer"]
    )
    if not shorter.strip():
        raise Rejected("refine", NO_SHORT_ANSWER)
    refined = replace(draft, answer=shorter.strip())
    if reason := reason_against(refined, RULES):
        raise Rejected("refine", reason, f"shortened to {shorter!r:.200}")
    return refined


def check(page: Content, question: Content, answers: Sequence[str]) -> Conversation[None]:
    """Raises `Rejected` unless the reader answers the question from its page, and doesn't without it."""
    prompts = [Prompt([page], question), Prompt([], question)]
    came: list[Answer] = yield [prompt.request(CHECK_TOKENS) for prompt in prompts]
    for answer in came:
        if isinstance(answer, ReaderError):
            raise Rejected("check", NO_ANSWER, str(answer))
    with_page, without = map(str, came)
    if not accuracy(with_page, answers):
        raise Rejected("check", NOT_ANSWERED, f"it answers {with_page!r:.200}")
    if accuracy(without, answers):
        raise Rejected("check", ANSWERED_ANYWAY, f"it answers {without!r:.200}")


def reject(chunk: Chunk, rejected: Rejected, draft: Draft | None = None) -> Reject:
    """Note what is left out of a chunk."""
    words = {"question": draft.question, "answer": draft.answer} if draft else {}
    about = (chunk.id, chunk.source, modality_of(chunk))
    return Reject(rejected.step, rejected.reason, rejected.detail, *about, **words)


def modality_of(chunk: Chunk) -> str:
    return modality(len(pictures_of(chunk.content)))
