"""`nyx ingest`: pages → chunks."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from dataset_builders.chunks import CHUNK_IMAGES, CHUNK_TOKENS, chunk_documents, piece_counter, tokenizer_counter
from dataset_builders.schema import write_records
from dataset_builders.sources import count_pages, read_pages


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
    count = tokenizer_counter(tokenizer) if tokenizer else piece_counter()
    read, pictures, started = 0, 0, time.monotonic()

    def counted():  # type: ignore[no-untyped-def]
        nonlocal read
        for page in tqdm(pages, total=count_pages(source), desc="pages"):
            read += 1
            yield page

    seen: Counter[str] = Counter()

    def unique():  # type: ignore[no-untyped-def]
        nonlocal pictures
        for chunk in chunk_documents(counted(), count, tokens, images):
            seen[chunk.id] += 1
            if seen[chunk.id] > 1:
                dropped(chunk.source, f"chunk {chunk.id} came before")
                continue
            pictures += sum(item["type"] == "image" for item in chunk.content)
            yield chunk

    written = write_records(unique(), output)
    beside = output.with_suffix(".dropped.jsonl")
    beside.write_text("".join(json.dumps(each) + "\n" for each in left_out))
    seconds = time.monotonic() - started
    typer.echo(f"{read} pages → {written} chunks with {pictures} pictures, {read / seconds:.1f} pages/s → {output}")
    typer.echo(f"{len(left_out)} left out{f', see {beside}' if left_out else ''}")
