"""`nyx build-qa`: pages or chunks → questions, answers, options and negatives, as a dataset folder."""

from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from dataset_builders.card import SPLITS
from dataset_builders.nyxqa import build
from dataset_builders.one_run import one_run
from dataset_builders.page_chunks import CutRule
from dataset_builders.pairs import QARule
from dataset_builders.questions import MODALITIES
from dataset_builders.questions_report import Report
from dataset_builders.retrievers import BM25_NAME, NAMES
from dataset_builders.schema import Chunk, features
from nyx.models import shown
from nyx.reader import Reader
from nyx_cli.ingest import ingest
from nyx_cli.output import Json, tell
from train_scripts.mine_negatives import MiningArguments
from train_scripts.mine_negatives import run as mine

DEFAULTS = QARule()
NONE = "none"


def build_qa_command(
    source: Annotated[str, typer.Argument(help="pages, as `nyx ingest` reads them, or the chunks it wrote")],
    output: Annotated[Path, typer.Option("--output", "-o", help="dataset folder to write")],
    reader: Annotated[
        str, typer.Option("--reader", "-r", help="vision-language model: a folder or name, or URL#MODEL of a server")
    ],
    chunks: Annotated[int, typer.Option(min=1, help="how many chunks to ask about")] = DEFAULTS.chunks,
    seed: Annotated[int, typer.Option(help="another seed, other chunks, orders and splits")] = DEFAULTS.seed,
    check: Annotated[
        bool, typer.Option("--check", help="keep what the reader answers from the chunk, and doesn't without it")
    ] = DEFAULTS.check,
    held_out: Annotated[
        int, typer.Option(min=0, help="questions of each modality in validation and in test, at most a tenth")
    ] = DEFAULTS.held_out,
    negatives: Annotated[
        str, typer.Option("--negatives", "-n", help=f"retriever of hard negatives: {NAMES}; {NONE}")
    ] = BM25_NAME,
    concurrency: Annotated[int, typer.Option(min=1, help="requests to a server at the same time")] = 8,
    timeout: Annotated[float, typer.Option(help="seconds to wait for a server's answer")] = 120.0,
    tokenizer: Annotated[str, typer.Option(help="of pages: count this model's tokens")] = "",
    as_json: Json = False,
) -> None:
    """Make a NyxQA of your own pages: questions over texts and pictures, options, gold chunks, hard negatives.

    Pages are cut as `nyx ingest` does it by default; for its other options, run it first and name its chunks.

    Run it again to go on after an interruption: no answer is asked for twice. What is left out is written to
    qa/rejected.jsonl, with its reason, and counted in qa/report.json and qa/report.png.

        nyx build-qa runs/demo/almanac -o our-nyxqa --reader http://localhost:8000/v1

        nyx build-qa chunks.parquet -o checked-nyxqa --reader Qwen/Qwen2.5-VL-7B-Instruct --chunks 500 --check
    """
    cache = output / "qa" / "answers.sqlite"
    answering = Reader.open(reader, cache=cache, concurrency=concurrency, timeout=timeout)
    name = answering.engine.model if reader.startswith(("http://", "https://")) else shown(reader)  # type: ignore[attr-defined]
    rule = QARule(chunks, seed=seed, check=check, held_out=held_out)
    with one_run(output):
        made = output / "chunks.parquet"
        if ingested := not _holds_chunks(Path(source)):
            words, _ = ingest(source, made, CutRule(tokenizer=tokenizer))
            typer.echo(words, err=as_json)
        report = build(made if ingested else Path(source), output, answering, name, rule, show_progress=True)
        if ingested:
            made.unlink()
        for split in SPLITS:
            if negatives != NONE and (output / "qa" / f"{split}.parquet").is_file():
                mine(MiningArguments(str(output), split, negatives))
    if not as_json:
        _show(report)
    questions, asked = report.kept.total(), report.sampled.total()
    result = {"questions": questions, "chunks": asked, "left_out": dict(report.reasons()), "output": str(output)}
    tell(f"{questions} questions of {asked} chunks → {output}", result, as_json)


def _holds_chunks(source: Path) -> bool:
    if source.suffix != ".parquet" or not source.is_file():
        return False
    try:
        return set(features(Chunk)) <= set(pq.read_schema(source).names)
    except OSError as error:
        raise ValueError(f"{source} cannot be read as Parquet: {error}") from error


def _show(report: Report) -> None:
    console = Console()
    table = Table("", *MODALITIES, "all", title="chunks and pairs")
    for name, counts in report.table():
        table.add_row(name, *map(str, counts), str(sum(counts)))
    console.print(table)
    reasons = Table("left out because", "pairs", title="reasons")
    for reason, count in report.reasons().items():
        reasons.add_row(reason, str(count))
    console.print(reasons)
