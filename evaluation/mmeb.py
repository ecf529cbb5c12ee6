"""MMEB's evaluation as a task of MTEB: precision@1 among the candidates that come with each query.

    import mteb
    from evaluation.mmeb import load_task
    from nyx.mteb_encoder import MTEBEncoder

    encoder = MTEBEncoder("org/nyx")  # its instruction comes before those of MMEB's rows, as in training
    mteb.evaluate(encoder, load_task("OK-VQA", Path("eval_images/")))

Rows name their pictures, which lie below a folder: the repository's `images.zip`, unpacked.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, load_dataset

from dataset_builders.public_multimodal import marked
from dataset_builders.public_text import Row
from dataset_builders.schema import Chunk, content_id, features
from modeling_nyx.content_nyx import Content
from nyx.records import as_row

try:
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
except ImportError as error:
    raise ImportError("MMEB needs mteb: pip install 'nyx-retriever[mteb]'") from error

REPOSITORY = "TIGER-Lab/MMEB-eval"
COLUMNS = ("qry_text", "qry_img_path", "tgt_text", "tgt_img_path")
COLUMN = Features({"content": features(Chunk)["content"]}) | {name: features(Chunk)["id"] for name in ("id", "text")}


def load_task(subset: str, images: Path, source: str = REPOSITORY) -> AbsTaskRetrieval:
    """Read a subset's test rows from the Hub, or from a folder, as a task."""
    return make_task(subset, load_dataset(source, subset, split="test"), images)


def make_task(name: str, rows: Iterable[Row], images: Path) -> AbsTaskRetrieval:
    """Make a task of MMEB's rows: of each row's candidates the first is right.

    Raises `ValueError` for a row without these columns, or with a picture that cannot be read.
    """
    queries: dict[str, Content] = {}
    corpus: dict[str, Content] = {}
    ranked: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        if missing := [column for column in COLUMNS if column not in row]:
            raise ValueError(f"Row {number} lacks {missing}; it has {sorted(row)}.")
        pairs = zip(row["tgt_text"], row["tgt_img_path"], strict=True)
        candidates = [marked(text, path, images) for text, path in pairs]
        ids = [content_id(candidate) for candidate in candidates]
        corpus |= dict(zip(ids, candidates, strict=True))
        queries[str(number)] = marked(row["qry_text"], row["qry_img_path"], images)
        ranked[str(number)] = list(dict.fromkeys(ids))
    split = {
        "queries": _table(queries),
        "corpus": _table(corpus),
        "relevant_docs": {query: {ids[0]: 1} for query, ids in ranked.items()},
        "top_ranked": ranked,
    }
    return _task(name, {"default": {"test": split}})


def _table(contents: dict[str, Content]) -> Dataset:
    rows = [{"id": key, "text": "", "content": as_row(content)} for key, content in contents.items()]
    return Dataset.from_list(rows, features=Features(COLUMN))


def _task(name: str, data: dict[str, Any]) -> AbsTaskRetrieval:
    class MMEB(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"MMEB-{name}",
            type="Any2AnyRetrieval",
            description="Find the right one of the candidates that come with a query.",
            main_score="precision_at_1",
            dataset={"path": REPOSITORY, "revision": "main"},
            category="it2it",
            modalities=["text", "image"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
        )

        def load_data(self, num_proc: int | None = None, *, timer: Any = None, **kwargs: Any) -> None:
            self.dataset, self.data_loaded = data, True

    return MMEB()
