"""Work done in processes forked from this one: what they read, a model's weights too, is neither copied nor sent."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset


class _Results(Dataset[Any]):
    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.function, self.items = function, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.items[index])


def map_in_order(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[Any]:
    """Yield `function(item)` for each item in order, from so many processes of one thread each.

    They run at most two items each ahead of what is taken. Without workers, for one item, and where processes cannot
    be forked, the work is done in this process. Raises `RuntimeError` if a worker dies.
    """
    if sys.platform != "linux" or multiprocessing.current_process().daemon or len(items) < 2 or workers < 1:
        yield from map(function, items)
        return
    loader = DataLoader(
        _Results(function, items),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=min(workers, len(items)),
        multiprocessing_context="fork",
        generator=torch.Generator(),  # its own, so that the caller's random numbers stay as they are
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise RuntimeError(
            f"A worker process died ({error}), of too little memory most likely. Encode with fewer workers, none "
            "(workers=0), or a smaller batch_tokens."
        ) from error


def _as_it_is(result: Any) -> Any:
    return result
