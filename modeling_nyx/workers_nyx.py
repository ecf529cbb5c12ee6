"""Work done side by side, its results in order: in threads that compute, and in processes that prepare."""

import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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


def in_threads(function: Callable[[Any], Any], items: Sequence[Any], threads: int) -> Iterator[Any]:
    """Yield `function(item)` for each item in order, from so many threads that compute on one core each.

    Different work on every core leaves less of them idle than all cores on the same. At most two items a thread are
    done ahead of what is taken. One item, or one thread, has all of torch's threads.
    """
    if len(items) < 2 or threads < 2:
        yield from map(function, items)
        return
    before = torch.get_num_threads()
    waiting: deque[Future] = deque()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) > 2 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
    finally:
        torch.set_num_threads(before)  # part of it holds for all threads


def in_processes(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[Any]:
    """Yield `function(item)` for each item in order, from so many processes forked from this one.

    What they read is neither copied nor sent. They run at most two items each ahead of what is taken. Without workers,
    for one item, and where processes cannot be forked, the work is done in this one. Raises `RuntimeError` if a worker
    dies.
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
