"""`nyx index`: chunks → an index."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm import tqdm

from nyx.index import Index, distinct
from nyx.manifest import MANIFEST
from nyx.models import fingerprint, load_encoder
from nyx.records import Chunk, write_dropped
from nyx.stored_chunks import stored_chunks
from nyx_cli.output import Json, tell

SHARD = 1024
SAVE_EVERY = 120.0  # seconds; a large index, which takes long to save, is saved less often
SAVING = 0.05  # of the time at most


def index_command(
    chunks: Annotated[Path, typer.Argument(help="what `nyx ingest` wrote")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the index")],
    model: Annotated[str, typer.Option("--model", "-m", help="encoder: a folder, or a repository's name")],
    batch_tokens: Annotated[
        int | None, typer.Option(help="tokens encoded at once; else what suits the device")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="remove chunks of the index that CHUNKS lacks")] = False,
    as_json: Json = False,
) -> None:
    """Embed chunks, and keep them with their vectors.

    Run it again to go on after an interruption, or after pages have changed: chunks that are there are skipped, and
    with --prune those that pages lack by now are removed. Chunks that cannot be read are left out, and written beside
    the index with the reason.

        nyx index chunks.parquet -o index/ --model runs/demo/stage2

        nyx index chunks.parquet -o index/ --model runs/demo/stage2 --prune
    """
    beside = output.resolve().with_name(f"{output.resolve().name}.dropped.jsonl")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file. Name a folder for the index.")
    records = stored_chunks(chunks)
    revision = fingerprint(model)
    existing = (output / MANIFEST).exists()
    index = Index.open(output, model_name=model, revision=revision) if existing else None
    todo = [records[position] for position in (index.update(records) if index else distinct(records))]
    encoder = load_encoder(model)
    left_out: list[dict[str, str]] = []
    started = time.monotonic()
    create = partial(Index.create, output, model_name=model, revision=revision)
    index = _grown(index, create, _embedded(encoder, todo, batch_tokens, left_out))
    write_dropped(left_out, beside)
    see = f", {len(left_out)} left out, see {beside}" if left_out else ""
    if index is None:
        raise ValueError(f"{chunks} holds no chunks to index{see}.")
    others = index.ids - {record.id for record in records}
    if prune and others:
        index.remove(others)
    index.save()
    index.prepare()
    embedded = len(todo) - len(left_out)
    rate = embedded / max(time.monotonic() - started, 1e-9)
    there, became = len(records) - len(todo), "removed" if prune else "kept (--prune removes them)"
    told = f", {len(others)} that are not in {chunks} {became}" if others else ""
    words = f"{embedded} chunks embedded ({rate:.1f} chunks/s), {there} were there{told}{see} → {output}"
    result = {"embedded": embedded, "were_there": there, "others": len(others), "pruned": prune}
    tell(words, result | {"left_out": len(left_out), "output": str(output)}, as_json)


def _grown(
    index: Index | None, create: Callable[..., Index], shards: Iterable[tuple[Sequence[Chunk], np.ndarray]]
) -> Index | None:
    """Add shards to an index, the first one's if there is none, and save it now and then."""
    saved, pause = time.monotonic(), SAVE_EVERY
    for chunks, vectors in shards:
        if index is not None:
            index.add(chunks, vectors)
        elif chunks:
            index = create(chunks, vectors)
        if index is not None and time.monotonic() - saved > pause:
            begun = time.monotonic()
            index.save()
            saved = time.monotonic()
            pause = max(SAVE_EVERY, (saved - begun) / SAVING)
    return index


def _embedded(
    encoder: Any, chunks: Sequence[Chunk], batch_tokens: int | None, left_out: list[dict[str, str]]
) -> Iterator[tuple[Sequence[Chunk], np.ndarray]]:
    """Embed chunks, a shard at a time; those that the encoder refuses are told to `left_out` instead."""
    few = len(chunks) <= SHARD  # and have the encoder's own bar
    with tqdm(total=len(chunks), desc="embed chunks", disable=few) as bar:
        for start in range(0, len(chunks), SHARD):
            shard, errors = chunks[start : start + SHARD], dict[int, ValueError]()
            vectors = encoder.encode_documents(
                [chunk.content for chunk in shard], batch_tokens=batch_tokens, errors=errors, show_progress=few
            )
            for place, error in sorted(errors.items()):
                left_out.append({"id": shard[place].id, "source": shard[place].source, "reason": str(error)})
            readable = [place for place in range(len(shard)) if place not in errors]
            bar.update(len(shard))
            yield [shard[place] for place in readable], vectors[readable]
