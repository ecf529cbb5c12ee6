"""The trainer's loss is the closed form over the batch, and what answers is never a negative."""

import copy
import io

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image

from dataset_builders.schema import Chunk, Example, Preference, QAPair
from modeling_nyx.images_nyx import BadImage
from tests.conftest import text
from train_scripts.apart import ApartTrainer, apart_scores, parts_of
from train_scripts.batching import contrastive_batch, excluded_pairs
from train_scripts.trainer import NyxTrainer, NyxTrainingArguments, Validation


def example(name, positives, negatives=()):
    return Example(name, [text(f"query {name}")], [[text(p)] for p in positives], [[text(n)] for n in negatives])


EXAMPLES = [example("1", ["a", "b"], ["c", "d"]), example("2", ["a"], ["b"]), example("3", ["e"])]


@pytest.fixture
def make(model, tmp_path):
    def trainer(kind=NyxTrainer, validation=None, wrap=lambda encoder: encoder, **options):
        arguments = NyxTrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True, **options)
        return kind(wrap(copy.deepcopy(model)), arguments, validation=validation, train_dataset=EXAMPLES)

    return trainer


def test_a_batch_lines_up_positives_then_hard_negatives():
    batch = contrastive_batch(EXAMPLES, hard_negatives=1)
    # "a" is the positive of two queries.
    assert [content[0]["text"] for content in batch.documents] == ["a", "e", "c", "b"]
    assert batch.places == [0, 1, 2, 3, 3, 4, 5, 6]
    assert batch.owners == [0, 1, 2, 0, 1]
    assert [content[0]["text"] for content in contrastive_batch(EXAMPLES, 0).documents] == ["a", "e"]


def test_a_content_that_cannot_be_embedded_is_named_with_its_example(make):
    trainer, file = make(hard_negatives=2), io.BytesIO()
    Image.effect_noise((90, 90), 60).save(file, "JPEG")
    cut = [{"type": "image", "image": file.getvalue()[:2000]}]
    broken = Example("broken", [text("A query")], [[text("A page")]], [[text("Another")], cut])
    with pytest.raises(BadImage, match="^Example broken, document: .*cannot be decoded"):
        trainer.training_step(trainer.model, {"examples": [EXAMPLES[0], broken]})
    empty = Example("empty", [text("")], [[text("A page")]], [])
    with pytest.raises(ValueError, match="^Example empty, query: Item 0: "):
        trainer.training_step(trainer.model, {"examples": [EXAMPLES[0], empty]})


def excluded(batch):
    return excluded_pairs(batch.keys, batch.asked, batch.answering, batch.targets).tolist()


def test_what_is_known_to_answer_is_excluded():
    batch = contrastive_batch(EXAMPLES, hard_negatives=1)
    # 1: a (twice) and b; 2: a twice; 3: e.
    pairs = {tuple(pair) for pair in excluded(batch)}
    assert pairs == {(0, 0), (0, 1), (0, 4), (1, 0), (1, 1), (2, 2)}


def graded(name, positives, negatives, utilities):
    plain = example(name, positives, negatives)
    return Preference(plain.id, plain.query, plain.positives, plain.negatives, utilities=utilities)


def test_utilities_become_shares_of_the_documents_that_take_part():
    examples = [graded("1", ["a", "b"], ["c", "d"], [1.0, 0.5, 0.0, 0.0]), EXAMPLES[2]]
    batch = contrastive_batch(examples, hard_negatives=2, utility_temperature=0.5)
    assert [content[0]["text"] for content in batch.documents] == ["a", "e", "b", "c"]
    weights = np.exp([2.0, 1.0, 0.0])
    queries, places, shares = zip(*batch.targets, strict=True)
    assert queries == (0, 0, 0) and places == (0, 2, 3)
    assert shares == pytest.approx(weights / weights.sum())
    # Its own documents are no negatives, "c" neither; "d" doesn't take part.
    assert sorted(excluded(batch)) == [[0, 0], [0, 2], [0, 3], [1, 1]]
    plainly = contrastive_batch(examples, hard_negatives=2)
    assert plainly.targets == [] and [content[0]["text"] for content in plainly.documents] == ["a", "e", "c", "d"]


