"""`nyx mine`: questions and a corpus → examples with hard negatives."""

from pathlib import Path
from typing import Annotated

import typer

from dataset_builders.retrievers import NAMES
from nyx_cli.output import Json, tell
from train_scripts.mine_negatives import MiningArguments, run


def mine_command(
    dataset: Annotated[Path, typer.Argument(help="dataset folder with corpus and qa")],
    retriever: Annotated[str, typer.Option("--with", "-w", help=NAMES)] = MiningArguments.retriever,
    split: Annotated[str, typer.Option(help="whose questions, and whose corpus")] = MiningArguments.split,
    depth: Annotated[int, typer.Option(help="how far down the ranking to look")] = MiningArguments.depth,
    skip: Annotated[int, typer.Option(help="how many of the first ranks to leave out")] = MiningArguments.skip,
    keep: Annotated[int, typer.Option(help="at most so many negatives an example")] = MiningArguments.keep,
    without_answers: Annotated[
        bool, typer.Option("--without-answers/--with-answers", help="leave out chunks that hold an answer")
    ] = MiningArguments.without_answers,
    ratio: Annotated[
        float | None, typer.Option(help="leave out chunks that score above so many times the positive's score")
    ] = MiningArguments.ratio,
    as_json: Json = False,
) -> None:
    """Find what a retriever confuses with the answer, as examples for stage 1.

    Run it again to go on after an interruption. Questions without a gold chunk are left out, and written beside the
    examples with the reason.

        nyx mine our-nyxqa --with bm25 --depth 20 --skip 10
    """
    counts = run(MiningArguments(str(dataset), split, retriever, depth, skip, keep, without_answers, ratio))
    output = dataset / "triplets" / f"{split}.parquet"
    result = {"examples": counts.examples, "negatives": counts.negatives, "dropped": len(counts.dropped)}
    tell(f"{counts} → {output}", result | {"output": str(output)}, as_json)
