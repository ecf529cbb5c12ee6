"""`nyx index`: chunks → an index."""

import time
from pathlib import Path
from typing import Annotated

import typer

from nyx.index import MANIFEST, Index
from nyx.models import fingerprint, load_encoder
from nyx.records import Chunk, read_records

SHARD = 1024
SAVE_EVERY = 120.0


def index_command(
    chunks: Annotated[Path, typer.Argument(help="what `nyx ingest` wrote")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the index")],
    model: Annotated[str, typer.Option("--model", "-m", help="encoder: a folder, or a repository's name")],
    batch_tokens: Annotated[int, typer.Option(help="tokens encoded at once")] = 4096,
) -> None:
    """Embed chunks, and keep them with their vectors.

    Run it again to go on after an interruption, or to add new chunks: those that are there are skipped.

        nyx index chunks.parquet -o index/ --model runs/demo/stage2
    """
    records = list(read_records(Chunk, chunks))
    encoder, revision = load_encoder(model), fingerprint(model)
    existing = (output / MANIFEST).exists()
    index = Index.open(output, model_name=model, revision=revision) if existing else None
    known = index.ids if index else set()
    todo = [chunk for chunk in records if chunk.id not in known]
    started = saved = time.monotonic()
    for start in range(0, len(todo), SHARD):
        shard = todo[start : start + SHARD]
        contents = [chunk.content for chunk in shard]
        vectors = encoder.encode_documents(contents, batch_tokens=batch_tokens, show_progress=True)
        if index is None:
            index = Index.create(output, shard, vectors, model_name=model, revision=revision)
        else:
            index.add(shard, vectors)
        if time.monotonic() - saved > SAVE_EVERY:
            index.save()
            saved = time.monotonic()
    if index is None:
        raise ValueError(f"{chunks} holds no chunks.")
    if todo:
        index.save()
    rate = len(todo) / max(time.monotonic() - started, 1e-9)
    typer.echo(f"{len(todo)} chunks embedded ({rate:.1f} chunks/s), {len(records) - len(todo)} were there → {output}")