def test_the_loss_of_utilities_is_the_closed_form(make):
    trainer = make(temperature=0.1, utility_temperature=0.5, hard_negatives=2)
    examples = [graded("1", ["a", "b"], ["c"], [1.0, 0.5, 0.0]), example("3", ["e"], ["b"])]
    loss = trainer.training_step(trainer.model, {"examples": examples})
    query = trainer.encoder.encode_queries([each.query for each in examples])
    document = trainer.encoder.encode_documents([[text(words)] for words in "aebcb"])
    logits = (query @ document.T / 0.1).astype(np.float64)
    logits[0, 4] = -np.inf  # a copy of "b", which has its share already
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    weights = np.exp([2.0, 1.0, 0.0])
    expected = -(weights / weights.sum() @ log_p[0, [0, 2, 3]] + log_p[1, 1]) / 2
    assert float(loss) == pytest.approx(expected, abs=1e-4)


def test_the_loss_is_the_closed_form(make):
    trainer = make(temperature=0.1, matryoshka_dimensions=[64, 8], matryoshka_weights=[3.0, 1.0])
    encoder = trainer.encoder
    loss = trainer.training_step(trainer.model, {"examples": EXAMPLES})
    query = encoder.encode_queries([each.query for each in EXAMPLES])
    document = encoder.encode_documents([[text(words)] for words in "aaecb"])
    left_out = {(0, 1), (0, 4), (1, 0)}
    expected = 0.0
    for dim, weight in ((64, 0.75), (8, 0.25)):
        q, d = (x[:, :dim] / np.linalg.norm(x[:, :dim], axis=1, keepdims=True) for x in (query, document))
        logits = q @ d.T / 0.1
        for row, column in left_out:
            logits[row, column] = -np.inf
        expected += weight * np.mean([np.log(np.exp(logits[i]).sum()) - logits[i, i] for i in range(3)])
    assert float(loss) == pytest.approx(expected, abs=1e-4)


SAME = [
    Example("1", [text("query")], [[text("a")]], [[text("b")]]),
    Example("2", [text("query")], [[text("b")]], [[text("c")]]),
    example("3", ["e"], ["a"]),
]


def test_what_answers_a_query_is_no_negative_of_it_in_another_example(make):
    trainer = make(temperature=0.1)
    loss = trainer.training_step(trainer.model, {"examples": SAME})
    query = trainer.encoder.encode_queries([each.query for each in SAME])
    document = trainer.encoder.encode_documents([[text(words)] for words in "abebca"])
    logits = (query @ document.T / 0.1).astype(np.float64)
    for row, column in [(0, 1), (0, 3), (0, 5), (1, 0), (1, 3), (1, 5)]:
        logits[row, column] = -np.inf
    expected = np.mean([np.log(np.exp(logits[i]).sum()) - logits[i, i] for i in range(3)])
    assert float(loss) == pytest.approx(expected, abs=1e-4)


def test_what_a_reader_failed_with_is_left_out_of_its_own_example_alone():
    examples = [graded("1", ["a"], ["c"], [1.0, 0.0]), Example("2", [text("query 1")], [[text("b")]], [[text("c")]])]
    batch = contrastive_batch(examples, hard_negatives=1, utility_temperature=0.5)
    # Documents: a, b, c, c. Both know a and b; the second learns from c.
    assert sorted(excluded(batch)) == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]]


def test_one_process_uses_one_gpu(make, monkeypatch):
    setup = NyxTrainingArguments.__post_init__

    def two_gpus(arguments):
        setup(arguments)
        arguments._n_gpu = 2

    monkeypatch.setattr(NyxTrainingArguments, "__post_init__", two_gpus)
    trainer = make(per_device_train_batch_size=3)
    assert trainer.args.n_gpu == 1 and trainer.args.train_batch_size == 3


