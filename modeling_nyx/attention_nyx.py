"""One attention function for padded and for packed input, in the language model and in the vision tower.

Its name contains "flash", because that is how transformers decides to hand cumulative lengths to the vision tower's
attention instead of calling it once a window.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NYX_ATTENTION = "nyx_flash_sdpa"


def nyx_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within segments of one packed row (1, heads, T, size), or, without cumulative lengths, as SDPA does.

    Segments of equal length go through scaled dot-product attention together. Returns (batch, T, heads, size).
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
        )
    causal = bool(module.is_causal if is_causal is None else is_causal)
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    ends = cu_seq_lens_q.tolist()
    order = sorted(range(len(ends) - 1), key=lambda segment: ends[segment + 1] - ends[segment])
    outputs = []
    for length, segments in _runs(order, ends):
        outputs.append(_attend(query, key, value, segments, length, scaling, dropout, causal))
    if order == list(range(len(order))):
        return torch.cat(outputs)[None], None
    positions = torch.cat([torch.arange(ends[segment], ends[segment + 1]) for segment in order])
    inverse = torch.empty_like(positions)
    inverse[positions] = torch.arange(len(positions))
    return torch.cat(outputs)[inverse.to(query.device)][None], None


def _runs(order: list[int], ends: list[int]) -> list[tuple[int, list[int]]]:
    """Group segments, already sorted by length, into (length, starts)."""
    runs: list[tuple[int, list[int]]] = []
    for segment in order:
        length = ends[segment + 1] - ends[segment]
        if length == 0:
            continue
        if not runs or runs[-1][0] != length:
            runs.append((length, []))
        runs[-1][1].append(ends[segment])
    return runs


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: list[int],
    length: int,
    scaling: float | None,
    dropout: float,
    causal: bool,
) -> Tensor:
    """Attend within segments of one length; returns their rows in order: (segments × length, heads, size)."""
    count, (_, heads, _, size) = len(starts), query.shape
    if starts[-1] - starts[0] == (count - 1) * length:
        rows: Any = slice(starts[0], starts[0] + count * length)
    else:
        rows = (torch.tensor(starts)[:, None] + torch.arange(length)).flatten().to(query.device)

    def batched(states: Tensor) -> Tensor:
        return states[0, :, rows].reshape(heads, count, length, size).transpose(0, 1)

    # Rotary embeddings may leave queries and keys in a wider type than the values.
    attended = F.scaled_dot_product_attention(
        batched(query),
        batched(key),
        batched(value).to(query.dtype),
        dropout_p=dropout,
        is_causal=causal,
        scale=scaling,
    )
    return attended.to(value.dtype).transpose(1, 2).reshape(count * length, heads, size)


def nyx_mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """Make SDPA's mask for padded input; packed rows, and rows without padding, need none."""
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


def use_nyx_attention(model: Any) -> None:
    """Make a loaded Qwen-VL model use `nyx_attention`.

    Set directly: transformers' own check would look for a kernel of that name on the Hub.
    """
    for part in (model.config, model.config.text_config, model.config.vision_config):
        part._attn_implementation_internal = NYX_ATTENTION


AttentionInterface.register(NYX_ATTENTION, nyx_attention)
AttentionMaskInterface.register(NYX_ATTENTION, nyx_mask)
