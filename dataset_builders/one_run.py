"""One run at a time on a dataset folder, which begins by removing what a killed one left half written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


@contextmanager
def one_run(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs; steps of one run may hold it within each other.

    The system lets go of it when the process ends, however it does. Raises `ValueError` if another run holds it, or
    there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no dataset folder {folder}.")
    lock = FileLock(folder.resolve() / LOCK, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ValueError(f"Another run is at work in {folder}. Wait until it ends, or name another folder.") from error
    try:
        if lock.lock_counter == 1:
            for left in folder.rglob(".*.partial"):
                left.unlink()
        yield
    finally:
        lock.release()
