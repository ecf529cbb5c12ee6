"""One folder, many loaders: the same contents give the same vectors through each of them."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer, Qwen2_5_VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from modeling_nyx import NyxModel
from nyx.messages import to_messages
from tests.conftest import picture, text

INSTRUCTION = "Find what answers: "
WORDS = ["the moth", "lives by", "the lagoon", "at night,", "and its", "wings are", "blue-grey.\n", "Nachtfalter 蛾"]


def some_text(number: int, length: int) -> dict:
    return text(" ".join(WORDS[(number * 3 + place * (number + 1)) % len(WORDS)] for place in range(length)))


def forty_contents() -> dict[str, list]:
    """Eight contents of each of five kinds; sizes of pictures are such that some are resized and some are not."""
    numbers = range(8)
    return {
        "text": [[some_text(number, 1 + 4 * number)] for number in numbers],
        "image": [[picture(28 * (1 + number % 4) + 5 * number, 56 + 11 * number, number)] for number in numbers],
        "interleaved": [
            [some_text(number, 3), picture(84, 56 + number, number), some_text(number + 1, 5), picture(200, 90, 9)]
            for number in numbers
        ],
        "many pictures": [
            [item for place in range(2 + number) for item in (picture(56, 56, place), some_text(place, 2))]
            for number in numbers
        ],
        "long": [[some_text(number, 120), picture(300, 280, number), some_text(number, 60)] for number in numbers],
    }


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("loaders")
    model.save_pretrained(path)
    return path


def through_stock_classes(folder: Path, contents: list, instruction: str) -> np.ndarray:
    """Embed by stock model, tokenizer and image processor alone, one by one, as serialisation is defined."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert type(model) is Qwen2_5_VLModel
    images = Qwen2VLImageProcessorPil.from_pretrained(folder)
    vectors = []
    for content in contents:
        pictures = [item["image"] for item in content if item["type"] == "image"]
        pixels: dict[str, Any] = dict(images(pictures, return_tensors="pt")) if pictures else {}
        counts = iter((pixels["image_grid_thw"].prod(1) // 4).tolist() if pictures else [])
        string = instruction
        for item in content:
            image = item["type"] == "image"
            string += f"<|vision_start|>{'<|image_pad|>' * next(counts)}<|vision_end|>" if image else item["text"]
        ids = tokenizer(string + "<|im_end|>", return_tensors="pt")["input_ids"]
        types = (ids == model.config.image_token_id).int()
        with torch.no_grad():
            states = model(input_ids=ids, mm_token_type_ids=types, **pixels).last_hidden_state
        vectors.append(torch.nn.functional.normalize(states[0, -1], dim=0).numpy())
    return np.stack(vectors)


def loaders(folder: Path) -> dict[str, Any]:
    """Each as a function of contents and role; those that need torchvision only where it is."""
    remote = AutoModel.from_pretrained(folder, trust_remote_code=True)
    sentence = SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")

    def through(encoder: Any) -> Any:
        def encode(contents: list, role: str) -> np.ndarray:
            encode = encoder.encode_query if role == "query" else encoder.encode_document
            return encode([to_messages(content) for content in contents])

        return encode

    found = {
        "AutoModel, remote code": lambda contents, role: (
            remote.encode_queries(contents) if role == "query" else remote.encode_documents(contents)
        ),
        "AutoModel, stock": lambda contents, role: through_stock_classes(
            folder, contents, INSTRUCTION if role == "query" else ""
        ),
        "SentenceTransformer, remote code": through(sentence),
    }
    if find_spec("torchvision"):
        found["SentenceTransformer, stock"] = through(SentenceTransformer(str(folder), device="cpu"))
    return found


def test_forty_contents_through_every_loader(folder, record_property):
    model, contents = NyxModel.from_pretrained(folder), forty_contents()
    assert sum(map(len, contents.values())) == 40
    rows = [f"{'maximum difference from NyxModel':<36}" + "".join(f"{kind:>15}" for kind in contents)]
    for name, encode in loaders(folder).items():
        cells = []
        for kind, group in contents.items():
            pairs = [(model.encode_documents(group), encode(group, "document"))]
            pairs += [(model.encode_queries(group), encode(group, "query"))]
            cells.append(max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs))
            cosine = min(float((ours * theirs).sum(1).min()) for ours, theirs in pairs)
            # Stock processors resize with torchvision, which rounds otherwise.
            resized = name == "SentenceTransformer, stock" and kind != "text"
            assert cosine >= 0.999 if resized else cells[-1] < 1e-4, (name, kind, cells[-1], cosine)
        rows.append(f"{name:<36}" + "".join(f"{cell:15.1e}" for cell in cells))
    record_property("table", "\n".join(rows))


@pytest.mark.skipif(not find_spec("torchvision"), reason="the stock processor needs torchvision")
def test_stock_classes_agree_beyond_the_window_or_refuse(folder):
    stock = SentenceTransformer(str(folder), device="cpu")
    model = NyxModel.from_pretrained(folder)
    long = ["a moth " * 2000]
    assert np.abs(model.encode_documents(long) - stock.encode_document(long)).max() < 1e-4
    with pytest.raises(ValueError, match="Mismatch"):
        stock.encode_document([to_messages([picture(56, 56, 1)] * 250)])


@pytest.mark.skipif(not find_spec("torchvision"), reason="the stock processor needs torchvision")
def test_stock_classes_refuse_what_they_would_lose(folder):
    stock = SentenceTransformer(str(folder), device="cpu")
    with pytest.raises(Exception, match="one of type 'message' came"):
        stock.encode_document([to_messages("a"), "b"])


@pytest.mark.skipif(bool(find_spec("torchvision")), reason="only without torchvision")
def test_without_torchvision_stock_classes_say_so(folder):
    with pytest.raises(ImportError, match="(?i)torchvision"):
        SentenceTransformer(str(folder), device="cpu")


SCRIPT = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_nyx", "nyx", "dataset_builders", "train_scripts"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], trust_remote_code=True, device="cpu")
print(json.dumps(model.encode_query(["a moth", {"text": "which?", "image": sys.argv[2]}]).tolist()))
"""


def test_sentence_transformers_alone_in_a_new_process(folder, model, tmp_path):
    image = picture(90, 60, 3)["image"]
    image.save(tmp_path / "moth.png")
    settings = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-P", "-c", SCRIPT, str(folder), str(tmp_path / "moth.png")]
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr[-2000:]
    expected = model.encode_queries(["a moth", {"text": "which?", "image": image}])
    assert np.abs(np.array(json.loads(run.stdout.splitlines()[-1])) - expected).max() < 1e-4
