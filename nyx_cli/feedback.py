"""`nyx feedback`: a dataset, a retriever and readers → preference data."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nyx.errors import extra
from nyx_cli.output import Json, tell


def feedback_command(
    dataset: Annotated[Path, typer.Argument(help="folder with corpus/train.parquet and qa/train.parquet")],
    retriever: Annotated[str, typer.Option("--retriever", "-m", help="encoder: a folder, or a repository's name")],
    reader: Annotated[
        list[str],
        typer.Option("--reader", "-r", help="vision-language model, or a server: URL, or URL#MODEL; repeat"),
    ],
    candidates: Annotated[int, typer.Option("-k", help="documents retrieved a question")] = 8,
    window: Annotated[int, typer.Option(help="documents read together")] = 1,
    stride: Annotated[int, typer.Option(help="how far apart windows start")] = 1,
    metric: Annotated[str, typer.Option(help="em, f1, accuracy, or option: the correct option's text")] = "em",
    threshold: Annotated[float, typer.Option(help="the score from which a window passes")] = 1.0,
    argmax: Annotated[bool, typer.Option(help="the best windows pass, instead of a threshold")] = False,
    first_pass: Annotated[bool, typer.Option(help="read no further than the first window that passes")] = False,
    negatives: Annotated[int, typer.Option(help="at most so many negatives an example")] = 7,
    questions: Annotated[int, typer.Option(help="how many questions to read for; 0: all")] = 0,
    cache: Annotated[str, typer.Option(help="SQLite file of answers; in the dataset's folder unless named")] = "",
    concurrency: Annotated[int, typer.Option(help="what a server is asked at the same time")] = 8,
    timeout: Annotated[float, typer.Option(help="seconds to wait for a server's answer")] = 120.0,
    as_json: Json = False,
) -> None:
    """Let readers judge what a retriever finds: from which documents they answer right.

    Several readers give one set each, and one of all. Run it again to go on after an interruption: nothing is asked
    twice. A server's key comes from NYX_API_KEY or OPENAI_API_KEY.

        nyx feedback runs/demo/nyxqa --retriever runs/demo/stage1 --reader http://localhost:8000/v1

        nyx feedback runs/demo/nyxqa --retriever org/nyx --reader org/vlm --reader http://localhost:8000/v1 -k 3
    """
    with extra("train"):
        from train_scripts.collect_feedback import FeedbackArguments, run
    arguments = FeedbackArguments(
        dataset=str(dataset),
        retriever=retriever,
        reader=reader,
        cache=cache,
        concurrency=concurrency,
        timeout=timeout,
        questions=questions,
        candidates=candidates,
        window=window,
        stride=stride,
        metric=metric,
        threshold=threshold,
        argmax=argmax,
        all_windows=not first_pass,
        negatives=negatives,
    )
    statistics = run(arguments)
    if as_json:
        tell("", statistics.as_dict(), as_json)
    else:
        Console().print(statistics.table())
