"""Split questions by the document they are about, so that no document is in two splits."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dataset_builders.questions import shuffled

HELD_OUT = ("test", "validation")


@dataclass(frozen=True)
class Place:
    """What the split of a question depends on."""

    id: str
    document_id: str
    modality: str


@dataclass(frozen=True)
class SplitRule:
    """How many questions of each modality validation and test get, and at most which share of that modality's."""

    count: int = 200
    share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 <= self.share <= 0.5:
            raise ValueError(f"{self}: expected count ≥ 0 and 0 ≤ share ≤ 0.5.")


def split_documents(places: Sequence[Place], rule: SplitRule) -> dict[str, str]:
    """Give every document its split.

    Validation and test take whole documents by chance, those of the rarest modality first, until they have the
    questions they need; neither takes more than a quarter of all documents, and with fewer than three all train.
    """
    totals = Counter(place.modality for place in places)
    have: dict[str, Counter[str]] = defaultdict(Counter)
    for place in places:
        have[place.document_id][place.modality] += 1
    order = shuffled(have, rule.seed)
    split = dict.fromkeys(order, "train")
    most = len(order) // 4 if len(order) > 3 else len(order) // 3
    for name in HELD_OUT:
        got: Counter[str] = Counter()
        taken = 0
        for kind in sorted(totals, key=lambda kind: (totals[kind], kind)):
            need = wanted(totals[kind], rule)
            for document in order:
                if got[kind] >= need or taken == most:
                    break
                if split[document] == "train" and have[document][kind]:
                    split[document] = name
                    got += have[document]
                    taken += 1
    return split


def split_questions(places: Sequence[Place], documents: dict[str, str], rule: SplitRule) -> dict[str, str]:
    """Give questions their document's split; what validation and test don't need of theirs is in no split."""
    totals = Counter(place.modality for place in places)
    by_id = {place.id: place for place in places}
    got: Counter[tuple[str, str]] = Counter()
    split = {}
    for name in shuffled(by_id, rule.seed):
        place = by_id[name]
        key = (documents[place.document_id], place.modality)
        if key[0] == "train" or got[key] < wanted(totals[place.modality], rule):
            got[key] += 1
            split[name] = key[0]
    seen = {(by_id[name].document_id, each) for name, each in split.items()}
    assert len(seen) == len({document for document, _ in seen}), "A document is in two splits."
    return split


def wanted(total: int, rule: SplitRule) -> int:
    """Return how many questions of a modality validation and test each get, of so many there are."""
    return min(rule.count, math.ceil(total * rule.share))
