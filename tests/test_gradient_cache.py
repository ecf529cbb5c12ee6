"""Gradients through the cache equal those of one plain pass over every occurrence, for every parameter."""

import copy
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model

from dataset_builders.schema import Example
from modeling_nyx.modeling_nyx import last_token_embeddings
from tests.conftest import picture, text
from train_scripts.batching import contrastive_batch, micro_batches
from train_scripts.gradient_cache import Embedder, cached_backward
from train_scripts.losses import matryoshka_info_nce

WORDS = ["by the lagoon", "in May", "on oak and birch and elm", "forty mm", "recorded by Ada Silva in the pine wood"]
ALL = 100_000
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def example(index, words):
    """Several pictures in one page, none in others, one example without a negative, one picture in all negatives."""
    page = [text(f"A moth {words}"), *([picture(56, 56 + 28 * index, index)] * (index % 3)), text("was seen.")]
    query = [picture(56, 56, index), text("Where?")] if index % 2 else [text(f"Which moth {words}?")]
    negatives = [[text(f"Another moth {words}"), picture(84, 56, 9)]] if index else []
    return Example(id=str(index), query=query, positives=[page], negatives=negatives)


EXAMPLES = [example(index, words) for index, words in enumerate(WORDS)]


def repeated():
    """A query asked again about another page; pages that are positives and negatives of several queries."""
    first, second, third, *_ = EXAMPLES
    return [
        first,
        Example("again", first.query, second.positives, second.positives),
        Example("same page", second.query, second.positives, third.positives),
        third,
    ]


@pytest.fixture(scope="module")
def batch():
    return contrastive_batch(EXAMPLES, hard_negatives=1)


def loss_of(embeddings, queries):
    """Compute a loss over embeddings of every occurrence, queries first."""
    query, document = embeddings[:queries], embeddings[queries:]
    return matryoshka_info_nce(query, document, temperature=0.1, dims=[64, 16], weights=[1.0, 0.3])


def loss_and_gradient(batch, embeddings):
    embeddings = embeddings.requires_grad_()
    loss = loss_of(embeddings[batch.places], len(batch.answering))
    return loss.detach(), torch.autograd.grad(loss, embeddings)[0]


def of_parameters(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def cached(model, encoder, batch, micro_batch_tokens, graph_tokens=0, kind=Embedder, autocast=nullcontext):
    """Return the number of micro-batches, the loss and every gradient."""
    model.zero_grad()
    micros = micro_batches(batch, encoder.processor, micro_batch_tokens)
    embed = kind(model, encoder, micros, autocast)
    loss = cached_backward(embed, micros, partial(loss_and_gradient, batch), torch.Tensor.backward, graph_tokens)
    return len(micros), loss, of_parameters(model)


def plain(model, encoder, examples):
    """Embed every occurrence, one pass a side, and autograd all the way through."""
    model.zero_grad()
    negatives = [negative for example in examples for negative in example.negatives[:1]]
    documents = [example.positives[0] for example in examples] + negatives
    sides = []
    for contents, role in (([example.query for example in examples], "query"), (documents, "document")):
        inputs = encoder.processor.pack(contents, role).to(encoder.device)
        sides.append(last_token_embeddings(model(**inputs).last_hidden_state, inputs))
    loss = loss_of(torch.cat(sides), len(examples))
    loss.backward()
    return loss.detach(), of_parameters(model)


def assert_equal(ours, expected):
    assert ours.keys() == expected.keys() and ours
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5 * max(1.0, gradient.abs().max().item()))


def prepared(model, kind, device="cpu"):
    """Return a model to train and the encoder inside it."""
    encoder = copy.deepcopy(model).to(device).train()
    encoder.visual.requires_grad_(kind != "frozen vision")
    if kind == "checkpointing":
        encoder.gradient_checkpointing_enable({"use_reentrant": False})
    if kind != "lora":
        return encoder, encoder
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(encoder, config), encoder


# Tokens a micro-batch: one content each, about two, everything at once; and how many tokens' graphs are kept.
@pytest.mark.parametrize(("tokens", "fewest"), [(1, 14), (60, 5), (ALL, 1)])
@pytest.mark.parametrize("graph_tokens", [0, 100, ALL])
@pytest.mark.parametrize("kind", ["full", "lora", "frozen vision", "checkpointing"])
@DEVICES
def test_cached_equals_plain(model, batch, tokens, fewest, graph_tokens, kind, device):
    expected_loss, expected = plain(*prepared(model, "full" if kind == "checkpointing" else kind, device), EXAMPLES)
    trained, encoder = prepared(model, kind, device)
    count, loss, ours = cached(trained, encoder, batch, tokens, graph_tokens)
    assert count >= fewest
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=0)
    assert_equal(ours, expected)


