"""`nyx convert`: a public set → a dataset folder."""

from pathlib import Path
from typing import Annotated

import typer

from dataset_builders.card import DEFAULT, write_card
from dataset_builders.public_sets import PUBLIC_SETS, convert
from nyx.records import write_dropped
from nyx_cli.output import Json, tell


def convert_command(
    name: Annotated[str, typer.Argument(help=", ".join(PUBLIC_SETS))],
    output: Annotated[Path, typer.Option("--output", "-o", help="dataset folder to write")],
    split: Annotated[str, typer.Option(help="train, validation or test")] = "train",
    source: Annotated[str, typer.Option(help="another repository, a folder, or a Parquet or JSON file")] = "",
    config: Annotated[str, typer.Option(help="the set's configuration, such as a subset of MMEB")] = "",
    images: Annotated[Path | None, typer.Option(help="folder below which the pictures lie that rows name")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="read so many rows")] = None,
    as_json: Json = False,
) -> None:
    """Turn a public set's rows into a corpus and questions, or into examples.

    Rows are streamed from the Hub. What is left out is written beside the records, with its reason.

        nyx convert hotpotqa --source hotpot.jsonl -o runs/hotpotqa --split validation

        nyx convert mmeb --config OK-VQA --images images/ -o runs/ok-vqa

        nyx convert human-questions --source qa.parquet -o runs/mine
    """
    if name not in PUBLIC_SETS:
        raise ValueError(f"Unknown set {name!r}; expected one of {', '.join(PUBLIC_SETS)}.")
    left_out: list[dict[str, str]] = []

    def dropped(row: str, reason: str) -> None:
        left_out.append({"row": row, "reason": reason})

    counts = convert(
        PUBLIC_SETS[name], output, split, dropped, source=source, config=config, images=images, limit=limit
    )
    write_dropped(left_out, output / f"{split}.dropped.jsonl")
    told = ", ".join(f"{count} in {part}" for part, count in counts.items())
    if DEFAULT in counts:
        write_card(output, f"{name}, {split}", {"records": told, "rows left out": len(left_out)})
    result = {**counts, "left_out": len(left_out), "output": str(output)}
    tell(f"{told} → {output}; {len(left_out)} rows left out", result, as_json)
