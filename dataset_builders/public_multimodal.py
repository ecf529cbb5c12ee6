"""Public sets that mix texts and pictures: one function a shape of row, which gives the row's records.

Each raises `ValueError` with the reason for a row that cannot be used. Pictures that rows only name lie below a
folder; nothing outside of it is read.
"""

from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset_builders.public_text import Record, Row, asked, inline, passage
from dataset_builders.schema import Chunk, Example, content_id
from modeling_nyx import to_content
from modeling_nyx.content_nyx import Content
from modeling_nyx.images_nyx import image_size

# How mmE5's rows mark their one picture.
MARK = "<|image_1|>"


def scienceqa(row: Row) -> list[Record]:
    """Read a row of ScienceQA: the lecture, where there is one, is the document.

    `image`, `question`, `hint` (asked with it), `choices`, `answer` (which of them), `subject` (the kind), `lecture`.
    """
    lectures = scienceqa_lecture(row)
    gold = [lecture.id for lecture in lectures]
    answer = _chosen(row)
    return [*lectures, asked(_science_question(row), [answer], gold, kind=row["subject"], options=row["choices"])]


def scienceqa_lecture(row: Row) -> list[Chunk]:
    """Read the lecture of a row of ScienceQA, a chunk whose source is `lecture`, if there is one."""
    lecture = (row["lecture"] or "").strip()
    return [_alone("lecture", to_content(lecture))] if lecture else []


def scienceqa_example(row: Row) -> list[Chunk]:
    """Read a row of ScienceQA as documents: its lecture, and, solved, itself, a chunk whose source is `example`."""
    solved = f"\nChoices: {', '.join(row['choices'])}\nAnswer: {_chosen(row)}\n{row['solution'] or ''}".rstrip()
    return [*scienceqa_lecture(row), _alone("example", to_content([*_science_question(row), solved]))]


def _alone(source: str, content: Content) -> Chunk:
    key = content_id(content)
    return Chunk(key, document_id=key, source=source, content=content)


def _science_question(row: Row) -> Content:
    pictures = [inline(row["image"])] if row["image"] is not None else []
    return to_content([*pictures, f"{row['hint'] or ''}\n{row['question']}".strip()])


def _chosen(row: Row) -> str:
    if not 0 <= row["answer"] < len(row["choices"]):
        raise ValueError(f"answer {row['answer']} of {len(row['choices'])} choices")
    return row["choices"][row["answer"]]


def multimodalqa(row: Row, images: Path) -> list[Record]:
    """Read a row of one of MultimodalQA's four files. Chunks keep the set's ids as their documents'.

    Questions: `qid`, `question`, `answers` (`answer`), `metadata` (`type`, `modalities`), `supporting_context`
    (`doc_id`). Texts: `id`, `title`, `text`. Tables: `id`, `title`, `table` (`table_name`, `header` of `column_name`,
    `table_rows` of `text`). Pictures: `id`, `title`, `path`.
    """
    if "qid" in row:
        about = row["metadata"]
        answers = [str(each["answer"]) for each in row["answers"]]
        gold = [each["doc_id"] for each in row["supporting_context"]]
        mixed = "image" in about["modalities"]
        return [asked(to_content(row["question"]), answers, gold, name=row["qid"], kind=about["type"], mixed=mixed)]
    if "table" in row:
        content = passage(row["title"], linearised(row["table"])).content
    elif "path" in row:
        content = to_content([f"{row['title']}\n", picture(images, row["path"])])
    else:
        content = passage(row["title"], row["text"]).content
    return [Chunk(content_id(content), document_id=row["id"], source=row["title"], content=content)]


def linearised(table: Row) -> str:
    """Write a table as lines: its name, its columns' names, and its rows, cells parted by ` | `."""
    rows = [[cell["text"] for cell in row] for row in table["table_rows"]]
    lines = [[table["table_name"]], [column["column_name"] for column in table["header"]], *rows]
    return "\n".join(" | ".join(" ".join(cell.split()) for cell in line) for line in lines).strip()


def mme5(row: Row, images: Path) -> list[Example]:
    """Read a row of MMEB with mmE5's hard negatives, or of mmE5's synthetic data.

    `qry`, `qry_image_path`, `pos_text`, `pos_image_path`, `neg_text`, `neg_image_path`: paths are empty where there is
    no picture; the last two are aligned lists, or their spelling in Python. The query holds its own instruction.
    """
    query = marked(row["qry"], row["qry_image_path"], images)
    positive = marked(row["pos_text"], row["pos_image_path"], images)
    texts, names = _list(row["neg_text"]), _list(row["neg_image_path"])
    if len(texts) != len(names):
        raise ValueError(f"{len(texts)} neg_text but {len(names)} neg_image_path")
    pairs = [(text, name) for text, name in zip(texts, names, strict=True) if text.strip() or name]
    negatives = [marked(text, name, images) for text, name in pairs]
    return [
        Example(
            id=content_id([*query, *positive]),
            query=query,
            positives=[positive],
            negatives=[negative for negative in negatives if negative != positive],
        )
    ]


def _list(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        try:
            value = literal_eval(value)
        except (SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(f"not a list: {value!r:.80}") from error
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(each, str) for each in values):
        raise ValueError(f"not a list of texts: {values!r:.80}")
    return values


def marked(text: str, name: str, images: Path) -> Content:
    """Put the picture where the mark is, or first without one; a mark without a picture is left out (paper 3)."""
    before, mark, after = text.partition(MARK)
    if not name:
        return to_content(before + after.removeprefix("\n"))
    return to_content([before, picture(images, name), after] if mark else [picture(images, name), text])


def picture(images: Path, name: str) -> Path:
    """Find a picture below a folder. Raises `ValueError` for one outside of it, and for one that cannot be read."""
    path = (images / name).resolve()
    if not path.is_relative_to(images.resolve()):
        raise ValueError(f"picture outside the folder: {name:.100}")
    image_size(path)
    return path