def test_accumulation_is_the_mean_of_its_batches(make):
    examples = [example(str(index), [f"page {index}"], [f"other {index}"]) for index in range(8)]
    trainer = make(temperature=0.1, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert trainer.args.per_device_train_batch_size == 8 and trainer.args.gradient_accumulation_steps == 1
    loss = trainer.training_step(trainer.model, {"examples": examples})
    gradient = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    trainer.accumulation = 1
    losses = [trainer.training_step(trainer.model, {"examples": examples[start::2]}) for start in (0, 1)]
    assert float(loss) == pytest.approx(float(sum(losses)) / 2, abs=1e-5)
    for name, each in gradient.items():
        parameter = dict(trainer.model.named_parameters())[name]
        torch.testing.assert_close(each, parameter.grad / 2, rtol=1e-3, atol=1e-4)


def test_evaluation_ranks_the_corpus(make, pages):
    chunks = [Chunk(str(index), "d", "s", page) for index, page in enumerate(pages)]
    questions = [QAPair(chunk.id, chunk.content, ["x"], [], None, [chunk.id], "text") for chunk in chunks]
    trainer = make(validation=Validation(chunks, questions))
    trainer.encoder.processor.query_instruction = ""
    scores = trainer.evaluate()
    assert scores["eval_recall@1"] == scores["eval_mrr"] == 1.0
    with pytest.raises(ValueError, match="nothing to evaluate on"):
        make().evaluate()


@pytest.mark.parametrize("adapter", [False, True])
def test_bf16_evaluates_in_bfloat16_adapter_or_not(make, pages, adapter):
    chunks = [Chunk(str(index), str(index), "s", page) for index, page in enumerate(pages)]
    questions = [QAPair("q", pages[0], ["x"], [], None, ["0"], "text")]
    config = LoraConfig(r=2, target_modules=["q_proj"])
    wrap = (lambda encoder: get_peft_model(encoder, config)) if adapter else (lambda encoder: encoder)
    trainer = make(validation=Validation(chunks, questions), bf16=True, wrap=wrap)
    seen = set()
    layer = trainer.encoder.language_model.layers[0].self_attn.q_proj
    layer.register_forward_hook(lambda module, given, out: seen.add(out.dtype))
    trainer.evaluate()
    assert seen == {torch.bfloat16}


def test_any_chunk_of_a_gold_document_counts(make, pages):
    chunks = [Chunk(str(index), f"page {index % 4}", "s", page) for index, page in enumerate(pages)]
    queries = [chunk.content for chunk in chunks]
    documents = [QAPair(str(i), query, ["x"], [], None, [f"page {i % 4}"], "text") for i, query in enumerate(queries)]
    named = [
        QAPair(str(i), query, ["x"], [], None, [str(i % 4), str(i % 4 + 4)], "text") for i, query in enumerate(queries)
    ]
    scores = [make(validation=Validation(chunks, questions)).evaluate() for questions in (documents, named)]
    assert all(scores[0][name] == scores[1][name] > 0 for name in ("eval_recall@1", "eval_mrr", "eval_ndcg@10"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": "none"}, "expected 'all' or 'own'"),
        ({"fp16": True}, "Say bf16: true instead"),
        (
            {"matryoshka_dimensions": [64], "matryoshka_weights": [1.0, 2.0]},
            "for 1 matryoshka_dimensions; expected one a dimension",
        ),
    ],
)
def test_wrong_arguments_are_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_fp16_of_accelerates_settings_is_refused_too(make, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="Say bf16: true instead"):
        make()


def test_parts_are_the_text_and_each_picture(pages):
    assert [len(parts_of(page)) for page in pages] == [1, 1, 1, 2, 4, 1, 3, 2]


def test_apart_averages_and_fuses_parts(make, pages):
    trainer = make(ApartTrainer)
    encoder = trainer.encoder
    averaged, fused = apart_scores(encoder, pages, pages)
    queries = [encoder.encode_queries(parts_of(page)) for page in pages]
    documents = [encoder.encode_documents(parts_of(page)) for page in pages]
    for i, query in enumerate(queries):
        for j, document in enumerate(documents):
            q, d = (x.mean(0) / np.linalg.norm(x.mean(0)) for x in (query, document))
            assert averaged[i, j] == pytest.approx(q @ d, abs=1e-5)
            assert fused[i, j] == pytest.approx((query @ document.T).max(1).sum(), abs=1e-5)


def test_apart_trains_on_the_averages(make, pages):
    trainer = make(ApartTrainer, temperature=0.1)
    examples = [Example(str(i), pages[i], [pages[(i + 1) % len(pages)]], []) for i in range(4)]
    loss = trainer.training_step(trainer.model, {"examples": examples})
    averaged, _ = apart_scores(trainer.encoder, pages[:4], [pages[(i + 1) % len(pages)] for i in range(4)])
    expected = torch.nn.functional.cross_entropy(torch.tensor(averaged) / 0.1, torch.arange(4))
    assert float(loss) == pytest.approx(float(expected), abs=1e-4)