@pytest.mark.parametrize("graph_tokens", [0, ALL])
@pytest.mark.parametrize("kind", ["full", "lora", "frozen vision"])
def test_what_occurs_several_times_is_embedded_once(model, graph_tokens, kind):
    examples = repeated()
    batch = contrastive_batch(examples, hard_negatives=1)
    assert (len(examples), len(batch.queries), len(batch.keys), len(batch.documents)) == (4, 3, 7, 4)
    trained, encoder = prepared(model, kind)
    expected_loss, expected = plain(trained, encoder, examples)
    _, loss, ours = cached(trained, encoder, batch, 60, graph_tokens)
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=0)
    assert_equal(ours, expected)


class Rounded(Embedder):
    """Rounds the number of tokens up, as for bfloat16 on a CPU, and keeps what numbers came."""

    def __init__(self, *args):
        super().__init__(*args)
        self.asked, self.rounded, self.model, self.tokens = self.rounded, True, self.forward, []

    def forward(self, **inputs):
        self.tokens.append(inputs["input_ids"].shape[1])
        return self.encoder(**inputs)


@pytest.mark.parametrize("graph_tokens", [0, ALL])
@pytest.mark.parametrize("kind", ["full", "frozen vision"])
def test_rounded_numbers_of_tokens_equal_plain(model, batch, graph_tokens, kind):
    made = []
    trained, encoder = prepared(model, kind)
    expected_loss, expected = plain(trained, encoder, EXAMPLES)
    rounded = lambda *args: made.append(Rounded(*args)) or made[0]  # noqa: E731
    _, loss, ours = cached(trained, encoder, batch, 200, graph_tokens, rounded)
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=0)
    assert_equal(ours, expected)
    assert {*made[0].tokens} == {256} and not made[0].asked
    assert Rounded(trained, encoder, [], partial(torch.autocast, "cpu", torch.bfloat16)).asked
    assert Rounded(trained, encoder.to(torch.bfloat16), []).asked


@DEVICES
@pytest.mark.parametrize("kind", ["full", "frozen vision"])
def test_kept_graphs_equal_recomputed_ones_in_bf16(model, batch, kind, device):
    """Autocast remembers the weights it casts: those of a pass without a graph must not reach one with."""
    trained, encoder = prepared(model, kind, device)
    autocast = partial(torch.autocast, device, torch.bfloat16)
    trained.forward = autocast()(trained.forward)
    _, loss, recomputed = cached(trained, encoder, batch, 60, 0, autocast=autocast)
    _, expected_loss, kept = cached(trained, encoder, batch, 60, ALL, autocast=autocast)
    assert torch.equal(loss, expected_loss)
    assert_equal(recomputed, kept)


@DEVICES
@pytest.mark.parametrize("frozen", [False, True])
def test_dropout_is_drawn_again_the_same(model, batch, frozen, device):
    """With dropout, the second pass must see the first one's masks, or its gradients belong to other embeddings."""
    encoder = copy.deepcopy(model).to(device).train()
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "qkv"], lora_dropout=0.5, init_lora_weights=False)
    trained = get_peft_model(encoder, config).train()
    encoder.visual.requires_grad_(not frozen)
    seen, shared = [], []

    class Recorded(Embedder):
        def __call__(self, micro):
            seen.append(super().__call__(micro))
            return seen[-1]

        def backward(self, backward):
            shared.extend(self.features.items())
            super().backward(backward)

        def _features(self, pictures):
            shared.extend((found := super()._features(pictures)).items())
            return found

    count, *_ = cached(trained, encoder, batch, 60, 0, kind=Recorded)
    assert len(seen) == 2 * count > 4
    assert all(torch.equal(one.detach(), two.detach()) for one, two in zip(seen, seen[count:], strict=False))
    features = {key: [feature for other, feature in shared if other == key] for key, _ in shared}
    assert len(features) == (6 if frozen else 1)
    for first, *others in features.values():
        assert others and all(torch.equal(first.detach(), other.detach()) for other in others)


@pytest.mark.parametrize("frozen", [False, True])
def test_pictures_are_encoded_as_often_as_they_must_be(model, batch, frozen, monkeypatch):
    """Once if the tower is frozen, otherwise once more for the gradient: however many contents share them."""
    encoder = copy.deepcopy(model)
    encoder.visual.requires_grad_(not frozen)
    encoded = []
    encode_images = type(encoder).encode_images

    def counted(self, pixel_values, image_grid_thw):
        encoded.append(len(image_grid_thw))
        return encode_images(self, pixel_values, image_grid_thw)

    monkeypatch.setattr(type(encoder), "encode_images", counted)
    micros = micro_batches(batch, encoder.processor, 60)
    different = {key for micro in micros for key in micro.pictures}
    assert sum(len(micro.pictures) for micro in micros) > len(different) == 6
    cached(encoder, encoder, batch, 60)
    assert sum(encoded) == len(different) * (1 if frozen else 2)
