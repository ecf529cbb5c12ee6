"""The authors' layout of NyxQA and of their text pairs: rows ↔ our records.

    python -m dataset_builders.official NyxQA/ nyxqa/

A document or question is a text with `<|image|>` marks and the names of its pictures. Rows come from JSON files, or
from `load_dataset("SnowNation/Nyx-T2T-Data", "hotpotqa", split="train")`. A row that cannot be used is left out and
told to `dropped`, with its reason; a picture outside the picture folder is never read.
"""

import argparse
import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from dataset_builders.card import write_card
from dataset_builders.public_multimodal import picture
from dataset_builders.schema import Chunk, Dropped, Example, QAPair, content_id, write_records
from modeling_nyx import to_content
from modeling_nyx.content_nyx import IMAGE_MARK, Content
from nyx.errors import plain_errors
from nyx.records import image_bytes

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]

CORPUS = ("text", "images")
QUESTION = ("qry", "qry_image_path", "ans", "pos_text", "pos_image_path", "choices", "right_choice")
TRIPLET = ("qry", "qry_image_path", "pos_text", "pos_image_path", "neg_text", "neg_image_path", "ans")
# Where the picture folder lies for some of the authors' scripts; part of the names in `train_hardneg.json`.
PREFIX = re.compile(r"\A(\.\./NyxQA/images/|images/NyxQA/)")
FILES = {"train": "train.json", "validation": "dev.json", "test": "test.json"}


def read_corpus(rows: Iterable[Row], images: Path, dropped: Dropped) -> Iterator[Chunk]:
    """Read `corpus.json`'s rows as chunks, each a document of its own; the same content twice is one chunk."""
    seen: set[str] = set()

    def once(row: Row, source: str) -> Chunk:
        found = chunk(row, images, source)
        if found.id in seen:
            raise ValueError(f"chunk {found.id} came before")
        seen.add(found.id)
        return found

    return _read(rows, CORPUS, once, dropped)


def read_questions(rows: Iterable[Row], images: Path, dropped: Dropped) -> Iterator[QAPair]:
    """Read questions; the gold chunk's id is that which `read_corpus` gives the same content."""
    return _read(rows, QUESTION, lambda row, _: question(row, images), dropped)


def nyxqa(row: Row, images: Path) -> list[Chunk | QAPair]:
    """Read a row of `corpus.json`, or of a file of questions. Raises `ValueError` if it cannot be used."""
    return [question(row, images) if "qry" in row else chunk(row, images, "NyxQA")]


def chunk(row: Row, images: Path, source: str) -> Chunk:
    """Read a row of `corpus.json`: a document of its own. Raises `ValueError` if it cannot be used."""
    content = _content(row["text"], row["images"], images)
    key = content_id(content)
    return Chunk(id=key, document_id=key, source=source, content=content)


def question(row: Row, images: Path) -> QAPair:
    """Read a question with its options. Raises `ValueError` if it cannot be used."""
    asked = _content(row["qry"], row["qry_image_path"], images)
    gold = _content(row["pos_text"], row["pos_image_path"], images)
    answer, choices, right = _text(row["ans"]), [_text(choice) for choice in row["choices"]], row["right_choice"]
    if not 0 <= right < len(choices):
        raise ValueError(f"right_choice is {right}, but there are {len(choices)} choices")
    return QAPair(
        id=_id(asked, [answer], gold),
        question=asked,
        answers=list(dict.fromkeys([answer, choices[right]])),
        options=choices,
        correct_option=right,
        gold_ids=[content_id(gold)],
        modality="mixed" if any(item["type"] == "image" for item in [*asked, *gold]) else "text",
    )


def read_triplets(rows: Iterable[Row], images: Path, dropped: Dropped) -> Iterator[Example]:
    """Read `train_hardneg.json`'s rows, or the text pairs': a query, its document, hard negatives.

    An example has the id of the question that `read_questions` makes of the same row.
    """

    return _read(rows, TRIPLET, lambda row, _: triplet(row, images), dropped)


def triplet(row: Row, images: Path) -> Example:
    """Read one such row. Raises `ValueError` if it cannot be used."""
    query = _content(row["qry"], row["qry_image_path"], images)
    positive = _content(row["pos_text"], row["pos_image_path"], images)
    texts = row["neg_text"] or []
    # The text pairs may leave the list empty instead of giving every text an empty one.
    pictures = row["neg_image_path"] or [[] for _ in texts]
    if len(texts) != len(pictures):
        raise ValueError(f"{len(texts)} neg_text but {len(pictures)} neg_image_path")
    answers = [_text(answer) for answer in (row["ans"] if isinstance(row["ans"], list) else [row["ans"]])]
    return Example(
        id=_id(query, answers, positive),
        query=query,
        positives=[positive],
        negatives=[_content(text, names, images) for text, names in zip(texts, pictures, strict=True)],
        answers=answers,
    )


def corpus_rows(chunks: Iterable[Chunk], images: Path) -> Iterator[dict[str, Any]]:
    """Write chunks as rows of `corpus.json`. Pictures that are not files below `images` are written there."""
    for chunk in chunks:
        text, names = _marked(chunk.content, images)
        yield {"text": text, "images": names}


