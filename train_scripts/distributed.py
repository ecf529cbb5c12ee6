"""What training needs of several processes: everybody's embeddings, and the sum of everybody's gradients."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from nyx.errors import extra


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def use_gloo_alone() -> None:
    """Keep DeepSpeed on a CPU from compiling an all-reduce of its own, a minute in every new environment.

    It tries the compiler to find out which of its kernels it could have; told that it can have none, it takes gloo's.
    """
    with extra("train"):
        import deepspeed

    deepspeed.ops.__compatible_ops__ = {}


def gather_objects(value: object) -> list:
    """Return every process's value, in the order of ranks."""
    if not is_distributed():
        return [value]
    values: list = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def gather_rows(rows: Tensor, counts: list[int]) -> Tensor:
    """Concatenate every process's rows, of which rank r has `counts[r]`, in the order of ranks."""
    if not is_distributed():
        return rows
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def in_shares(embed: Callable[[Sequence[Any]], np.ndarray], items: Sequence[Any]) -> np.ndarray:
    """Embed items, every process its share of them; returns the embeddings of all (items, dim)."""
    if not is_distributed():
        return embed(items)
    parts = gather_objects(embed(items[dist.get_rank() :: dist.get_world_size()]))
    embeddings = np.empty((len(items), parts[0].shape[1]), dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        embeddings[rank :: len(parts)] = part
    return embeddings


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up gradients over processes; one that had no use for a parameter counts with zeros."""
    if not is_distributed():
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
