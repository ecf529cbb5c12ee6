"""The records that pass between the steps; `nyx.records` keeps them in Parquet."""

from collections.abc import Callable
from dataclasses import dataclass, field

from modeling_nyx.content_nyx import Content
from nyx.records import Chunk, content_id, features, read_records, write_records

__all__ = [
    "Chunk",
    "Document",
    "Dropped",
    "Example",
    "Preference",
    "QAPair",
    "content_id",
    "features",
    "read_records",
    "write_records",
]

# Called with a document's id or source, and why something of it was left out.
Dropped = Callable[[str, str], None]


@dataclass(frozen=True)
class Document:
    """A whole page, before it is cut."""

    id: str
    content: Content
    source: str


@dataclass(frozen=True)
class QAPair:
    """A question and its answers; `gold_ids` are chunks, or documents or sources where that is all one knows."""

    id: str
    question: Content
    answers: list[str]
    options: list[str]
    correct_option: int | None
    gold_ids: list[str]
    modality: str
    kind: str = ""


@dataclass(frozen=True)
class Example:
    """A query with documents that fit and documents that don't."""

    id: str
    query: Content
    positives: list[Content]
    negatives: list[Content]
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Preference(Example):
    """An example from a reader's answers; `utilities`: how well it answered from each positive, then each negative."""

    utilities: list[float] = field(default_factory=list)
