"""Encoders load by name, and a fingerprint tells their weights apart."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from modeling_nyx import NyxModel
from nyx.local_engine import LocalEngine
from nyx.models import fingerprint, load_encoder, native_dtype


def test_a_folder_loads_as_its_backbone(model_folder):
    assert type(load_encoder(model_folder)) is NyxModel


def test_other_backbones_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="is a bert; expected one of qwen2_5_vl, qwen3_vl"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("cut", [0, 5, 1000, -100])
@pytest.mark.parametrize("load", [load_encoder, LocalEngine.load])
def test_weights_that_are_cut_short_are_named(model_folder, load, cut, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "vlm")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(ValueError, match=f"{weights} is damaged or cut short .* Download or save it again"):
        load(folder)


def test_fingerprint_depends_on_weights_and_settings_alone(model, tmp_path):
    for name in ("one", "other"):
        model.save_pretrained(tmp_path / name)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "other")
    (tmp_path / "one" / "README.md").write_text("x")
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "other")
    weights = tmp_path / "other" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "other")
    assert fingerprint("org/nyx") == "org/nyx"


def test_weights_come_in_the_type_that_the_machine_computes_or_that_is_asked_for(model_folder):
    assert load_encoder(model_folder).dtype == native_dtype()
    assert load_encoder(model_folder, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("load", [load_encoder, LocalEngine.load])
def test_models_run_on_the_machines_accelerator_unless_told_otherwise(model_folder, monkeypatch, load):
    for module in ("nyx.models", "nyx.local_engine"):
        monkeypatch.setattr(f"{module}.default_device", lambda: "meta")

    def device(loaded):
        return getattr(loaded, "model", loaded).device.type

    assert device(load(model_folder)) == "meta"
    assert device(load(model_folder, device="cpu")) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU its own abilities count")
@pytest.mark.parametrize(("flags", "dtype"), [("fpu avx512_bf16 sse", torch.bfloat16), ("fpu avx512f", torch.float32)])
def test_the_processor_says_what_it_computes(monkeypatch, flags, dtype):
    monkeypatch.setattr(Path, "read_text", lambda path: f"flags : {flags}")
    assert native_dtype() == dtype
