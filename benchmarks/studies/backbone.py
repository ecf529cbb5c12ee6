"""Does it matter what the retriever starts from: the reader's own weights, none, or another architecture?

    python -m benchmarks.studies.backbone

Stage 1 on the same examples, from the reader (the paper's one network for both), from the same architecture untrained,
with the circuit-shaped initialisation that the reader itself began with and with the stock one, and from an untrained
Qwen3-VL of the same widths and depths.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration, Qwen3VLConfig, Qwen3VLModel

from benchmarks.studies.study import Measured, Study
from benchmarks.studies.world import World
from dataset_builders.almanac import TINY_VLM
from modeling_nyx import NyxProcessor
from nyx.ranking import top
from train_scripts import stage1
from train_scripts.scoring import DEPTH
from train_scripts.train_reader import build_model


def stock(seed: int) -> Any:
    """Make the reader's architecture as transformers initialises it."""
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(AutoConfig.from_pretrained(TINY_VLM))


def circuits(seed: int) -> Any:
    """Make the reader as it was before its training: the same for every seed."""
    return build_model(NyxProcessor.from_pretrained(TINY_VLM).tokenizer)


def qwen3(seed: int) -> Any:
    """Make a Qwen3-VL of the reader's widths and depths, whose first vision layer also feeds the first text layer."""
    reader = AutoConfig.from_pretrained(TINY_VLM)
    text, vision = reader.text_config, reader.vision_config
    shared = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    config = Qwen3VLConfig(
        text_config={
            **{name: getattr(text, name) for name in shared},
            "vocab_size": text.vocab_size,
            "head_dim": text.hidden_size // text.num_attention_heads,
            "max_position_embeddings": text.max_position_embeddings,
            "rope_parameters": dict(text.rope_parameters),
        },
        vision_config={
            **{name: getattr(vision, name) for name in ("depth", "hidden_size", "intermediate_size", "num_heads")},
            "patch_size": vision.patch_size,
            "out_hidden_size": vision.out_hidden_size,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        **{
            name: getattr(reader, name)
            for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        },
    )
    torch.manual_seed(seed)
    return Qwen3VLModel(config)


STARTS: dict[str, Callable[[int], Any]] = {
    "Qwen2.5-VL, untrained circuits": circuits,
    "Qwen2.5-VL, untrained": stock,
    "Qwen3-VL, untrained": qwen3,
}


def train(world: World, name: str) -> str:
    """Train stage 1 from a start, unless it is there; returns its name."""
    output = world.folder / "studies" / "backbone" / name
    if not (output / "model.safetensors").exists():
        start = Path(f"{output}, start")
        STARTS[name](world.seed).save_pretrained(start)
        NyxProcessor.from_pretrained(TINY_VLM).save_pretrained(start)
        stage1.train(*stage1.parse(world.arguments(output, "--model_name_or_path", str(start)), "stage1"))
    return f"studies/backbone/{name}"


def measure(world: World) -> Measured:
    checkpoints = {READER: "stage 1"} | {name: train(world, name) for name in STARTS}
    return {"arms": {name: world.retrieved(top(*world.embed(place), DEPTH)) for name, place in checkpoints.items()}}


READER = "Qwen2.5-VL, the reader"
COMPARED = [(READER, name) for name in STARTS]
COMPARED += [("Qwen3-VL, untrained", "Qwen2.5-VL, untrained")]
STUDY = Study("backbone", __doc__, measure, COMPARED)

if __name__ == "__main__":
    STUDY.run()
