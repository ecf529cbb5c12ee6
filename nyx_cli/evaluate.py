"""`nyx evaluate`: benchmarks, retrievers and readers → how good a retriever is, and what it is worth to a reader."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dataset_builders.one_run import one_run
from evaluation.benchmark import Benchmark
from evaluation.protocol import Evaluation, Options, Settings, parse_documents
from evaluation.systems import SYSTEMS
from evaluation.tables import as_rich, summarise, told
from nyx.reader import Reader
from nyx_cli.output import Json, tell


def evaluate_command(
    benchmarks: Annotated[list[Path], typer.Argument(help="dataset folders with corpus and qa")],
    model: Annotated[list[str], typer.Option("--model", "-m", help=f"what retrieves: {SYSTEMS}")],
    reader: Annotated[
        list[str] | None, typer.Option("--reader", "-r", help="also let it answer: a folder or name, or URL#MODEL")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of rankings, answers and records")] = Path(
        "runs/evaluation"
    ),
    split: Annotated[str, typer.Option(help="whose questions, and whose corpus")] = "test",
    documents: Annotated[
        str,
        typer.Option(
            help="how many the reader is given: 3, or by source as lecture=1,example=2; unless named the benchmark's "
            "own number, else 1"
        ),
    ] = "",
    words: Annotated[int, typer.Option(min=0, help="the longest those may be together; 0: whole")] = 0,
    options: Annotated[Options, typer.Option(help="how the reader is shown a question's options")] = "texts",
    options_in_query: Annotated[
        bool, typer.Option("--options-in-query", help="search for the question with its options")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score retrievers on benchmarks: Recall, MRR, nDCG, and with a reader its answers, all with 95 % intervals.

    Of several retrievers every one is compared with the first, question by question. Run it again to go on after an
    interruption: nothing is searched for or answered twice.

        nyx evaluate runs/demo/nyxqa --model runs/demo/stage2 --model bm25 --reader dataset_builders/almanac_vlm

        nyx evaluate runs/demo/nyxqa --model bm25 --split validation -o runs/bm25

        nyx evaluate runs/demo/nyxqa -m runs/demo/stage2 -m runs/demo/stage2@32 -m apart:runs/demo/apart --json

        nyx evaluate runs/demo/nyxqa -m gold -m random -m none --reader http://localhost:8000/v1 --documents 2
    """
    settings = Settings(parse_documents(documents) if documents else None, words, options, options_in_query)
    opened = [Benchmark.open(folder, split) for folder in benchmarks]
    output.mkdir(parents=True, exist_ok=True)
    with one_run(output):
        readers = {name: Reader.open(name, cache=output / "answers.sqlite") for name in reader or ()}
        found = [
            records
            for benchmark in opened
            for evaluation in [Evaluation(benchmark, settings, output)]
            for name in dict.fromkeys(model)
            for records in evaluation.run(name, readers)
        ]
    tables = summarise(found)
    if as_json:
        tell("", {"tables": tables}, as_json)
        return
    console = Console()
    for table in tables:
        console.print(as_rich(table))
        for sentence in told(table):
            console.print(sentence, markup=False, highlight=False)
    console.print(f"Records: {output / 'records'} · next: nyx report {output}", markup=False, highlight=False)
