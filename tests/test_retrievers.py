"""Every kind of retriever scores a corpus as its own search ranks it."""

import builtins
from dataclasses import replace

import numpy as np
import pytest

from dataset_builders.almanac import TINY_VLM
from dataset_builders.corpus import Corpus
from dataset_builders.retrievers import open_retriever, retriever_facts
from dataset_builders.schema import Chunk, write_records
from modeling_nyx.content_nyx import text_of
from nyx.bm25 import BM25
from nyx.index import Index
from nyx.models import fingerprint, load_encoder
from tests.conftest import text


@pytest.fixture(scope="module")
def chunks(pages):
    return [Chunk(str(place), "d", "s", page) for place, page in enumerate(pages)]


@pytest.fixture(scope="module")
def corpus(chunks, tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.parquet"
    write_records(chunks, path)
    return Corpus.open(path)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder")
    model.save_pretrained(path)
    return path


def test_bm25_scores_as_it_searches(corpus, pages):
    queries = [[text("the moth by the lagoon")], [text("nothing known")], pages[0], pages[5], [text("?")]]
    scores = open_retriever("bm25", corpus).scores(queries)
    positions, found = BM25(pages).search(queries, len(pages))
    assert np.allclose(np.take_along_axis(scores, positions, axis=1), found)
    assert scores.shape == (5, len(pages)) and not scores[4].any()


def test_a_nyx_model_scores_by_cosine(corpus, pages, folder):
    model = load_encoder(folder)
    expected = model.encode_queries(pages[:3]) @ model.encode_documents(pages).T
    assert np.allclose(open_retriever(str(folder), corpus).scores(pages[:3]), expected, atol=1e-6)


def test_an_index_scores_its_chunks_in_the_corpus_order(chunks, corpus, pages, folder, tmp_path):
    model = load_encoder(folder)
    vectors = model.encode_documents(pages)
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    shuffled = [chunks[place] for place in order]
    name, revision = str(folder), fingerprint(folder)
    Index.create(tmp_path / "index", shuffled, vectors[order], model_name=name, revision=revision)
    expected = model.encode_queries(pages[:3]) @ vectors.T
    assert np.allclose(open_retriever(str(tmp_path / "index"), corpus).scores(pages[:3]), expected, atol=1e-6)
    write_records([*chunks, Chunk("new", "d", "s", [text("new")])], tmp_path / "more.parquet")
    with pytest.raises(ValueError, match="lacks 1 of 9 chunks, new first"):
        open_retriever(str(tmp_path / "index"), Corpus.open(tmp_path / "more.parquet"))
    write_records([replace(chunks[0], content=[text("another")]), *chunks[1:]], tmp_path / "changed.parquet")
    with pytest.raises(ValueError, match=f"another content for 1 of 8 chunks, {chunks[0].id} first"):
        open_retriever(str(tmp_path / "index"), Corpus.open(tmp_path / "changed.parquet"))
    assert retriever_facts(name)["revision"] == revision
    before = retriever_facts(str(tmp_path / "index"))
    Index.create(tmp_path / "other", shuffled, vectors[order], model_name=name, revision="another")
    assert retriever_facts(str(tmp_path / "other"))["revision"] != before["revision"]
    assert retriever_facts(str(tmp_path / "index")) == before


def test_whatever_a_sentence_transformer_depends_on_makes_it_another(tmp_path):
    parts = (
        "model.safetensors",
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "2_Dense/pytorch_model.bin",
    )
    others = ("tokenizer.json", "vocab.txt", "spiece.model", "README.md", "checkpoint-3/model.safetensors")
    for name in (*parts, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    revisions = [retriever_facts(f"st:{tmp_path}")["revision"]]
    for name in (*parts, *others):
        (tmp_path / name).write_text("2")
        revisions.append(retriever_facts(f"st:{tmp_path}")["revision"])
    assert len(set(revisions)) == len(parts) + 4 and len(set(revisions[-3:])) == 1
    assert retriever_facts("st:org/name")["revision"] == "org/name"


def test_a_model_of_texts_from_sentence_transformers_reads_the_words(corpus, pages, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(TINY_VLM / "tokenizer.json"))
    embedding = np.random.default_rng(0).normal(size=(words.get_vocab_size(), 16)).astype(np.float32)
    model = sentence_transformers.SentenceTransformer(modules=[StaticEmbedding(words, embedding)], device="cpu")
    model.save_pretrained(str(tmp_path))
    scores = open_retriever(f"st:{tmp_path}", corpus).scores([pages[0], pages[4]])
    documents = model.encode([text_of(page) for page in pages], normalize_embeddings=True)
    assert np.allclose(scores, documents[[0, 4]] @ documents.T, atol=1e-5)


def test_without_the_package_the_error_names_the_install_line(corpus, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name == "sentence_transformers":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"needs sentence-transformers: pip install 'sentence-transformers>=6'"):
        open_retriever("st:any/model", corpus)


def test_other_models_are_refused_with_what_is_accepted(corpus, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is a bert; expected one of .* A retriever is one of: bm25; .*st:MODEL"):
        open_retriever(str(tmp_path), corpus)


def test_any_mixture_goes_to_a_model_of_messages(corpus, pages, folder, model):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("torchvision")
    expected = model.encode_queries(pages[:3]) @ model.encode_documents(pages).T
    assert np.abs(open_retriever(f"st:{folder}", corpus).scores(pages[:3]) - expected).max() < 1e-3
