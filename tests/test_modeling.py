"""The encoder equals the stock backbone, alone, padded and packed."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLModel,
    Qwen3VLModel,
)

from modeling_nyx import BadImage, NyxModel, NyxQwen3VLModel
from modeling_nyx.modeling_nyx import last_token_embeddings, truncate
from tests.conftest import colored, picture, text

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def stock(model_folder: Path) -> Qwen2_5_VLModel:
    return AutoModel.from_pretrained(model_folder, attn_implementation="sdpa").eval()


def test_weights_from_a_generation_checkpoint_equal_the_stock_ones_bit_for_bit(model_folder, model, stock):
    generator = Qwen2_5_VLForConditionalGeneration.from_pretrained(model_folder).model.state_dict()
    ours = model.state_dict()
    assert ours.keys() == stock.state_dict().keys() == generator.keys()
    for name, value in ours.items():
        assert torch.equal(value, stock.state_dict()[name]) and torch.equal(value, generator[name]), name


@torch.no_grad()
def test_arguments_have_the_places_that_they_have_in_stock(model, stock, processor):
    rows = processor.tokenizer(["Short", "The moth lives by the marsh."], padding=True, return_tensors="pt")
    given = rows["input_ids"], rows["attention_mask"]
    torch.testing.assert_close(model(*given)[0], stock(*given)[0], atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_last_state_equals_stock(model, stock, processor, pages):
    for page in pages:
        batch = processor([page])
        expected = stock(**batch).last_hidden_state[:, -1]
        expected = torch.nn.functional.normalize(expected, dim=-1).numpy()
        assert np.abs(model.encode_documents([page]) - expected).max() < TOLERANCE
        ours = last_token_embeddings(model(**batch).last_hidden_state, batch).numpy()
        assert np.abs(ours - expected).max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_on_either_side_equals_alone_and_packed(model, processor, pages, side):
    alone = np.concatenate([model.encode_documents([page]) for page in pages])
    batch = processor(pages, padding_side=side)
    padded = last_token_embeddings(model(**batch).last_hidden_state, batch).numpy()
    packed = processor.pack(pages)
    together = last_token_embeddings(model(**packed).last_hidden_state, packed).numpy()
    assert np.abs(padded - alone).max() < TOLERANCE
    assert np.abs(together - alone).max() < TOLERANCE


def test_order_and_batch_size_change_nothing(model, pages):
    plain = model.encode_documents(pages, batch_tokens=100_000)
    assert np.abs(model.encode_documents(pages, batch_tokens=1) - plain).max() < TOLERANCE
    assert np.abs(model.encode_documents(pages[::-1])[::-1] - plain).max() < TOLERANCE
    assert np.allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-6)


def test_order_of_pictures_and_text_changes_the_vector(model):
    a, b, words = picture(56, 56, 1), picture(56, 56, 2), text("shows a moth by the lagoon")
    vectors = model.encode_documents([[a, words, b], [b, words, a], [words, a, b], [a, b, words]])
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    assert distances[~np.eye(4, dtype=bool)].min() > 1e-2


def test_query_instruction_is_for_queries_only(model, pages):
    assert np.abs(model.encode_queries(pages) - model.encode_documents(pages)).max() > 1e-2


@pytest.mark.parametrize("dim", [1, 16, 63])
def test_a_dimension_is_the_renormalised_prefix(model, pages, dim):
    full = model.encode_documents(pages)
    prefix = full[:, :dim] / np.linalg.norm(full[:, :dim], axis=1, keepdims=True)
    assert np.abs(model.encode_documents(pages, truncate_dim=dim) - prefix).max() < 1e-6


def test_a_dimension_beyond_the_embedding_is_refused():
    with pytest.raises(ValueError, match="truncate_dim 65: expected 1 to 64"):
        truncate(np.ones((1, 64), dtype=np.float32), 65)


@torch.no_grad()
def test_features_computed_once_replace_the_vision_tower(model, processor, pages):
    batch = processor.pack(pages)
    features = model.encode_images(batch["pixel_values"], batch["image_grid_thw"])
    assert len(features) == len(set(batch["image_index"].tolist())) < len(batch["image_index"])
    without = {name: value for name, value in batch.items() if name != "pixel_values"}
    plain = model(**batch).last_hidden_state
    assert torch.equal(model(**without, image_features=features).last_hidden_state, plain)


def test_gradients_of_packed_and_padded_are_equal(model, processor, pages):
    gradients = []
    for batch in (processor.pack(pages), processor(pages)):
        model.zero_grad()
        embeddings = last_token_embeddings(model(**batch).last_hidden_state, batch)
        (embeddings * torch.linspace(-1, 1, embeddings.numel()).view_as(embeddings)).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    packed, padded = gradients
    assert packed.keys() == padded.keys()
    for name, gradient in packed.items():
        scale = gradient.abs().max().clamp(min=1e-3)
        assert (gradient - padded[name]).abs().max() / scale < 1e-3, name


def test_saved_folder_loads_as_ours_and_as_stock(model, pages, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["Qwen2_5_VLModel"] and config["model_type"] == "qwen2_5_vl"
    assert config["auto_map"] == {
        "AutoConfig": "configuration_nyx.NyxConfig",
        "AutoModel": "modeling_nyx.NyxModel",
    }
    again = NyxModel.from_pretrained(tmp_path)
    assert np.array_equal(again.encode_queries(pages), model.encode_queries(pages))
    plain = AutoModel.from_pretrained(tmp_path)
    assert type(plain) is Qwen2_5_VLModel
    assert all(torch.equal(plain.state_dict()[name], value) for name, value in model.state_dict().items())


def test_the_processor_is_found_where_the_weights_are(model, processor, pages, tmp_path):
    model.save_pretrained(tmp_path / "best")
    assert np.array_equal(
        NyxModel.from_pretrained(tmp_path, subfolder="best").encode_queries(pages), model.encode_queries(pages)
    )


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_that_do_not_fit_are_refused(model, tmp_path, change):
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    if change == "missing":
        weights.pop("language_model.norm.weight")
    else:
        weights["language_model.extra.weight"] = torch.ones(2)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"1 {change} \['language_model"):
        NyxModel.from_pretrained(tmp_path)


def test_bad_items_are_named_before_anything_is_encoded(model, tmp_path):
    with pytest.raises(ValueError, match=r"Item 1: No such picture file"):
        model.encode_documents(["fine", [{"type": "image", "image": tmp_path / "none.png"}]])
    with pytest.raises(ValueError, match="Put it into a list"):
        model.encode_documents("one text")
    with pytest.raises(ValueError, match="batch_tokens is 0"):
        model.encode_documents(["a"], batch_tokens=0)
    with pytest.raises(ValueError, match="truncate_dim '16'"):
        model.encode_documents(["a"], truncate_dim="16")


def test_a_picture_broken_behind_its_header_is_named_and_the_model_trains_on(model, pages):
    buffer = io.BytesIO()
    colored(80, 80, 1).save(buffer, format="PNG")
    broken = [{"type": "image", "image": buffer.getvalue()[: len(buffer.getvalue()) // 2]}]
    model.train()
    with pytest.raises(BadImage, match=r"Item 2: picture of \d+ bytes cannot be decoded"):
        model.encode_documents([*pages[:2], broken, pages[2]])
    assert model.training
    model.eval()


def test_anything_that_can_be_gone_through_is_encoded(model, pages):
    assert np.array_equal(model.encode_documents(page for page in pages), model.encode_documents(pages))
    assert model.encode_documents([]).shape == (0, 64)


@torch.no_grad()
def test_the_same_mixin_serves_qwen3_vl(processor, pages, qwen3_folder):
    stock, model = Qwen3VLModel.from_pretrained(qwen3_folder).eval(), NyxQwen3VLModel.from_pretrained(qwen3_folder)
    for page in pages:
        batch = processor([page])
        expected = last_token_embeddings(stock(**batch).last_hidden_state, batch).numpy()
        assert np.abs(model.encode_documents([page]) - expected).max() < TOLERANCE
    assert (
        np.abs(model.encode_documents(pages) - np.concatenate([model.encode_documents([p]) for p in pages])).max()
        < TOLERANCE
    )
