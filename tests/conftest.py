"""A tiny random model, its processor and pages, shared by all tests."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from dataset_builders.almanac_tokenizer import build_tokenizer
from modeling_nyx import NyxModel, NyxProcessor
from modeling_nyx.content_nyx import Content
from modeling_nyx.processing_nyx import MAX_PIXELS, MIN_PIXELS
from tests.hub import Hub, serve
from tests.hub_pages import TOKEN

torch.set_num_threads(1)

# Files that take longest, of few tests some of them: handed out last, one worker would be alone with them.
FIRST = "stages help distributed publish studies benchmarks train_reader demo protocol docs page_chunks upload".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    places = {f"test_{name}": place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the tables that tests recorded, also when they ran in workers."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "table" and report.when == "call":
                terminalreporter.write_line(f"\n{value}")


def colored(width: int, height: int, seed: int) -> Image.Image:
    """Draw a picture of coarse random blocks, unlike any of another seed."""
    blocks = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def picture(width: int, height: int, seed: int) -> dict:
    return {"type": "image", "image": colored(width, height, seed)}


def tiny_config(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "window_size": 112,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let `datasets` forget earlier runs: it takes folders of one name, whatever they hold, for the same dataset."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("datasets"))
        patch.setenv("HF_DATASETS_CACHE", folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", Path(folder))
        yield


@pytest.fixture(autouse=True)
def default_precision() -> None:
    """Forget what a training said of torch's products: in another precision batches differ in a bit."""
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub of this test's own, which `huggingface_hub` in this process speaks to."""
    with serve() as server:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture(scope="session")
def tokenizer() -> Qwen2Tokenizer:
    return build_tokenizer()


@pytest.fixture(scope="session")
def processor(tokenizer: Qwen2Tokenizer) -> NyxProcessor:
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS})
    return NyxProcessor(images, tokenizer, append_eos=True, query_instruction="Find what answers: ")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, processor: NyxProcessor) -> Path:
    """A vision-language model as its own class saves it, with weights large enough for order to matter."""
    folder = tmp_path_factory.mktemp("vlm")
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(tiny_config(processor.tokenizer))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> NyxModel:
    return NyxModel.from_pretrained(model_folder).eval()


@pytest.fixture(scope="session")
def qwen3_folder(tmp_path_factory: pytest.TempPathFactory, processor: NyxProcessor) -> Path:
    """The same for Qwen3-VL."""
    folder, tokenizer = tmp_path_factory.mktemp("qwen3"), processor.tokenizer
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    torch.manual_seed(0)
    Qwen3VLModel(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pages() -> list[Content]:
    """Contents of every shape: text, pictures alone and in between, short and long, wide and high."""
    return [
        [text("The moth Vela mirabilis lives by the salt marsh.")],
        [picture(56, 56, 1)],
        [text("Short")],
        [text("A wide picture: "), picture(200, 90, 2), text(" and nothing else.")],
        [picture(84, 56, 3), text("first, then"), picture(112, 140, 4), text("and last"), picture(60, 61, 5)],
        [text("It lives by the lagoon. " * 30)],
        [text("Twice the same:"), picture(56, 56, 1), picture(56, 56, 1)],
        [picture(300, 280, 6), text("What is this?")],
    ]


def free_port() -> int:
    """Find a port of this machine that nobody listens on, so that test runs side by side don't meet."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: what a full disk is to one who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