def question_rows(
    pairs: Iterable[QAPair], chunks: Iterable[Chunk], images: Path, examples: Iterable[Example] = ()
) -> Iterator[dict[str, Any]]:
    """Write questions as rows, with the negatives of the example that has a question's id, if there is one.

    Of several answers and gold chunks a row holds the first.
    """
    contents = {chunk.id: chunk.content for chunk in chunks}
    negatives = {example.id: example.negatives for example in examples}
    for pair in pairs:
        asked, gold = _marked(pair.question, images), _marked(contents[pair.gold_ids[0]], images)
        row = {
            "qry": asked[0],
            "ans": pair.answers[0],
            "pos_text": gold[0],
            "pos_image_path": gold[1],
            "qry_image_path": asked[1],
            "img_num": len(gold[1]),
            "choices": pair.options,
            "right_choice": pair.correct_option,
        }
        if pair.id in negatives:
            marked = [_marked(negative, images) for negative in negatives[pair.id]]
            row |= {"neg_text": [text for text, _ in marked], "neg_image_path": [names for _, names in marked]}
        yield row


def triplet_rows(examples: Iterable[Example], images: Path) -> Iterator[dict[str, Any]]:
    """Write examples as rows of the text pairs; of several positives a row holds the first.

    Negatives that are all text have one empty list of pictures together.
    """
    for example in examples:
        query, positive = _marked(example.query, images), _marked(example.positives[0], images)
        negatives = [_marked(negative, images) for negative in example.negatives]
        yield {
            "qry": query[0],
            "qry_image_path": query[1],
            "pos_text": positive[0],
            "pos_image_path": positive[1],
            "neg_text": [text for text, _ in negatives],
            "neg_image_path": [names for _, names in negatives] if any(names for _, names in negatives) else [],
            "ans": example.answers,
        }


def _read(rows: Iterable[Row], columns: Sequence[str], make: Callable[[Row, str], Any], dropped: Dropped) -> Iterator:
    """Make a record of every row, or say why not. Raises `ValueError` if a row lacks a column."""
    for index, row in enumerate(rows):
        if missing := [name for name in columns if name not in row]:
            raise ValueError(f"Row {index} lacks {missing}; it has {sorted(row)}. Expected {', '.join(columns)}.")
        try:
            record = make(row, f"row {index}")
        except (ValueError, TypeError) as error:
            dropped(f"row {index}", str(error))
            continue
        yield record


def _content(text: str, names: Sequence[str] | None, images: Path) -> Content:
    """Put pictures where the marks are. Raises `ValueError` where they differ in number, or a picture is unusable."""
    paths = [picture(images, PREFIX.sub("", name)) for name in names or ()]
    return to_content({"text": text, "images": paths})


def _text(value: Any) -> str:
    """Spell an answer, which may be a number. Raises `ValueError` for anything else."""
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r:.50} is neither a text nor a number")
    return str(value)


def _marked(content: Content, images: Path) -> tuple[str, list[str]]:
    """Return the text with marks, and the pictures' names below `images`. Raises `ValueError` for a mark in a text."""
    parts, names = [], []
    for item in content:
        if item["type"] == "text" and IMAGE_MARK in item["text"]:
            raise ValueError(f"A text holds {IMAGE_MARK} itself: {item['text']!r:.100}. It would stand for a picture.")
        parts.append(item["text"] if item["type"] == "text" else IMAGE_MARK)
        names += [_name(item["image"], images)] if item["type"] == "image" else []
    return "".join(parts), names


def _name(image: Any, images: Path) -> str:
    """Name a picture: by its place below `images`, or by its content after writing it there."""
    if isinstance(image, (str, os.PathLike)) and Path(image).resolve().is_relative_to(images.resolve()):
        return Path(image).resolve().relative_to(images.resolve()).as_posix()
    data = image_bytes(image)
    with Image.open(io.BytesIO(data)) as opened:
        name = f"{hashlib.sha256(data).hexdigest()[:24]}.{str(opened.format).lower()}"
    images.mkdir(parents=True, exist_ok=True)
    aside = images / f".{name}.partial"
    aside.write_bytes(data)
    aside.replace(images / name)
    return name


def _id(query: Content, answers: Sequence[str], document: Content) -> str:
    return content_id([*query, *({"type": "text", "text": answer} for answer in answers), *document])


def convert(source: Path, folder: Path, dropped: Dropped) -> Path:
    """Write the authors' files below `source` as a dataset folder; their one corpus serves every split."""

    def load(name: str) -> tuple[list[Row], Path, Dropped]:
        rows = json.loads((source / name).read_text(encoding="utf-8"))
        return rows, source / "images", lambda row, reason: dropped(f"{name}, {row}", reason)

    chunks = list(read_corpus(*load("corpus.json")))
    known = {chunk.id for chunk in chunks}
    first = folder / "corpus" / "train.parquet"
    write_records(chunks, first)
    for split, name in FILES.items():
        if split != "train":
            (folder / "corpus" / f"{split}.parquet").unlink(missing_ok=True)
            os.link(first, folder / "corpus" / f"{split}.parquet")
        pairs = list(read_questions(*load(name)))
        for pair in pairs:
            if pair.gold_ids[0] not in known:
                dropped(f"{name}, question {pair.id}", "its document is not in corpus.json")
        write_records((pair for pair in pairs if pair.gold_ids[0] in known), folder / "qa" / f"{split}.parquet")
    write_records(read_triplets(*load("train_hardneg.json")), folder / "triplets" / "train.parquet")
    write_card(
        folder, "NyxQA of the paper's authors", {"files": ["corpus.json", *FILES.values(), "train_hardneg.json"]}
    )
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of corpus.json, train.json, …, and images/")
    parser.add_argument("folder", type=Path, help="dataset folder to write")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    left_out: list[dict[str, str]] = []
    convert(args.source, args.folder, lambda row, reason: left_out.append({"row": row, "reason": reason}))
    beside = args.folder / "dropped.jsonl"
    beside.write_text("".join(json.dumps(each) + "\n" for each in left_out))
    logger.info("%d rows left out%s → %s", len(left_out), f", see {beside}" if left_out else "", args.folder)


if __name__ == "__main__":
    with plain_errors():
        main()
