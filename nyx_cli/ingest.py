"""`nyx ingest`: pages → chunks."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from dataset_builders.chunks import CHUNK_IMAGES, CHUNK_TOKENS
from dataset_builders.fetch import Fetcher
from dataset_builders.near_duplicates import drop_near_duplicates
from dataset_builders.page_chunks import CutRule, chunk_pages
from dataset_builders.schema import Chunk, Dropped, write_records
from dataset_builders.sources import count_pages
from nyx.records import write_dropped
from nyx_cli.output import Json, tell


def ingest_command(
    source: Annotated[
        str,
        typer.Argument(help="folder of Markdown, HTML, PDF, pictures; .parquet, .jsonl; dataset's name (org/name)"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write")],
    tokens: Annotated[int, typer.Option(help="most text tokens of a chunk")] = CHUNK_TOKENS,
    images: Annotated[int, typer.Option(help="most pictures of a chunk")] = CHUNK_IMAGES,
    tokenizer: Annotated[str, typer.Option(help="count this model's tokens; otherwise Qwen's word pieces")] = "",
    merge_tail: Annotated[int, typer.Option(help="a page's end of fewer tokens joins the chunk before it")] = 0,
    near_duplicates: Annotated[
        float | None, typer.Option(help="leave out chunks whose words overlap so much with an earlier one's, e.g. 0.8")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="most pages to read", min=1)] = None,
    fetch: Annotated[
        Path | None, typer.Option(help="fetch pictures by their http(s) addresses, and keep them in this folder")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="decode pictures and cut texts in so many processes")] = 1,
    as_json: Json = False,
) -> None:
    """Cut pages into chunks, pictures in place.

    What is left out is written beside the output, with its reason.

        nyx ingest runs/demo/almanac -o chunks.parquet

        nyx ingest obelics.parquet -o obelics-chunks.parquet --tokenizer Qwen/Qwen2.5-VL-3B-Instruct

        nyx ingest HuggingFaceM4/OBELICS -o chunks.parquet --limit 1000 --fetch pictures/
    """
    rule = CutRule(tokens, images, merge_tail, tokenizer)
    fetcher = None if fetch is None else Fetcher(fetch)
    came = ingest(
        source, output, rule, near_duplicates=near_duplicates, limit=limit, fetch=fetcher, processes=processes
    )
    tell(*came, as_json)


def ingest(
    source: str,
    output: Path,
    rule: CutRule,
    *,
    near_duplicates: float | None = None,
    limit: int | None = None,
    fetch: Fetcher | None = None,
    processes: int = 1,
) -> tuple[str, dict[str, Any]]:
    """Write a source's chunks; returns what came of it, in words and in figures.

    Raises `ValueError` for a source without a chunk, and an output that is the source.
    """
    left_out: list[dict[str, str]] = []

    def dropped(page: str, reason: str) -> None:
        left_out.append({"source": page, "reason": reason})

    if output.is_dir() or (output.exists() and Path(source).exists() and output.samefile(source)):
        raise ValueError(f"{output} is {'a folder' if output.is_dir() else 'the source itself'}. Name another file.")
    pages = chunk_pages(source, rule, dropped, fetch, processes)
    counts, started = Counter[str](), time.monotonic()
    read = _counted_pages(tqdm(islice(pages, limit), total=limit or count_pages(source), desc="pages"), counts)
    chunks = _unique(chain.from_iterable(read), dropped)
    if near_duplicates is not None:
        chunks = drop_near_duplicates(chunks, near_duplicates, dropped)
    beside = output.with_suffix(".dropped.jsonl")
    try:
        written = write_records(_counted_pictures(chunks, counts), output)
    except ValueError as error:
        if not left_out:
            raise
        write_dropped(left_out, beside)
        raise ValueError(f"{error} {len(left_out)} left out, see {beside}.") from error
    write_dropped(left_out, beside)
    rate = counts["pages"] / (time.monotonic() - started)
    words = (
        f"{counts['pages']} pages → {written} chunks with {counts['pictures']} pictures, {rate:.1f} pages/s → {output}"
    )
    see = f"\n{len(left_out)} left out{f', see {beside}' if left_out else ''}"
    return words + see, {**counts, "chunks": written, "left_out": len(left_out), "output": str(output)}


def _counted_pages(pages: Iterable[list[Chunk]], counts: Counter[str]) -> Iterator[list[Chunk]]:
    for page in pages:
        counts["pages"] += 1
        yield page


def _unique(chunks: Iterable[Chunk], dropped: Dropped) -> Iterator[Chunk]:
    seen: set[str] = set()
    for chunk in chunks:
        if chunk.id in seen:
            dropped(chunk.source, f"chunk {chunk.id} came before")
            continue
        seen.add(chunk.id)
        yield chunk


def _counted_pictures(chunks: Iterable[Chunk], counts: Counter[str]) -> Iterator[Chunk]:
    for chunk in chunks:
        counts["pictures"] += sum(item["type"] == "image" for item in chunk.content)
        yield chunk
