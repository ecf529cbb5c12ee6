"""Work done side by side, its results in order: in threads that compute, and in processes that prepare."""

import multiprocessing
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

# Torch's number of threads belongs to a thread and, in part, to all of them; a new thread has that of whoever set it
# last. So pools of single threads tell one another, and others, what it was before the first of them.
_lock = threading.Lock()
_pools: list[int] = []


class _Results(Dataset[Any]):
    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.function, self.items = function, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.items[index])


def torch_threads() -> int:
    """Return how many threads torch has for this one; a thread that came beside a pool, and has one, gets them all."""
    with _lock:
        if _pools:
            torch.set_num_threads(_pools[0])
        return torch.get_num_threads()


def in_threads(function: Callable[[Any], Any], items: Sequence[Any], threads: int) -> Iterator[Any]:
    """Yield `function(item)` for each item in order, from so many threads that compute on one core each.

    Different work on every core leaves less of them idle than all cores on the same. At most two items a thread are
    done ahead of what is taken. One item, or one thread, has all of torch's threads.
    """
    before = torch_threads()
    if len(items) < 2 or threads < 2:
        yield from map(function, items)
        return
    with _lock:
        _pools.append(before)
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
        with _lock:
            _pools.pop()  # all are the same
            torch.set_num_threads(before)


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
    iterator: Any = iter(loader)
    try:
        yield from iterator
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise RuntimeError(
            f"A worker process died ({error}), of too little memory most likely. Encode with fewer workers, none "
            "(workers=0), or a smaller batch_tokens."
        ) from error
    finally:  # else after an error, which holds on to it, they would stay until it is forgotten
        iterator._shutdown_workers()


def _as_it_is(result: Any) -> Any:
    return result
