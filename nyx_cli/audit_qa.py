"""`nyx audit-qa`: how many planted errors each filter catches, and how many good questions it loses."""

import json
import os
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dataset_builders.audit import GOOD, PLANTS, audit, samples, summary
from dataset_builders.schema import Chunk, QAPair, read_records
from nyx.reader import Reader
from nyx_cli.output import Json, tell


def audit_qa_command(
    dataset: Annotated[Path, typer.Argument(help="dataset folder with corpus and qa")],
    reader: Annotated[
        str, typer.Option("--reader", "-r", help="also try the filters that ask: a folder or name, or URL#MODEL")
    ] = "",
    split: Annotated[str, typer.Option(help="whose questions")] = "train",
    questions: Annotated[int, typer.Option("--questions", "-n", min=1, help="how many questions to plant into")] = 200,
    seed: Annotated[int, typer.Option(help="another seed, other questions and errors")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file of all counts")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="requests to a server at the same time")] = 8,
    as_json: Json = False,
) -> None:
    """Plant known errors into a sample of questions, and count what each filter of `nyx build-qa` catches and loses.

    Good questions are the dataset's own: where these filters made it, the rules lose none of them.

        nyx audit-qa our-nyxqa

        nyx audit-qa our-nyxqa --reader http://localhost:8000/v1 -n 500 -o audit.json
    """
    corpus, qa = (dataset / name / f"{split}.parquet" for name in ("corpus", "qa"))
    found = [pair for pair in read_records(QAPair, qa) if pair.gold_ids and pair.answers]
    found = Random(seed).sample(found, min(questions, len(found)))
    wanted = {pair.gold_ids[0] for pair in found}
    chunks = {chunk.id: chunk for chunk in read_records(Chunk, corpus) if chunk.id in wanted}
    found = [pair for pair in found if pair.gold_ids[0] in chunks]
    if not found:
        raise ValueError(f"No question of {qa} names a chunk of {corpus} as gold.")
    cache = dataset / "qa" / "answers.sqlite"
    answering = Reader.open(reader, cache=cache, concurrency=concurrency) if reader else None
    tables = summary(list(audit(samples(found, chunks, seed), answering, show_progress=True)))
    if output is not None:
        aside = output.with_name(f".{output.name}.{os.getpid()}.partial")
        aside.write_text(json.dumps(tables, indent=1) + "\n")
        os.replace(aside, output)
    if as_json:
        tell("", tables, as_json)
        return
    console = Console()
    for name, counts in tables.items():
        table = Table("caught by", "good lost", *PLANTS, title=name)
        for label, row in counts.items():
            table.add_row(label, *(_share(row.get(plant)) for plant in (GOOD, *PLANTS)))
        console.print(table)


def _share(counts: tuple[int, int] | None) -> str:
    return "–" if counts is None else f"{counts[0]}/{counts[1]} ({counts[0] / counts[1]:.0%})"
