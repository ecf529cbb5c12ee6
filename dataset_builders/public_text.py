"""Public sets of questions about texts: one function a shape of row, which gives the row's records.

Each raises `ValueError` with the reason for a row that cannot be used.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from dataset_builders.schema import Chunk, QAPair, content_id
from modeling_nyx import to_content
from modeling_nyx.content_nyx import Content
from modeling_nyx.images_nyx import image_size

Row = Mapping[str, Any]
Record = Chunk | QAPair


def passage(title: str, text: str) -> Chunk:
    """Make a chunk of a passage under its title; the document is what has that title."""
    content = to_content(f"{title}\n{text}".strip())
    return Chunk(content_id(content), document_id=title, source=title, content=content)


def asked(
    question: Content,
    answers: Sequence[str],
    gold: Sequence[str],
    *,
    name: str = "",
    kind: str = "",
    options: Sequence[str] = (),
    mixed: bool = False,
) -> QAPair:
    """Make a question of a row; without the set's own `name` its id is a hash of all that is asked and answered.

    `gold` are ids of chunks or documents, each kept once. With options the first answer must be one of them.
    """
    answers = [each for answer in answers if answer is not None and (each := as_text(answer))]
    if not answers:
        raise ValueError("no answer")
    options, gold = [as_text(option) for option in options], [as_text(each) for each in gold]
    if options and answers[0] not in options:
        raise ValueError(f"the answer {answers[0]!r:.50} is not among the options")
    texts = [{"type": "text", "text": text} for text in [*answers, *gold]]
    pictured = mixed or any(item["type"] == "image" for item in question)
    return QAPair(
        id=as_text(name) or content_id([*question, *texts]),
        question=question,
        answers=list(dict.fromkeys(answers)),
        options=options,
        correct_option=options.index(answers[0]) if options else None,
        gold_ids=list(dict.fromkeys(gold)),
        modality="mixed" if pictured else "text",
        kind=as_text(kind),
    )


def as_text(value: Any) -> str:
    """Return a text or a number as a text. Raises `ValueError` for anything else."""
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r:.50} is neither a text nor a number")
    return str(value).strip()


def inline(picture: Any) -> dict[str, Any]:
    """Make an item of a picture that a row holds. Raises `ValueError` for a path: it is somebody else's."""
    data = picture.get("bytes") if isinstance(picture, Mapping) else picture
    if not isinstance(data, (bytes, Image.Image)):
        raise ValueError(f"picture without its bytes: {picture!r:.100}")
    return {"type": "image", "image": data}


def hotpotqa(row: Row) -> list[Record]:
    """Read a row of HotpotQA, or of 2WikiMultiHopQA in the same shape; both lists of columns are aligned.

    `id`, `question`, `answer`, `type`, `context` (`title`, `sentences`), `supporting_facts` (`title`). The retrieved
    contexts of `fullwiki` may lack a supporting paragraph; such a row is refused.
    """
    context = row["context"]
    pairs = zip(context["title"], context["sentences"], strict=True)
    chunks = [passage(title, " ".join(sentence.strip() for sentence in sentences)) for title, sentences in pairs]
    titles = set(row["supporting_facts"]["title"])
    if missing := titles - set(context["title"]):
        raise ValueError(f"the context lacks the supporting {sorted(missing)[0]!r:.80}")
    gold = [chunk.id for chunk in chunks if chunk.document_id in titles]
    return [*chunks, asked(to_content(row["question"]), [row["answer"]], gold, name=row["id"], kind=row["type"])]


def musique(row: Row) -> list[Record]:
    """Read a row of MuSiQue; its kind is the number of hops, with which the id begins.

    `id`, `question`, `answer`, `answer_aliases`, `answerable`, `paragraphs` (`title`, `paragraph_text`,
    `is_supporting`).
    """
    if not row["answerable"]:
        raise ValueError("not answerable from its paragraphs")
    chunks = [passage(each["title"], each["paragraph_text"]) for each in row["paragraphs"]]
    pairs = zip(chunks, row["paragraphs"], strict=True)
    gold = [chunk.id for chunk, each in pairs if each["is_supporting"]]
    answers = [row["answer"], *(row["answer_aliases"] or ())]
    kind = row["id"].split("__")[0]
    return [*chunks, asked(to_content(row["question"]), answers, gold, name=row["id"], kind=kind)]


def bamboogle(row: Row) -> list[Record]:
    """Read a row of Bamboogle, which comes without documents: `Question`, `Answer`."""
    return [asked(to_content(row["Question"]), [row["Answer"]], [])]


def answered(row: Row) -> list[Record]:
    """Read a question with its answers, and, where there are any, the paragraphs that it came with.

    `question` (a text, or a content list), `answers`, and, where there are such columns, `id`, `type` (the kind),
    `options`, `gold_ids` (chunks, documents or sources of a corpus), `paragraphs` (`title`, `text`, `is_gold`).
    """
    paragraphs = row.get("paragraphs") or ()
    chunks = [passage(each["title"], each["text"]) for each in paragraphs]
    gold = [chunk.id for chunk, each in zip(chunks, paragraphs, strict=True) if each["is_gold"]]
    for column in ("answers", "gold_ids", "options"):
        if isinstance(row.get(column), str):
            raise ValueError(f"{column} is a text, {row[column]!r:.50}; expected a list")
    gold += row.get("gold_ids") or ()
    name, kind, options = row.get("id") or "", row.get("type") or "", row.get("options") or ()
    question = [inline(each["image"]) if each["type"] == "image" else each for each in to_content(row["question"])]
    for item in question:
        if item["type"] == "image":
            image_size(item["image"])  # raises for what is no picture
    return [*chunks, asked(question, row["answers"], gold, name=name, kind=kind, options=options)]


def human_question(row: Row) -> list[Record]:
    """Read a question that people asked about a document: the document is its gold.

    `question`, `question_images`, `options`, `answer`, `gold_doc_id`, and, where there are such columns, `qtype` as
    its kind, `question_in_gold_doc` and `qclass`: a question that stands in the document itself is refused, and so is
    one about a linked exercise.
    """
    if row.get("question_in_gold_doc"):
        raise ValueError("the question stands in its document")
    if row.get("qclass") == "interactive-exercise":
        raise ValueError("about a linked exercise")
    question = to_content([row["question"], *map(inline, row["question_images"] or ())])
    kind, options = row.get("qtype") or "", row["options"] or ()
    return [asked(question, [row["answer"]], [row["gold_doc_id"]], kind=kind, options=options)]
