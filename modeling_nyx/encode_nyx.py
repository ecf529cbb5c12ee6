"""Contents as embeddings: packed under a budget of tokens, side by side, a picture that comes back only once.

A vector doesn't depend on what is encoded with it: on a CPU it is the same to the bit.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature

from .images_nyx import BadImage
from .rows_nyx import Row, filler, group_by_tokens
from .workers_nyx import in_processes, in_threads, torch_threads

logger = logging.getLogger(__name__)

# A processor's caches hold little; an accelerator wants much at once.
TOKENS_ON_CPU = 1024
TOKENS = 4096
PATCHES_A_TOKEN = 4
MOST_PROCESSES = 8

# Indices of rows, their vectors (rows, dim), and the errors of rows whose pictures turned out to be broken.
Encoded = tuple[list[int], np.ndarray, dict[int, ValueError]]


def encode_rows(
    model: Any, rows: Mapping[int, Row], batch_tokens: int | None, workers: int | None
) -> Iterator[Encoded]:
    """Embed rows of any index, group by group, the shortest first."""
    on_cpu = model.device.type == "cpu"
    indices, lengths = list(rows), [len(row.ids) for row in rows.values()]
    longer = sum(length > batch_tokens for length in lengths) if batch_tokens else 0
    if longer:
        logger.warning("%d contents have more than batch_tokens=%d tokens: each runs alone.", longer, batch_tokens)
    if on_cpu and model.dtype == torch.bfloat16 and not cpu_has_bfloat16():
        logger.warning(
            "The model is in bfloat16, which this CPU has to emulate, tens of times slower than float32. Load it with "
            "dtype=torch.float32."
        )
    limit = batch_tokens or (TOKENS_ON_CPU if on_cpu else TOKENS)
    groups = [[indices[place] for place in group] for group in group_by_tokens(lengths, limit)]
    in_order = partial(_side_by_side, on_cpu, default_workers(on_cpu) if workers is None else workers)
    known = _repeated_pictures(model, [[rows[index] for index in group] for group in groups], limit, in_order)

    @torch.no_grad()  # which holds for the thread that says it
    def embed(packed: tuple[list[int], BatchFeature, dict[int, ValueError]]) -> Encoded:
        group, batch, failed = packed
        if not group:
            return group, np.empty((0, model.config.text_config.hidden_size), dtype=np.float32), failed
        return group, model.embed(batch.to(model.device), known)[1:].cpu().numpy(), failed

    yield from in_order(partial(_pack, model.processor, rows, known), embed, groups)


def cpu_has_bfloat16() -> bool:
    """Tell whether this machine's CPU multiplies bfloat16 by itself."""
    about = Path("/proc/cpuinfo")
    known = set(about.read_text().split()) if about.exists() else set()
    return bool(known & {"avx512_bf16", "amx_bf16", "bf16"})


def default_workers(on_cpu: bool) -> int:
    """Return how many threads encode on a CPU, and how many processes decode pictures for an accelerator."""
    return torch_threads() if on_cpu else min((os.cpu_count() or 1) - 1, MOST_PROCESSES)


def _side_by_side(
    on_cpu: bool, workers: int, prepare: Callable[[Any], Any], finish: Callable[[Any], Any], items: Sequence[Any]
) -> Iterator[Any]:
    """Yield `finish(prepare(item))` in order: in threads on a CPU, else overlapped with preparing in processes."""
    if on_cpu:
        yield from in_threads(lambda item: finish(prepare(item)), items, workers)
    else:
        yield from map(finish, in_processes(prepare, items, workers))


def _pack(
    processor: Any, rows: Mapping[int, Row], known: Mapping[str, Tensor], group: list[int]
) -> tuple[list[int], BatchFeature, dict[int, ValueError]]:
    """Pack a group behind a filler; rows whose pictures are broken are left out, and their errors returned."""
    failed: dict[int, ValueError] = {}
    while True:
        packed = [rows[index] for index in group]
        try:
            return group, processor.pack_rows([filler(packed), *packed], known), failed
        except BadImage:
            failed |= _broken(processor, rows, known, group)
            group = [index for index in group if index not in failed]


def _broken(
    processor: Any, rows: Mapping[int, Row], known: Mapping[str, Tensor], group: list[int]
) -> dict[int, ValueError]:
    """Return the errors of those rows of a group whose pictures are broken behind their headers."""
    failed: dict[int, ValueError] = {}
    for index in group:
        try:
            processor.pack_rows([rows[index]], known)
        except BadImage as error:
            failed[index] = error
    return failed


def _repeated_pictures(
    model: Any, groups: Sequence[Sequence[Row]], limit: int, in_order: Callable[..., Iterator[dict[str, Tensor]]]
) -> dict[str, Tensor]:
    """Encode the pictures that occur in several groups; returns their features by key."""
    counts = Counter(key for group in groups for key in {key for row in group for key in row.keys})
    pictures = {
        key: (image, grid)
        for group in groups
        for row in group
        for key, image, grid in zip(row.keys, row.images, row.grids, strict=True)
        if counts[key] > 1
    }

    def prepare(keys: list[str]) -> tuple[list[str], list[Tensor]]:
        pixels = {}
        for key in keys:
            with suppress(BadImage):  # the contents that hold it are named when they are packed
                pixels[key] = model.processor.pixels([pictures[key]])
        # Together: a process hands every tensor over as an open file, and there are only so many.
        names = ("pixel_values", "image_grid_thw") if pixels else ()
        return list(pixels), [torch.cat([each[name] for each in pixels.values()]) for name in names]

    @torch.no_grad()
    def finish(prepared: tuple[list[str], list[Tensor]]) -> dict[str, Tensor]:
        keys, inputs = prepared
        if not keys:
            return {}
        return dict(zip(keys, model.encode_images(*(each.to(model.device) for each in inputs)), strict=True))

    keys, sizes = list(pictures), [height * width for _, (height, width) in pictures.values()]
    together = [[keys[place] for place in group] for group in group_by_tokens(sizes, limit * PATCHES_A_TOKEN)]
    return {key: features for part in in_order(prepare, finish, together) for key, features in part.items()}
