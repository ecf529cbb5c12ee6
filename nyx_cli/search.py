"""`nyx search`: a question, in words or pictures or both → chunks."""

import json
from typing import Annotated

import typer
from rich.console import Console

from nyx_cli.output import Json
from nyx_cli.question import Dim, Folder, Images, Model, Words, open_index, read_question
from nyx_cli.results import record, show


def search_command(
    index: Folder,
    text: Words = "",
    image: Images = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many results")] = 5,
    model: Model = "",
    dim: Dim = None,
    exact: Annotated[bool, typer.Option("--exact", help="compare with every chunk, however large the index")] = False,
    as_json: Json = False,
) -> None:
    """Find the chunks that answer a question.

    Pictures are shown by the paths of their thumbnails. `--json` prints an object a result.

        nyx search runs/demo/index "Where does the moth Vela mirabilis live?"

        nyx search runs/demo/index --image moth.jpg "What does this moth feed on?" -k 3 --dim 32 --json
    """
    question = read_question(text, image)
    encoder, opened = open_index(index, model)
    hits = opened.search(encoder.encode_queries([question]), k, dim, exact)[0]
    if not as_json:
        show(hits, Console())
        return
    for hit in hits:
        typer.echo(json.dumps(record(hit), ensure_ascii=False))
