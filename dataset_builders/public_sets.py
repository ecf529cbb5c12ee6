"""Public sets by their names on the Hub, as a dataset folder: which rows they have, and what becomes of a row.

Rows are streamed, from the Hub or from files; what cannot be used is told to `dropped`, with its reason.
"""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from datasets import load_dataset
from tqdm import tqdm

from dataset_builders.card import SPLITS
from dataset_builders.official import TRIPLET, nyxqa, triplet
from dataset_builders.public_multimodal import mme5, multimodalqa, scienceqa
from dataset_builders.public_text import Row, answered, bamboogle, hotpotqa, human_question, musique
from dataset_builders.schema import Chunk, Dropped, Example, QAPair
from nyx.records import record_writer


@dataclass(frozen=True)
class PublicSet:
    """Where a set lies, which columns its rows must have, and the function that makes records of one.

    `files` are read from a folder: JSON lines, compressed, or a JSON list. With `pictures` rows only name pictures,
    which lie in a folder.
    """

    records: Callable[..., Iterable[Any]]
    columns: tuple[str, ...]
    repository: str = ""
    config: str | None = None
    files: tuple[str, ...] = ()
    pictures: bool = False


def text_pair(row: Row) -> list[Example]:
    """Read a row of the authors' text pairs: `official.TRIPLET`, its pictures empty."""
    if row["qry_image_path"] or row["pos_image_path"] or any(row["neg_image_path"] or ()):
        raise ValueError("a text pair with pictures")
    return [triplet(row, Path())]


HOTPOT = ("id", "question", "answer", "type", "context", "supporting_facts")
MME5 = ("qry", "qry_image_path", "pos_text", "pos_image_path", "neg_text", "neg_image_path")
NYXQA = ("corpus.json", "{split}.json")
MMQA = ("MMQA_texts.jsonl.gz", "MMQA_tables.jsonl.gz", "MMQA_images.jsonl.gz", "MMQA_{split}.jsonl.gz")

PUBLIC_SETS = {
    "hotpotqa": PublicSet(hotpotqa, HOTPOT, "hotpotqa/hotpot_qa", "distractor"),
    "hotpotqa-fullwiki": PublicSet(hotpotqa, HOTPOT, "hotpotqa/hotpot_qa", "fullwiki"),
    "2wikimultihopqa": PublicSet(hotpotqa, HOTPOT, "framolfese/2WikiMultihopQA"),
    "musique": PublicSet(
        musique, ("id", "question", "answer", "answer_aliases", "answerable", "paragraphs"), "dgslibisey/MuSiQue"
    ),
    "bamboogle": PublicSet(bamboogle, ("Question", "Answer"), "chiayewken/bamboogle"),
    "scienceqa": PublicSet(
        scienceqa,
        ("image", "question", "hint", "choices", "answer", "subject", "lecture"),
        "derek-thomas/ScienceQA",
    ),
    "nyxqa": PublicSet(nyxqa, (), files=NYXQA, pictures=True),
    "multimodalqa": PublicSet(multimodalqa, (), files=MMQA, pictures=True),
    "mmeb": PublicSet(mme5, MME5, "intfloat/mmE5-MMEB-hardneg", pictures=True),
    "mme5-synthetic": PublicSet(mme5, MME5, "intfloat/mmE5-synthetic", "Retrieval", pictures=True),
    "nyx-t2t": PublicSet(text_pair, TRIPLET, "SnowNation/Nyx-T2T-Data", "hotpotqa"),
    "human-questions": PublicSet(human_question, ("question", "question_images", "options", "answer", "gold_doc_id")),
    "questions": PublicSet(answered, ("question", "answers")),
}
PLACES: dict[type, str] = {Chunk: "corpus", QAPair: "qa", Example: "triplets"}
BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}


def read_rows(public: PublicSet, split: str, source: str = "", config: str = "") -> Iterator[Row]:
    """Stream the rows of a split, from the set's repository, or from another one, a folder or a file as `source`.

    Raises `ValueError` when a needed `source` is missing, or holds other files.
    """
    if public.files:
        paths = [Path(source) / name.format(split={"validation": "dev"}.get(split, split)) for name in public.files]
        if missing := [path.name for path in paths if not path.is_file()]:
            raise ValueError(
                f"{source or 'The source'} lacks {', '.join(missing)}. Name the folder of the set's files."
            )
        return chain.from_iterable(map(_json_rows, paths))
    place, name = source or public.repository, config or public.config
    if not place:
        raise ValueError("This set lies in no repository. Name the file as its source.")
    if Path(place).is_file():
        kind = BUILDERS.get(Path(place).suffix)
        if kind is None:
            raise ValueError(f"{place} is none of {', '.join(BUILDERS)}.")
        if kind == "json":
            return _json_rows(Path(place))
        rows = load_dataset(kind, data_files=[place], split="train", streaming=True)
    else:
        rows = load_dataset(place, name, split=split, streaming=True)
    # Pictures stay bytes; rows of JSON have none, and no types before they are read.
    return iter(rows.decode(False) if rows.features else rows)


