"""`nyx benchmark`: a public set, or a file of questions → a benchmark that `nyx evaluate` takes."""

from pathlib import Path
from typing import Annotated

import typer

from evaluation.sets import BENCHMARKS, SEED, build
from nyx.records import write_dropped
from nyx_cli.output import Json, tell


def benchmark_command(
    name: Annotated[str, typer.Argument(help=f"{', '.join(BENCHMARKS)}; or a Parquet or JSON file of questions")],
    output: Annotated[Path, typer.Option("--output", "-o", help="dataset folder to write")],
    source: Annotated[str, typer.Option(help="another repository, a folder, or a file of the set's rows")] = "",
    corpus: Annotated[
        Path | None, typer.Option(help="search in these instead: chunks as Parquet, or JSON lines of title and text")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="folder below which the pictures lie that rows name")] = None,
    questions: Annotated[
        int | None, typer.Option(min=1, help="draw so many; else as many as in the paper, of a file all")
    ] = None,
    seed: Annotated[int, typer.Option(help="another seed, other questions")] = SEED,
    as_json: Json = False,
) -> None:
    """Draw questions of a public set, or of one's own, and lay them beside the corpus that they are asked of.

    The corpus is what the questions bring: their paragraphs, a set's texts, tables and pictures, or lectures and
    solved examples. Rows are streamed from the Hub. What is left out is written beside the records, with its reason.

    A file of one's own has a row a question: `question`, `answers` (a list) and, where they are known, `gold_ids`: the
    chunks, documents or sources (`guide/moths.md`) of the corpus that answer it; also `options`, `id`, `type`.

        nyx benchmark musique -o runs/musique

        nyx benchmark hotpotqa --source hotpot.jsonl -o runs/hotpotqa --questions 100

        nyx benchmark questions.jsonl --corpus chunks.parquet -o runs/ours

        nyx benchmark qa.parquet --corpus runs/demo/nyxqa/corpus/test.parquet -o runs/own
    """
    left_out: list[dict[str, str]] = []
    facts = build(
        name,
        output,
        lambda row, reason: left_out.append({"row": row, "reason": reason}),
        source=source,
        corpus=corpus,
        images=images,
        questions=questions,
        seed=seed,
    )
    write_dropped(left_out, output / "test.dropped.jsonl")
    told = f"{facts['questions']} questions, {facts['questions_without_gold']} of them without gold documents, "
    result = {**facts, "left_out": len(left_out), "output": str(output)}
    tell(f"{told}{facts['chunks']} chunks → {output}; {len(left_out)} rows left out", result, as_json)
