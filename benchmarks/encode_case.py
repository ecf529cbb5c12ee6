"""What encoding is measured on: a mid-sized Qwen2.5-VL of random weights, and mixed documents of seeded content."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from dataset_builders.almanac_tokenizer import build_tokenizer
from modeling_nyx import NyxConfig, NyxModel, NyxProcessor
from modeling_nyx.content_nyx import Content
from modeling_nyx.processing_nyx import MAX_PIXELS, MIN_PIXELS

WORDS = (
    "the moth lives by the salt marsh and flies in May its wings are pale with two dark bands a small eye near the "
    "edge found on old walls rests by day under leaves seen again after rain one brood a year rare in the north"
).split()
WINDOW = 4096
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY_VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
Shape = tuple[dict[str, Any], dict[str, Any]]  # of the language model, and of the vision tower
TEXT = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8}
VISION = {"depth": 4, "hidden_size": 256, "intermediate_size": 688, "num_heads": 4}


def write_checkpoint(
    folder: Path,
    tiny: bool = False,
    shape: Shape = (TEXT, VISION),
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Path:
    """Save a model of random weights, drawn on `device`: about 25 M (`tiny`: a hundredth of them), or of a `shape`."""
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = WINDOW
    text, vision = (TINY, TINY_VISION) if tiny else shape
    half = text["hidden_size"] // text["num_attention_heads"] // 2
    marks = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    config = NyxConfig(
        text_config={"vocab_size": len(tokenizer)}
        | text
        | {
            "num_key_value_heads": 2,
            "max_position_embeddings": WINDOW,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [half // 4, half * 3 // 8, half * 3 // 8],
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={"fullatt_block_indexes": [vision["depth"] - 1]}
        | vision
        | {"window_size": 112, "out_hidden_size": text["hidden_size"]},
        image_token_id=marks["image_pad"],
        video_token_id=marks["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = NyxModel._from_config(config, dtype=dtype)
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS})
    model.processor = NyxProcessor(images, tokenizer, append_eos=True, query_instruction="Find what answers: ")
    model.save_pretrained(folder)
    return folder


def picture(width: int, height: int, random: np.random.Generator) -> bytes:
    """Draw soft random blobs as a JPEG file, about as large as a photograph of that size."""
    blobs = Image.fromarray(random.integers(0, 255, (height // 14 + 1, width // 14 + 1, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    blobs.resize((width, height), Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def document(random: np.random.Generator, words: int, pictures: int, side: int) -> Content:
    """Write a document of so many words on average, and pictures of about `side` pixels in between."""
    parts: list[dict[str, Any]] = []
    for number in range(pictures + 1):
        count = max(1, int(words / (pictures + 1) * random.uniform(0.2, 1.8)))
        parts.append({"type": "text", "text": " ".join(random.choice(WORDS, count)) + "\n"})
        if number < pictures:
            width, height = (int(edge) for edge in random.uniform(0.6, 1.4, 2) * side)
            parts.append({"type": "image", "image": picture(width, height, random)})
    return parts


def documents(count: int, seed: int = 0, *, words: int = 62, pictures: int | None = None) -> list[Content]:
    """Write different mixed documents: about 60 words, and 0 to 4 pictures of 200 to 500 pixels (or `pictures`)."""
    random = np.random.default_rng(seed)
    counts = random.permutation(np.arange(count) % 5) if pictures is None else np.full(count, pictures)
    return [document(random, words, int(number), 337) for number in counts]