def _json_rows(path: Path) -> Iterator[Row]:
    """Read a list of rows, or a row a line; through Arrow a column of numbers, texts and lists would be texts.

    Raises `ValueError` for what is no JSON, or no row.
    """
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        begin = file.read(64).lstrip()[:1]
        file.seek(0)
        rows = _parsed(file.read(), str(path)) if begin == "[" else _lines(file, path)
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise ValueError(f"{path}, row {number} is {row!r:.50}; expected columns and their values.")
            yield row


def _lines(file: Iterable[str], path: Path) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _parsed(line, f"{path}, line {number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON: {error}.") from error


def records_by_row(
    rows: Iterable[Row], public: PublicSet, images: Path | None, dropped: Dropped
) -> Iterator[list[Any]]:
    """Yield the records of every row that can be used.

    Raises `ValueError` if a row lacks a column, or if there is no folder for pictures that rows name.
    """
    if public.pictures and images is None:
        raise ValueError("The rows only name their pictures. Say with `images` below which folder they lie.")
    for number, row in enumerate(rows):
        if missing := [name for name in public.columns if name not in row]:
            raise ValueError(f"Row {number} lacks {missing}; it has {sorted(row)}.")
        try:
            yield list(public.records(row, images) if public.pictures else public.records(row))
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # null, too, where a set has none
            dropped(f"row {number}", f"no {error}" if isinstance(error, KeyError) else str(error))


def each_once(groups: Iterable[Iterable[Any]]) -> Iterator[Any]:
    """Yield the records of all rows; a chunk that occurs in several rows comes once."""
    seen: set[str] = set()
    for record in chain.from_iterable(groups):
        if isinstance(record, Chunk):
            if record.id in seen:
                continue
            seen.add(record.id)
        yield record


def to_records(rows: Iterable[Row], public: PublicSet, images: Path | None, dropped: Dropped) -> Iterator[Any]:
    """Yield the records of every row, each chunk once (`records_by_row`)."""
    return each_once(records_by_row(rows, public, images, dropped))


def noting(dropped: Dropped, reasons: list[str]) -> Dropped:
    """Return `dropped` as it is, but that it also puts each reason down in `reasons`."""

    def told(row: str, reason: str) -> None:
        reasons.append(f"{row}: {reason}")
        dropped(row, reason)

    return told


def write_parts(records: Iterable[Any], folder: Path, split: str, reasons: Sequence[str] = ()) -> Counter[str]:
    """Write records of several kinds into a dataset folder, and return how many came into each of its parts.

    Each file appears whole, or, if anything fails, none does. Raises `ValueError` if there is no record, with the
    first of the `reasons` why rows were left out.
    """
    counts: Counter[str] = Counter()
    with ExitStack() as files:
        write: dict[type, Callable[[Any], None]] = {}
        for record in records:
            kind = type(record)
            if kind not in write:
                write[kind] = files.enter_context(record_writer(folder / PLACES[kind] / f"{split}.parquet", kind))
            write[kind](record)
            counts[PLACES[kind]] += 1
        if not counts:
            raise ValueError("; ".join(["No row can be used", *reasons[:1]]).rstrip(".") + ".")
    return counts


def convert(
    public: PublicSet,
    folder: Path,
    split: str,
    dropped: Dropped,
    *,
    source: str = "",
    config: str = "",
    images: Path | None = None,
    limit: int | None = None,
) -> Counter[str]:
    """Write a split's records into a dataset folder (`write_parts`).

    Raises `ValueError` if nothing can be used.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; expected one of {', '.join(SPLITS)}.")
    reasons: list[str] = []
    dropped = noting(dropped, reasons)
    rows = tqdm(islice(read_rows(public, split, source, config), limit), desc="rows")
    return write_parts(to_records(rows, public, images, dropped), folder, split, reasons)
