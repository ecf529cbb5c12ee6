"""`nyx search`: a question, in words or pictures or both → chunks."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from modeling_nyx import to_content
from modeling_nyx.content_nyx import text_of
from nyx.index import Hit, Index
from nyx.models import fingerprint, load_encoder


def search_command(
    index: Annotated[Path, typer.Argument(help="what `nyx index` wrote")],
    text: Annotated[str, typer.Argument(help="the question's words")] = "",
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="picture, before the words; repeat")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many results")] = 5,
    model: Annotated[str, typer.Option("--model", "-m", help="encoder; the index's own unless named")] = "",
    dim: Annotated[int | None, typer.Option(help="search by the first values of the embeddings only")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a result")] = False,
) -> None:
    """Find the chunks that answer a question.

    nyx search index/ "Where does the moth Vela mirabilis live?"

    nyx search index/ --image moth.jpg "What does this moth feed on?" -k 3
    """
    opened = Index.open(index)
    name = model or opened.model_name
    opened = Index.open(index, model_name=name, revision=fingerprint(name))
    pictures = [{"type": "image", "image": path} for path in image or ()]
    query = to_content([*pictures, *([text] if text else [])])
    vectors = load_encoder(name).encode_queries([query])
    hits = opened.search(vectors, k, dim)[0]
    if as_json:
        for hit in hits:
            line = {"id": hit.id, "score": hit.score, "source": hit.source, "text": text_of(hit.content)}
            typer.echo(json.dumps(line, ensure_ascii=False))
    else:
        Console().print(_table(hits))


def _table(hits: list[Hit]) -> Table:
    table = Table("", "Score", "Source", "Text", "Pictures")
    for rank, hit in enumerate(hits, 1):
        pictures = sum(item["type"] == "image" for item in hit.content)
        table.add_row(str(rank), f"{hit.score:.3f}", hit.source, text_of(hit.content)[:300], str(pictures))
    return table
