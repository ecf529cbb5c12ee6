"""Gradients through the cache equal those of one plain pass, for every parameter."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from dataset_builders.schema import Example
from tests.conftest import picture, text
from train_scripts.batching import contrastive_batch, micro_batches
from train_scripts.gradient_cache import Embedder, cached_backward
from train_scripts.losses import matryoshka_info_nce

WORDS = ["by the lagoon", "in May", "on oak and birch and elm", "forty mm", "recorded by Ada Silva in the pine wood"]


@pytest.fixture(scope="module")
def batch():
    """Five examples: several pictures in one, none in others, one without a negative."""
    examples = []
    for index, words in enumerate(WORDS):
        page = [text(f"A moth {words}"), *([picture(56, 56 + 28 * index, index)] * (index % 3)), text("was seen.")]
        query = [picture(56, 56, index), text("Where?")] if index % 2 else [text(f"Which moth {words}?")]
        negatives = [[text(f"Another moth {words}"), picture(84, 56, 9)]] if index else []
        examples.append(Example(id=str(index), query=query, positives=[page], negatives=negatives))
    return contrastive_batch(examples, hard_negatives=1)


def loss_and_gradients(query, document):
    query, document = query.requires_grad_(), document.requires_grad_()
    loss = matryoshka_info_nce(query, document, temperature=0.1, dims=[64, 16], weights=[1.0, 0.3])
    return loss.detach(), *torch.autograd.grad(loss, [query, document])


def gradients(model, encoder, batch, micro_batch_tokens):
    """Return the loss and every gradient, embedding in micro-batches of so many tokens."""
    model.zero_grad()
    micros = micro_batches(batch, encoder.processor, micro_batch_tokens)
    embed, device = Embedder(model, encoder), torch.device("cpu")
    loss = cached_backward(embed, micros, loss_and_gradients, lambda scalar: scalar.backward(), device)
    return len(micros), loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plain(model, encoder, batch):
    """One pass a side and autograd all the way through."""
    from modeling_nyx.modeling_nyx import last_token_embeddings

    model.zero_grad()
    sides = []
    for contents, role in ((batch.queries, "query"), (batch.documents, "document")):
        inputs = encoder.processor.pack(contents, role)
        sides.append(last_token_embeddings(model(**inputs).last_hidden_state, inputs))
    loss = matryoshka_info_nce(*sides, temperature=0.1, dims=[64, 16], weights=[1.0, 0.3])
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(ours, expected):
    assert ours.keys() == expected.keys() and ours
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5 * max(1.0, gradient.abs().max().item()))


# Tokens a micro-batch: one content each, about two, everything at once.
@pytest.mark.parametrize(("tokens", "fewest"), [(1, 14), (60, 5), (100_000, 2)])
@pytest.mark.parametrize("kind", ["full", "lora", "frozen vision"])
def test_cached_equals_plain(model, batch, tokens, fewest, kind):
    encoder = copy.deepcopy(model).train()
    encoder.visual.requires_grad_(kind != "frozen vision")
    trained = encoder
    if kind == "lora":
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
        trained = get_peft_model(encoder, config)
    expected_loss, expected = plain(trained, encoder, batch)
    count, loss, ours = gradients(trained, encoder, batch, tokens)
    assert count >= fewest
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=0)
    assert_equal(ours, expected)


def test_dropout_is_drawn_again_the_same(model, batch):
    """With dropout, the second pass must see the first one's masks, or its gradients belong to other embeddings."""
    encoder = copy.deepcopy(model).train()
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.5, init_lora_weights=False)
    trained = get_peft_model(encoder, config).train()
    seen = []

    class Recorded(Embedder):
        def __call__(self, micro):
            seen.append(super().__call__(micro))
            return seen[-1]

    micros = micro_batches(batch, encoder.processor, 60)
    embed = Recorded(trained, encoder)
    cached_backward(embed, micros, loss_and_gradients, lambda scalar: scalar.backward(), torch.device("cpu"))
    first, second = seen[: len(micros)], seen[len(micros) :]
    assert len(second) == len(micros) > 2
    assert all(torch.equal(one.detach(), two.detach()) for one, two in zip(first, second, strict=True))


def test_a_frozen_vision_tower_runs_once(model, batch, monkeypatch):
    encoder = copy.deepcopy(model)
    encoder.visual.requires_grad_(False)
    calls = []
    encode_images = type(encoder).encode_images
    monkeypatch.setattr(
        type(encoder), "encode_images", lambda self, *given: calls.append(1) or encode_images(self, *given)
    )
    micros = micro_batches(batch, encoder.processor, 60)
    with_pictures = sum(any(row.images for row in micro.rows) for micro in micros)
    gradients(encoder, encoder, batch, 60)
    assert len(calls) == with_pictures > 1
