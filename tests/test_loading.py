"""Folders that cannot be used are refused with a reason: nothing is guessed, nothing pickled is opened."""

import json

import pytest
import torch
from safetensors.torch import load_file

from modeling_nyx import NyxModel
from nyx.models import load_encoder


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    return tmp_path


def test_pickled_weights_are_refused_unopened(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    for load in (
        load_encoder,
        NyxModel.from_pretrained,
        lambda path: NyxModel.from_pretrained(path, use_safetensors=0),
    ):
        with pytest.raises(OSError, match="no file named model.safetensors .* Nyx reads safetensors only"):
            load(folder)


def test_a_missing_shard_is_named(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert NyxModel.from_pretrained(tmp_path)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "config.json' is not a valid JSON file"), ("", "is not a valid JSON file"), ("[]", "model_type|a list")],
)
def test_a_broken_configuration_is_named(folder, text, message):
    (folder / "config.json").write_text(text)
    for load in (load_encoder, NyxModel.from_pretrained):
        with pytest.raises((OSError, ValueError), match=message):
            load(folder)


def test_another_backbone_is_refused_before_anything_is_built(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="config.json describes a bert; NyxConfig expects a qwen2_5_vl"):
        NyxModel.from_pretrained(folder)


def test_a_missing_vocabulary_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="Are all of its files there, tokenizer.json too"):
        NyxModel.from_pretrained(folder).encode_documents(["a moth"])


def test_a_missing_or_broken_processor_is_named(folder):
    (folder / "processor_config.json").write_text("{")
    with pytest.raises(OSError, match="processor_config.json' is not a valid JSON"):
        NyxModel.from_pretrained(folder).encode_documents(["a moth"])
    (folder / "processor_config.json").unlink()
    with pytest.raises(OSError, match="preprocessor_config.json"):
        NyxModel.from_pretrained(folder).encode_documents(["a moth"])


def test_a_configuration_cannot_name_an_attention_kernel(folder, model):
    config = json.loads((folder / "config.json").read_text())
    config["_attn_implementation_internal"] = "someone/kernel"
    (folder / "config.json").write_text(json.dumps(config))
    assert NyxModel.from_pretrained(folder).config._attn_implementation == model.config._attn_implementation
