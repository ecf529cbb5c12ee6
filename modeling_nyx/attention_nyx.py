"""One attention function for padded and for packed input, in the language model and in the vision tower.

Its name contains "flash", because that is how transformers decides to hand cumulative lengths to the vision tower's
attention instead of calling it once a window.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NYX_ATTENTION = "nyx_flash_sdpa"
# Queries that attend together where later keys are hidden: what a block computes in vain is half of its square.
BLOCK = 128


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
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within segments of one packed row (1, heads, T, size), or, without cumulative lengths, as SDPA does.

    On a GPU in half precision torch's kernel takes all segments, the longest of `max_length_q`; elsewhere segments of
    equal length are attended together. Returns (batch, T, heads, size).
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
        )
    causal = bool(module.is_causal if is_causal is None else is_causal)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if not dropout and _has_kernel(value):
        longest = max_length_q or int(cu_seq_lens_q.diff().max())
        return _attend_at_once(query, key, value, cu_seq_lens_q.int(), longest, scale, causal)[None], None
    lengths = cu_seq_lens_q.diff().tolist()
    # Rotary embeddings may leave queries and keys in a wider type than the values.
    states = [each[0].transpose(0, 1) for each in (query, key, value.to(query.dtype))]
    order = _by_length(lengths)
    if order is not None:
        order = order.to(query.device)
        states = [each.index_select(0, order) for each in states]
    runs = [(length, lengths.count(length)) for length in sorted(set(lengths)) if length]
    # Split at once: a slice a segment would, going back, fill a gradient as large as the row for each of them.
    parts = zip(*(each.split([length * count for length, count in runs]) for each in states), strict=True)
    attend = _attend_on_cpu if query.device.type == "cpu" else _attend
    outputs = []
    for (length, count), run in zip(runs, parts, strict=True):
        queries, keys, values = (part.unflatten(0, (count, length)).transpose(1, 2) for part in run)
        outputs.append(attend(queries, keys, values, scale, dropout, causal).transpose(1, 2).flatten(0, 1))
    attended = torch.cat(outputs).to(value.dtype)
    if order is not None:
        attended = attended.index_select(0, order.argsort())
    return attended[None], None


def _has_kernel(states: Tensor) -> bool:
    """Tell whether torch's kernel for segments of any lengths runs where these states are."""
    return (
        torch.__version__ >= "2.11"  # before, it took other arguments
        and states.is_cuda
        and states.dtype in (torch.bfloat16, torch.float16)
        and states.shape[-1] % 8 == 0
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(states.device) >= (8, 0)
    )


def _attend_at_once(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scale: float, causal: bool
) -> Tensor:
    """Attend in all segments by one kernel: (T, heads, size), in the type of the values."""
    from torch.nn.attention.varlen import varlen_attn  # older versions of torch, which load a model too, have none

    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    query, key, value = (each[0].transpose(0, 1).to(value.dtype) for each in (query, key, value))
    window = (-1, 0) if causal else (-1, -1)
    attended: Any = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scale, window_size=window)
    return attended


def _by_length(lengths: list[int]) -> Tensor | None:
    """Return the rows of all segments, the shortest segments first, or None if they already lie so."""
    if all(length <= after for length, after in zip(lengths, lengths[1:], strict=False)):
        return None
    return torch.tensor(lengths).repeat_interleave(torch.tensor(lengths)).argsort(stable=True)


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float, causal: bool) -> Tensor:
    """Attend in each of several equally long segments: (segments, heads, length, size)."""
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=causal, scale=scale)


def _attend_on_cpu(query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float, causal: bool) -> Tensor:
    """Do the same by plain products: torch's own kernel takes 2.6 times as long in bfloat16, 1.3 times in float32."""
    segments, heads, length, size = query.shape
    # Heads that share keys and values are rows of one product.
    batch, groups, block = segments * key.shape[1], heads // key.shape[1], BLOCK if causal else length
    query = query.reshape(batch, groups, length, size)
    key, value = key.reshape(batch, length, size), value.reshape(batch, length, size)
    outputs = []
    for start in range(0, length, block):
        stop = min(start + block, length)
        seen = stop if causal else length
        rows = query[:, :, start:stop].reshape(batch, -1, size)
        scores = torch.baddbmm(rows.new_empty(1, 1, 1), rows, key[:, :seen].mT, beta=0, alpha=scale)
        if causal:
            hidden = torch.ones(stop - start, stop - start, dtype=torch.bool).triu(1)
            scores.view(batch, groups, stop - start, seen)[..., start:].masked_fill_(hidden, -math.inf)
        weights = scores.softmax(-1)
        if dropout:
            weights = F.dropout(weights, dropout)
        outputs.append((weights @ value[:, :seen]).view(batch, groups, stop - start, size))
    return torch.cat(outputs, dim=2).view(segments, heads, length, size)


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
