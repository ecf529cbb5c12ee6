"""A folder shaped as the paper's released checkpoints embeds as their own code does.

That is: raw text without template or end token, pictures as start mark, tokens, end mark; the last token that isn't
padding; pictures of 4 to 400 tokens. The expected vectors come from stock classes alone.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from modeling_nyx import NyxModel
from nyx.models import load_encoder
from tests.conftest import picture, text

INSTRUCTION = "Please retrieve the most relevant document to answer the question.\n"
# What transformers 4.52 wrote for Qwen2.5-VL.
PREPROCESSOR = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "max_pixels": 12845056,
    "merge_size": 2,
    "min_pixels": 3136,
    "patch_size": 14,
    "processor_class": "Qwen2_5_VLProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": 12845056, "shortest_edge": 3136},
    "temporal_patch_size": 2,
}
CONTENTS = [
    [text("Vela mirabilis\nThe moth lives by the salt marsh.")],
    [picture(60, 100, 1)],
    [text("What is "), picture(900, 800, 2), text(" this?\n"), picture(28, 28, 3)],
    [picture(56, 56, 4), picture(700, 90, 5), text("two")],
    [text("in the end a picture "), picture(10, 12, 6)],
]


def flat(config: dict) -> dict:
    """Spell a configuration as the original Qwen2.5-VL's is: the language model's values at the top."""
    inner = config.pop("text_config")
    rope = inner.pop("rope_parameters")
    inner |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    return inner | config | {"model_type": "qwen2_5_vl"}


def nested(config: dict) -> dict:
    """Spell a configuration as transformers 4.52 did: the language model's values at the top and by themselves."""
    inner = config["text_config"]
    rope = inner.pop("rope_parameters")
    sections = {"rope_type": "default", "type": "default", "mrope_section": rope["mrope_section"]}
    inner |= {"rope_theta": rope["rope_theta"], "rope_scaling": sections}
    return {**inner, **config, "model_type": "qwen2_5_vl"}


@pytest.fixture(scope="module", params=[lambda config: config, nested, flat], ids=["today", "4.52", "original"])
def folder(request, model_folder, tmp_path_factory) -> Path:
    """Merged weights of the stock class with stock processor files, and nothing of Nyx."""
    path = tmp_path_factory.mktemp("official")
    Qwen2_5_VLForConditionalGeneration.from_pretrained(model_folder).model.save_pretrained(path)
    config = request.param(json.loads((path / "config.json").read_text()))
    assert config["architectures"] == ["Qwen2_5_VLModel"]
    (path / "config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    template, tokenizer.chat_template = tokenizer.chat_template, None
    tokenizer.save_pretrained(path)
    (path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    (path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    assert not {"processor_config.json", "modules.json"} & {each.name for each in path.iterdir()}
    return path


@torch.no_grad()
def official(folder: Path, model_folder: Path, contents: list, instruction: str = "") -> np.ndarray:
    """Embed a padded batch by stock classes, with the paper's pixel cap given outright."""
    model = Qwen2_5_VLModel.from_pretrained(model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 4 * 28 * 28, "longest_edge": 400 * 28 * 28})
    pixels = images(
        [item["image"] for each in contents for item in each if item["type"] == "image"], return_tensors="pt"
    )
    counts = iter((pixels["image_grid_thw"].prod(1) // 4).tolist())
    strings = []
    for content in contents:
        string = instruction
        for item in content:
            image = item["type"] == "image"
            string += f"<|vision_start|>{'<|image_pad|>' * next(counts)}<|vision_end|>" if image else item["text"]
        strings.append(string)
    batch = tokenizer(strings, padding=True, padding_side="right", return_tensors="pt")
    types = (batch["input_ids"] == model.config.image_token_id).int()
    states = model(**batch, mm_token_type_ids=types, **pixels).last_hidden_state
    last = states[torch.arange(len(contents)), batch["attention_mask"].sum(1) - 1]
    return torch.nn.functional.normalize(last, dim=-1).numpy()


def test_vectors_are_the_official_codes(folder, model_folder):
    model = load_encoder(folder, dtype=torch.float32)
    assert type(model) is NyxModel and not model.processor.append_eos
    assert np.abs(model.encode_documents(CONTENTS) - official(folder, model_folder, CONTENTS)).max() < 1e-5


def test_instructions_are_the_callers(folder, model_folder):
    model = load_encoder(folder, dtype=torch.float32)
    instructed = [[text(INSTRUCTION), *content] for content in CONTENTS]
    expected = official(folder, model_folder, CONTENTS, INSTRUCTION)
    assert np.abs(model.encode_queries(instructed) - expected).max() < 1e-5
    assert np.abs(model.encode_queries(CONTENTS) - model.encode_documents(CONTENTS)).max() < 1e-6


def test_the_end_token_would_change_them(folder, model_folder):
    ended = [[*content, text("<|im_end|>")] for content in CONTENTS]
    assert (
        np.abs(
            load_encoder(folder, dtype=torch.float32).encode_documents(CONTENTS)
            - official(folder, model_folder, ended)
        ).max()
        > 1e-2
    )


def test_the_cap_is_the_papers_and_no_picture_is_larger(folder):
    processor = load_encoder(folder).processor
    assert dict(processor.image_processor.size) == {"shortest_edge": 3136, "longest_edge": 313600}
    grid = processor([[picture(3000, 2000, 1)]])["image_grid_thw"]
    assert 300 < int(grid.prod()) // 4 <= 400


def test_saved_again_it_is_complete_and_the_same(folder, tmp_path):
    model = load_encoder(folder, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "modules.json").exists()
    again = NyxModel.from_pretrained(tmp_path)
    assert np.array_equal(again.encode_documents(CONTENTS), model.encode_documents(CONTENTS))
