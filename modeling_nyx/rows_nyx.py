"""Tokenized contents: their positions, and how many go together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass
class Row:
    """One content, tokenized: ids, and each picture with its source, grid (height, width in patches) and place.

    `keys`: hashes by which a row that is packed knows its pictures again.
    """

    ids: list[int]
    images: list[Any]
    grids: list[tuple[int, int]]
    starts: list[int]
    keys: list[str] = field(default_factory=list)


# Products of few rows, and the ends of passes over memory, are computed in another order than the rest: rows whose
# number is a multiple of this, for each of torch's threads, have neither.
EVEN = 16


def uneven(rows: int) -> int:
    """Return how many rows are missing to an even number of them."""
    return -rows % (EVEN * torch.get_num_threads())


def filler(rows: Sequence[Row], multiple: int | None = None) -> Row:
    """Make the row that, packed with others, makes the number of tokens even, or a multiple of a number."""
    tokens = sum(len(row.ids) for row in rows)
    return Row([0] * (uneven(tokens) if multiple is None else -tokens % multiple), [], [], [])


def group_by_tokens(lengths: Sequence[int], batch_tokens: int, *, shortest_first: bool = True) -> list[list[int]]:
    """Group indices, shortest first, so that no group has more than `batch_tokens` unless one item has by itself."""
    groups: list[list[int]] = []
    room = 0
    indices = range(len(lengths))
    for index in sorted(indices, key=lengths.__getitem__) if shortest_first else indices:
        if not groups or lengths[index] > room:
            groups.append([])
            room = batch_tokens
        groups[-1].append(index)
        room -= lengths[index]
    return groups


def shorten(row: Row, limit: int, end: int, merge: int = 2) -> Row:
    """Cut a row to `limit` tokens; a last token `end` stays the last.

    A picture is kept whole or dropped, its marks and all that follows included.
    """
    if len(row.ids) <= limit:
        return row
    last = row.ids[-1:] if row.ids[-1] == end else []
    keep, pictures = limit - len(last), 0
    for start, (height, width) in zip(row.starts, row.grids, strict=True):
        # One mark before its tokens, one after.
        if start + height * width // merge**2 + 1 > keep:
            keep = min(keep, start - 1)
            break
        pictures += 1
    images, grids, starts, keys = row.images, row.grids, row.starts, row.keys
    return Row(row.ids[:keep] + last, images[:pictures], grids[:pictures], starts[:pictures], keys[:pictures])


def positions(row: Row, merge: int = 2) -> np.ndarray:
    """Return (4, length): text positions, and M-RoPE's time, height and width.

    A picture's tokens share one time and lie on the grid of merged patches; text goes on after its larger side.
    """
    result = np.empty((4, len(row.ids)), dtype=np.int64)
    result[0] = np.arange(len(row.ids))
    done, position = 0, 0
    for start, (height, width) in zip(row.starts, row.grids, strict=True):
        height, width = height // merge, width // merge
        result[1:, done:start] = np.arange(start - done) + position
        position += start - done
        done = start + height * width
        result[1, start:done] = position
        result[2, start:done] = np.repeat(np.arange(height), width) + position
        result[3, start:done] = np.tile(np.arange(width), height) + position
        position += max(height, width)
    result[1:, done:] = np.arange(len(row.ids) - done) + position
    return result
