"""MTEB runs a checkpoint on a task of its own kind and on one whose contents interleave text and pictures."""

import re

import mteb
import numpy as np
import pytest
from datasets import Dataset, Features, Image, List, Value
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import EncoderProtocol

from nyx import mteb_encoder
from nyx.metrics import ndcg_at_k
from nyx.mteb_encoder import MTEBEncoder, row_content
from nyx.ranking import top
from tests.conftest import colored, picture, text

FACTS = ["lives by the lagoon", "flies at dusk", "eats heather", "is rare", "winters as an egg", "comes to light"]
PAGES = {
    f"d{number}": [text(f"This moth {fact}: "), picture(84, 56, number), text(" seen from above "), picture(56, 56, 9)]
    for number, fact in enumerate(FACTS)
}
QUESTIONS = {f"q{number}": [picture(84, 56, number), text(f"Which moth {fact}?")] for number, fact in enumerate(FACTS)}
RELEVANT = {f"q{number}": {f"d{number}": 1} for number in range(len(FACTS))}
CONTENT = List({"type": Value("string"), "text": Value("string"), "image": Image()})


def table(contents: dict[str, list]) -> Dataset:
    """Rows as in Parquet: every item has all keys."""
    rows = [
        {"id": each, "text": "", "content": [{"text": None, "image": None, **item} for item in content]}
        for each, content in contents.items()
    ]
    features = Features({"id": Value("string"), "text": Value("string"), "content": CONTENT})
    return Dataset.from_list(rows, features=features)


def metadata(name: str, category: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        type="Any2AnyRetrieval",
        description="A small one.",
        main_score="ndcg_at_10",
        dataset={"path": "none", "revision": "none"},
        category=category,
        modalities=["text", "image"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
    )


class Interleaved(AbsTaskRetrieval):
    metadata = metadata("Interleaved", "it2it")

    def load_data(self, **kwargs) -> None:
        split = {"queries": table(QUESTIONS), "corpus": table(PAGES), "relevant_docs": RELEVANT, "top_ranked": None}
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


class TextToPicture(AbsTaskRetrieval):
    metadata = metadata("TextToPicture", "t2i")

    def load_data(self, **kwargs) -> None:
        queries = Dataset.from_list([{"id": f"q{number}", "text": fact} for number, fact in enumerate(FACTS)])
        pictures = [{"id": f"d{number}", "image": colored(84, 56 + number, number)} for number in range(len(FACTS))]
        corpus = Dataset.from_list(pictures, features=Features({"id": Value("string"), "image": Image()}))
        split = {"queries": queries, "corpus": corpus, "relevant_docs": RELEVANT, "top_ranked": None}
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("mteb")
    model.save_pretrained(path)
    return path


def scores(encoder: MTEBEncoder, task: AbsTaskRetrieval) -> dict:
    result = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False, encode_kwargs={"batch_size": 4})
    return result.task_results[0].scores["test"][0]


def expected(queries: np.ndarray, documents: np.ndarray) -> float:
    rankings = [[f"d{position}" for position in row] for row in top(queries, documents, 10)]
    return float(np.mean([ndcg_at_k(ranking, [f"d{number}"], 10) for number, ranking in enumerate(rankings)]))


@pytest.mark.parametrize("dim", [None, 16])
def test_interleaved_contents_score_as_our_own_ranking(folder, model, dim):
    encoder = MTEBEncoder(folder, truncate_dim=dim)
    assert isinstance(encoder, EncoderProtocol)
    queries = model.encode_queries(list(QUESTIONS.values()), truncate_dim=dim)
    own = expected(queries, model.encode_documents(list(PAGES.values()), truncate_dim=dim))
    found = scores(encoder, Interleaved())
    assert found["ndcg_at_10"] == pytest.approx(own, abs=1e-4) and found["main_score"] == found["ndcg_at_10"]


def test_text_against_pictures(folder, model):
    pictures = [colored(84, 56 + number, number) for number in range(len(FACTS))]
    own = expected(model.encode_queries(FACTS), model.encode_documents(pictures))
    assert scores(MTEBEncoder(folder), TextToPicture())["ndcg_at_10"] == pytest.approx(own, abs=1e-4)


def test_rows_of_either_kind(model):
    image = colored(56, 56, 1)
    assert row_content({"id": "1", "text": "a"}) == [text("a")]
    assert row_content({"id": "1", "text": "a", "image": image}) == [{"type": "image", "image": image}, text("a")]
    assert row_content({"id": "1", "text": "", "content": PAGES["d1"]}) == PAGES["d1"]


def test_what_is_known_about_the_model(folder):
    meta = MTEBEncoder(folder, truncate_dim=16).mteb_model_meta
    assert meta.name == f"local/{folder.name}" and len(meta.revision) == 64
    assert meta.embed_dim == 16 and meta.max_tokens == 1024 and meta.modalities == ["text", "image"]


def test_other_precisions_are_refused(folder):
    with pytest.raises(ValueError, match="precision 'int8' came"):
        mteb.evaluate(MTEBEncoder(folder), Interleaved(), cache=None, encode_kwargs={"precision": "int8"})


def test_the_benchmarks_and_tasks_it_names_exist():
    names = re.findall(r'get_benchmark\("([^"]+)"|likewise "([^"]+)"', mteb_encoder.__doc__)
    assert len(names) == 4 and all(mteb.get_benchmark(one or other) for one, other in names)
    tasks = re.findall(r'get_tasks\(\["([^"]+)"', mteb_encoder.__doc__)
    assert tasks and all(mteb.get_task(name) for name in tasks)
