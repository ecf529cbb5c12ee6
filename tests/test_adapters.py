"""An adapter alone gives what the trained model gave, or is refused: it never does nothing in silence."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from modeling_nyx import NyxModel, NyxProcessor
from nyx.adapters import apply_adapter, save_adapter

CONTENTS = ["a moth", "the lagoon"]


@pytest.fixture
def trained(model_folder, tmp_path):
    """An encoder with a LoRA adapter that does something, saved, and the adapter's folder."""
    encoder = NyxModel.from_pretrained(model_folder)
    own = encoder.processor
    encoder.processor = NyxProcessor(own.image_processor, own.tokenizer, False, "Another instruction: ")
    model = get_peft_model(encoder, LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    torch.manual_seed(0)
    save_adapter(model, tmp_path)
    return model, tmp_path


def test_an_adapter_gives_the_trained_models_vectors(trained, model_folder):
    model, folder = trained
    expected = model.merge_and_unload().encode_queries(CONTENTS)
    encoder = NyxModel.from_pretrained(model_folder)
    before = encoder.encode_queries(CONTENTS)
    merged = apply_adapter(encoder, folder)
    assert type(merged) is NyxModel
    assert np.abs(merged.encode_queries(CONTENTS) - expected).max() < 1e-6
    assert np.abs(expected - before).max() > 1e-2


def test_a_merged_adapter_changes_the_output_itself(trained, model_folder):
    _, folder = trained
    encoder = NyxModel.from_pretrained(model_folder)
    own = encoder.processor
    before = encoder.encode_documents(CONTENTS)
    merged = apply_adapter(encoder, folder)
    merged.processor = own
    assert np.abs(merged.encode_documents(CONTENTS) - before).max() > 1e-2


@pytest.mark.parametrize("change", ["renamed", "missing", "reshaped"])
def test_keys_that_do_not_match_are_refused(trained, model_folder, change):
    _, folder = trained
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    value = weights.pop(name)
    if change == "renamed":
        weights[name.replace("language_model.", "")] = value
    if change == "reshaped":
        weights[name] = value[:1].clone()
    save_file(weights, path)
    counts = {
        "renamed": "1 keys missing .* 1 unexpected",
        "missing": "1 keys missing",
        "reshaped": "1 of another shape",
    }
    with pytest.raises(ValueError, match=counts[change]):
        apply_adapter(NyxModel.from_pretrained(model_folder), folder)


def test_a_pickled_adapter_is_refused(trained, model_folder):
    _, folder = trained
    path = folder / "adapter_model.safetensors"
    torch.save(load_file(path), folder / "adapter_model.bin")
    path.unlink()
    with pytest.raises(OSError, match="adapter_model.safetensors"):
        apply_adapter(NyxModel.from_pretrained(model_folder), folder)
