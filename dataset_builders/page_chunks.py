"""Pages of a source → chunks: found in this process, decoded and cut in several, in their order all the same."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path

from dataset_builders.chunks import (
    CHUNK_IMAGES,
    CHUNK_TOKENS,
    CountTokens,
    chunk_documents,
    piece_counter,
    tokenizer_counter,
)
from dataset_builders.documents import Page, make_document
from dataset_builders.fetch import Fetcher
from dataset_builders.schema import Chunk, Dropped
from dataset_builders.sources import find_pages

AHEAD = 4  # pages waiting or under way, per process

# A page's source, and why something of it was left out.
Reason = tuple[str, str]
Cut = tuple[list[Chunk], list[Reason]]


@dataclass(frozen=True)
class CutRule:
    """Where pages are cut (`chunks.chunk_documents`), and whose tokens are counted; unless named, Qwen's pieces."""

    tokens: int = CHUNK_TOKENS
    images: int = CHUNK_IMAGES
    merge_tail: int = 0
    tokenizer: str = ""


def chunk_pages(
    source: str | Path, rule: CutRule, dropped: Dropped, fetch: Fetcher | None = None, processes: int = 1
) -> Iterator[list[Chunk]]:
    """Yield the chunks of each page that has any.

    Chunks and what is told to `dropped` are the same, and in the same order, with any number of processes. Raises
    `OSError` if one of them dies.
    """
    told: list[Reason] = []
    pages = _with_reasons(find_pages(source, lambda *reason: told.append(reason), fetch), told)
    for before, (chunks, reasons) in _cut_here(pages, rule) if processes == 1 else _cut_apart(pages, rule, processes):
        for reason in [*before, *reasons]:
            dropped(*reason)
        if chunks:
            yield chunks
    for reason in told:
        dropped(*reason)


def cut_page(page: Page, rule: CutRule) -> Cut:
    """Return one page's chunks, none if nothing is left of it, and what was left out."""
    reasons: list[Reason] = []
    documents = make_document(page, lambda *reason: reasons.append(reason))
    chunks = chunk_documents(documents, _counter(rule.tokenizer), rule.tokens, rule.images, rule.merge_tail)
    return list(chunks), reasons


@cache
def _counter(tokenizer: str) -> CountTokens:
    return tokenizer_counter(tokenizer) if tokenizer else piece_counter()


def _with_reasons(pages: Iterator[Page], told: list[Reason]) -> Iterator[tuple[list[Reason], Page]]:
    """Give each page what was told before it: with several processes it is found long before its turn comes."""
    for page in pages:
        before = told.copy()
        told.clear()
        yield before, page


def _cut_here(pages: Iterator[tuple[list[Reason], Page]], rule: CutRule) -> Iterator[tuple[list[Reason], Cut]]:
    for before, page in pages:
        yield before, cut_page(page, rule)


def _cut_apart(
    pages: Iterator[tuple[list[Reason], Page]], rule: CutRule, processes: int
) -> Iterator[tuple[list[Reason], Cut]]:
    under_way: deque[tuple[list[Reason], Future[Cut]]] = deque()
    # Copies of this process would hold the locks of threads that they don't have; these are copies of a new one.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    try:
        with ProcessPoolExecutor(processes, context, _end_with_parent) as pool:
            for before, page in pages:
                under_way.append((before, pool.submit(cut_page, page, rule)))
                if len(under_way) > AHEAD * processes:
                    before, cut = under_way.popleft()
                    yield before, cut.result()
            for before, cut in under_way:
                yield before, cut.result()
    except BrokenProcessPool as error:
        raise OSError(f"One of {processes} processes died; is there memory for fewer only? {error}") from error


def _end_with_parent() -> None:
    """End this process with the one that started it, which, killed, could not say so."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None, "Only a started process has a parent."
    parent.join()
    os._exit(1)
