"""A circuit-shaped initialisation for the tiny VLM; every weight is trained afterwards.

From the stock initialisation a model this small does not begin to copy from its context within minutes of training.
Here its first two layers start as the circuit that copying needs: layer 0 looks a few tokens back and writes what it
sees into subspaces of its own, layer 1 compares those subspaces with the present token (an induction head) and with
the tokens just before it (two heads that match bags of words). Later layers start with equal queries and keys, and
outputs that are transposed values.
"""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

EMBEDDING_SCALE = 0.1
MATCH_SCALE = 1.6
OUTPUT_SCALE = 0.7
# Layer 0, head by head: how many tokens back it looks, and how sharply.
LOOK_BACK = ((1, 6.0), (2, 6.0), (4, 2.2), (8, 1.6))


@torch.no_grad()
def init_circuits(model: Qwen2_5_VLForConditionalGeneration, seed: int = 0) -> None:
    """Overwrite the initial weights of a model with four attention heads (as many as keys) of at least two layers."""
    generator = torch.Generator().manual_seed(seed)
    text = model.config.text_config
    if text.num_attention_heads != len(LOOK_BACK) or text.num_key_value_heads != len(LOOK_BACK):
        raise ValueError(
            f"The circuit-shaped initialisation is for {len(LOOK_BACK)} attention heads with a key head each; the "
            f"configuration has {text.num_attention_heads} and {text.num_key_value_heads}."
        )
    language_model = model.model.language_model
    normal_(language_model.embed_tokens.weight, EMBEDDING_SCALE, generator)
    for layer in language_model.layers:
        _init_layer(layer, generator)
    reads, writes = _init_look_back(language_model, generator)
    _init_matching(language_model.layers[1].self_attn, reads, writes)
    for name, parameter in model.model.visual.named_parameters():
        if parameter.ndim == 2:
            normal_(parameter, (0.8 if "blocks" in name else 1.0) / math.sqrt(parameter.shape[1]), generator)


def normal_(parameter: Tensor, scale: float, generator: torch.Generator) -> None:
    parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def orthogonal(size: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator))[0]


def _init_layer(layer: Any, generator: torch.Generator) -> None:
    """Start with equal queries and keys, and with outputs that undo the values, scaled to the embeddings."""
    attention, mlp = layer.self_attn, layer.mlp
    hidden = attention.q_proj.weight.shape[1]
    normal_(attention.q_proj.weight, 1 / math.sqrt(hidden), generator)
    attention.k_proj.weight.copy_(attention.q_proj.weight)
    attention.v_proj.weight.copy_(orthogonal(hidden, generator))
    attention.o_proj.weight.copy_(attention.v_proj.weight.T * OUTPUT_SCALE * EMBEDDING_SCALE)
    for projection in (mlp.gate_proj, mlp.up_proj):
        normal_(projection.weight, 1 / math.sqrt(hidden), generator)
    normal_(mlp.down_proj.weight, 0.3 / math.sqrt(mlp.down_proj.weight.shape[1]), generator)


def _init_look_back(language_model: Any, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Make layer 0's heads look back by rotary phase alone: biases whose product peaks at the wanted distance.

    Returns what each head reads of the embedding (head, hidden) and where it writes it (hidden, head).
    """
    attention = language_model.layers[0].self_attn
    hidden, size = attention.q_proj.weight.shape[1], attention.head_dim
    frequencies = language_model.rotary_emb.inv_freq
    attention.o_proj.weight.copy_(attention.v_proj.weight.T * OUTPUT_SCALE)
    reads, writes = [], []
    for head, (distance, sharpness) in enumerate(LOOK_BACK):
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[rows] *= 0.1
        attention.k_proj.weight[rows] *= 0.1
        attention.q_proj.bias[rows] = sharpness * torch.cat([torch.ones(size // 2), torch.zeros(size // 2)])
        phases = frequencies * distance
        attention.k_proj.bias[rows] = sharpness * torch.cat([phases.cos(), phases.sin()])
        reads.append(orthogonal(hidden, generator)[:, :size].T)
        writes.append(orthogonal(hidden, generator)[:, :size])
        attention.v_proj.weight[rows] = reads[-1]
        attention.o_proj.weight[:, rows] = writes[-1] * 3 * EMBEDDING_SCALE
    return reads, writes


def _init_matching(attention: Any, reads: list[Tensor], writes: list[Tensor]) -> None:
    """Make layer 1 match: the present token with the one before each key, and recent tokens with recent tokens."""
    size = attention.head_dim
    attention.q_proj.weight[:size] = reads[0] * MATCH_SCALE
    attention.k_proj.weight[:size] = writes[0].T * MATCH_SCALE
    for head in (1, 2):
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[rows] = writes[head + 1].T * MATCH_SCALE
        attention.k_proj.weight[rows] = writes[head + 1].T * MATCH_SCALE
