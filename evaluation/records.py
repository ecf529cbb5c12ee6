"""What happened to each question, in Parquet: a file a combination of retriever, reader, benchmark and settings."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nyx.records import open_parquet

FOLDER = "records"
ABOUT = b"nyx.evaluation"
RETRIEVAL = ("recall@1", "recall@5", "mrr", "ndcg@10")
ANSWERS = ("em", "f1", "accuracy")
SCORES = (*RETRIEVAL, *ANSWERS)

_WORDS = pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("modality", pa.string()),
        ("gold", _WORDS),
        ("ranking", _WORDS),
        ("ranking_scores", pa.list_(pa.float32())),
        ("rank", pa.int32()),
        ("documents", _WORDS),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("unanswered", pa.string()),
        ("scores", pa.struct([(name, pa.float64()) for name in SCORES])),
    ]
)


@dataclass
class Record:
    """One question.

    `ranking`: chunk ids, best first, with their scores; `rank`: the first gold one's, from 1; `documents`: the ids of
    those given to the reader; `prompt`: what it read, pictures marked; `unanswered`: why there is no answer.
    `scores`: by the names in `SCORES`, those that there are.
    """

    id: str
    kind: str
    modality: str
    gold: list[str]
    ranking: list[str]
    ranking_scores: list[float]
    rank: int | None = None
    documents: list[str] = field(default_factory=list)
    prompt: str | None = None
    answer: str | None = None
    unanswered: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Records:
    """A file of them, and what it is about: whatever they depend on."""

    about: dict[str, Any]
    rows: list[Record]

    def scores(self, name: str) -> dict[str, float]:
        """Return one score, by question; questions that have none are left out."""
        return {row.id: row.scores[name] for row in self.rows if name in row.scores}


def records_path(folder: Path, about: dict[str, Any]) -> Path:
    """Return where records about this lie: other settings, another file."""
    names = [about["retriever"], about["reader"]] if about["reader"] else [about["retriever"]]
    return folder / FOLDER / slug(f"{about['benchmark']}-{about['split']}") / f"{stem(names, about)}.parquet"


def stem(names: Iterable[str], about: dict[str, Any]) -> str:
    """Name a file after what it is of, and after a hash of all it depends on."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    return f"{'--'.join(map(slug, names))}-{digest}"


def slug(name: str) -> str:
    return re.sub(r"[^\w.@-]+", "-", name).strip(".-")[-60:] or "unnamed"


def write_table(records: Records, path: Path) -> None:
    """Write records; the file appears whole or not at all, and is the same for the same records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = SCHEMA.with_metadata({ABOUT: json.dumps(records.about, sort_keys=True)})
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in records.rows], schema=schema), aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_table(path: Path) -> Records:
    """Read what `write_table` wrote. Raises `ValueError` for any other file."""
    with open_parquet(path) as file:
        about = (file.schema_arrow.metadata or {}).get(ABOUT)
        if about is None:
            raise ValueError(f"{path} holds no records of an evaluation. Name a folder that `nyx evaluate` wrote.")
        rows = file.read().to_pylist()
    for row in rows:
        row["scores"] = {name: value for name, value in row["scores"].items() if value is not None}
    return Records(json.loads(about), [Record(**row) for row in rows])


def read_all(folder: Path) -> list[Records]:
    """Read every file of records in a folder, as they were evaluated. Raises `ValueError` if there is none."""
    paths = sorted((folder / FOLDER).glob("*/*.parquet"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    found = [read_table(path) for path in paths]
    if not found:
        raise ValueError(f"{folder} has no records. Run `nyx evaluate … -o {folder}` first.")
    return found
