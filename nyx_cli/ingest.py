"""`nyx ingest`: pages → chunks."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from dataset_builders.chunks import CHUNK_IMAGES, CHUNK_TOKENS, chunk_documents, piece_counter, tokenizer_counter
from dataset_builders.schema import Chunk, Document, write_records
from dataset_builders.sources import Dropped, count_pages, read_pages
from nyx.records import write_dropped


def ingest_command(
    source: Annotated[Path, typer.Argument(help="folder of Markdown, or Parquet with aligned texts and images")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write")],
    tokens: Annotated[int, typer.Option(help="most text tokens of a chunk")] = CHUNK_TOKENS,
    images: Annotated[int, typer.Option(help="most pictures of a chunk")] = CHUNK_IMAGES,
    tokenizer: Annotated[str, typer.Option(help="count this model's tokens; otherwise Qwen's word pieces")] = "",
) -> None:
    """Cut pages into chunks, pictures in place.

    What is left out is written beside the output, with its reason.

        nyx ingest pages/ -o chunks.parquet

        nyx ingest obelics.parquet -o chunks.parquet --tokenizer Qwen/Qwen2.5-VL-3B-Instruct
    """
    left_out: list[dict[str, str]] = []

    def dropped(page: str, reason: str) -> None:
        left_out.append({"source": page, "reason": reason})

    pages = read_pages(source, dropped)
    if output.is_dir() or (output.exists() and output.samefile(source)):
        raise ValueError(f"{output} is {'a folder' if output.is_dir() else 'the source itself'}. Name another file.")
    count = tokenizer_counter(tokenizer) if tokenizer else piece_counter()
    counts, started = Counter[str](), time.monotonic()
    read = _counted(tqdm(pages, total=count_pages(source), desc="pages"), counts)
    chunks = _unique(chunk_documents(read, count, tokens, images), dropped, counts)
    beside = output.with_suffix(".dropped.jsonl")
    try:
        written = write_records(chunks, output)
    except ValueError as error:
        if not left_out:
            raise
        write_dropped(left_out, beside)
        raise ValueError(f"{error} {len(left_out)} left out, see {beside}.") from error
    write_dropped(left_out, beside)
    rate = counts["pages"] / (time.monotonic() - started)
    typer.echo(
        f"{counts['pages']} pages → {written} chunks with {counts['pictures']} pictures, {rate:.1f} pages/s → {output}"
    )
    typer.echo(f"{len(left_out)} left out{f', see {beside}' if left_out else ''}")


def _counted(pages: Iterable[Document], counts: Counter[str]) -> Iterator[Document]:
    for page in pages:
        counts["pages"] += 1
        yield page


def _unique(chunks: Iterable[Chunk], dropped: Dropped, counts: Counter[str]) -> Iterator[Chunk]:
    """Yield every chunk once, and count its pictures."""
    seen: set[str] = set()
    for chunk in chunks:
        if chunk.id in seen:
            dropped(chunk.source, f"chunk {chunk.id} came before")
            continue
        seen.add(chunk.id)
        counts["pictures"] += sum(item["type"] == "image" for item in chunk.content)
        yield chunk
