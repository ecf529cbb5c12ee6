"""What the filters are worth: plant known errors into good questions, and count what each filter catches and loses.

Planted are wrong answers (one of the question's own wrong options), answers from another document's question, marks of
pictures that are not there, and wordings that need the page. Good questions are taken as they are: what a filter
leaves out of them is its loss. Filters that ask the reader take part when there is one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from random import Random
from typing import Any
from urllib.parse import urlsplit

from dataset_builders.asking import Rejected
from dataset_builders.filters import RULES, Draft
from dataset_builders.pairs import check, modality_of, refine
from dataset_builders.questions import pictures_of, question_content
from dataset_builders.schema import Chunk, QAPair
from modeling_nyx.images_nyx import image_key
from nyx.conversations import Conversation
from nyx.metrics import normalize
from nyx.reader import Reader

GOOD = "good"
WRONG, ELSEWHERE, DANGLING, WORDING = "wrong answer", "answer from another page", "dangling picture", "needs the page"
PLANTS = (WRONG, ELSEWHERE, DANGLING, WORDING)
# The rules were not written from these alone: some of them they miss.
WORDINGS = (
    "According to the text, {q}",
    "In this document, {q}",
    "{Q} as described above?",
    "What does the author say about this: {q}",
    "Based on the passage you were given, {q}",
    "Going by what was just read, {q}",
    "{Q} in the story?",
    "From the information provided, {q}",
)
REFINEMENT, ANSWERABILITY = "refinement", "answerability"


@dataclass(frozen=True)
class Sample:
    """A question as a draft, what was planted into it, and the chunk it is about with all pictures it may show."""

    draft: Draft
    plant: str
    chunk: Chunk
    pictures: Sequence[Any]


@dataclass(frozen=True)
class Verdict:
    """Which filters would leave a sample out."""

    plant: str
    modality: str
    source: str
    filters: frozenset[str]


def samples(pairs: Sequence[QAPair], chunks: dict[str, Chunk], seed: int) -> Iterator[Sample]:
    """Yield every question as it is, and with each error that can be planted into it."""
    rng = Random(seed)
    for pair in pairs:
        chunk = chunks[pair.gold_ids[0]]
        draft, pictures = as_draft(pair, chunk)
        yield Sample(draft, GOOD, chunk, pictures)
        wrong = [option for place, option in enumerate(pair.options) if place != pair.correct_option]
        if wrong:
            yield Sample(replace(draft, answer=rng.choice(wrong)), WRONG, chunk, pictures)
        if others := [each for each in pairs if _is_elsewhere(each, pair, chunks)]:
            yield Sample(replace(draft, answer=rng.choice(others).answers[0]), ELSEWHERE, chunk, pictures)
        mark = f"<image{len(pictures) + rng.randint(1, 3)}>"
        yield Sample(replace(draft, question=f"In {mark}, {_lower(draft.question)}"), DANGLING, chunk, pictures)
        stem = draft.question.rstrip("?. ")
        worded = rng.choice(WORDINGS).format(q=_lower(draft.question), Q=stem)
        yield Sample(replace(draft, question=worded), WORDING, chunk, pictures)


def as_draft(pair: QAPair, chunk: Chunk) -> tuple[Draft, list[Any]]:
    """Spell a question with marks for its pictures: numbers of the chunk's, and further ones for its own."""
    pictures = pictures_of(chunk.content)
    keys = [image_key(picture) for picture in pictures]
    words = ""
    for item in pair.question:
        if item["type"] == "text":
            words += item["text"]
            continue
        key = image_key(item["image"])
        if key not in keys:
            keys.append(key)
            pictures.append(item["image"])
        words += f"<image{keys.index(key) + 1}>"
    return Draft(words, pair.answers[0], len(pictures)), pictures


def audit(found: Iterable[Sample], reader: Reader | None, show_progress: bool = False) -> Iterator[Verdict]:
    """Put every sample to every filter, each by itself."""
    if reader is None:
        return (_verdict(sample, _by_rules(sample)) for sample in found)
    return reader.converse((_by_reader(sample) for sample in found), show_progress=show_progress)


def _by_rules(sample: Sample) -> set[str]:
    return {name for name, rule in RULES.items() if rule(sample.draft)}


def _by_reader(sample: Sample) -> Conversation[Verdict]:
    caught, page = _by_rules(sample), sample.chunk.content
    try:
        yield from refine(page, sample.draft)
    except Rejected:
        caught.add(REFINEMENT)
    try:
        # A mark without a picture stays as it is: there is nothing to show.
        dangling = "pictures" in caught
        question = (
            [{"type": "text", "text": sample.draft.question}]
            if dangling
            else question_content(sample.draft.question, list(sample.pictures))
        )
        yield from check(page, question, [sample.draft.answer])
    except Rejected:
        caught.add(ANSWERABILITY)
    return _verdict(sample, caught)


def _verdict(sample: Sample, caught: set[str]) -> Verdict:
    return Verdict(sample.plant, modality_of(sample.chunk), origin(sample.chunk.source), frozenset(caught))


def origin(source: str) -> str:
    """Name the site of an address with the first two parts of its path, or the folder of a file."""
    url = urlsplit(source)
    if url.netloc:
        return "/".join([url.netloc, *PurePosixPath(url.path).parts[1:3]])
    return PurePosixPath(source).parent.as_posix()


def _is_elsewhere(other: QAPair, pair: QAPair, chunks: dict[str, Chunk]) -> bool:
    documents = (chunks[each.gold_ids[0]].document_id for each in (other, pair))
    return len(set(documents)) == 2 and normalize(other.answers[0]) != normalize(pair.answers[0])


def _lower(question: str) -> str:
    return question[:1].lower() + question[1:]


Table = dict[str, dict[str, tuple[int, int]]]


def summary(verdicts: Sequence[Verdict]) -> dict[str, Table]:
    """Count, for all and by modality and source: filter → what was planted → (caught, of so many)."""
    groups = {"all": {"all": list(verdicts)}, "modality": {}, "source": {}}  # type: dict[str, dict[str, list[Verdict]]]
    for verdict in verdicts:
        groups["modality"].setdefault(verdict.modality, []).append(verdict)
        groups["source"].setdefault(verdict.source, []).append(verdict)
    filters = sorted({name for verdict in verdicts for name in verdict.filters} | set(RULES))
    return {
        f"{kind}: {name}" if kind != "all" else "all": _table(group, filters)
        for kind, each in groups.items()
        for name, group in sorted(each.items())
    }


def _table(verdicts: Sequence[Verdict], filters: Sequence[str]) -> Table:
    totals = Counter(verdict.plant for verdict in verdicts)
    plants = [plant for plant in (GOOD, *PLANTS) if totals[plant]]
    caught = Counter((name, verdict.plant) for verdict in verdicts for name in verdict.filters)
    anything = Counter(verdict.plant for verdict in verdicts if verdict.filters)
    table = {name: {plant: (caught[name, plant], totals[plant]) for plant in plants} for name in filters}
    return table | {"any filter": {plant: (anything[plant], totals[plant]) for plant in plants}}
