"""`nyx search`: a question, in words or pictures or both → chunks."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modeling_nyx import to_content
from modeling_nyx.content_nyx import text_of
from nyx.index import Hit, Index, read_manifest
from nyx.models import fingerprint, load_encoder


def search_command(
    index: Annotated[Path, typer.Argument(help="what `nyx index` wrote")],
    text: Annotated[str, typer.Argument(help="the question's words")] = "",
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="picture, before the words; repeat")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many results")] = 5,
    model: Annotated[str, typer.Option("--model", "-m", help="encoder; the index's own unless named")] = "",
    dim: Annotated[int | None, typer.Option(min=1, help="search by the first values of the embeddings only")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="compare with every chunk, however large the index")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a result")] = False,
) -> None:
    """Find the chunks that answer a question.

    nyx search index/ "Where does the moth Vela mirabilis live?"

    nyx search index/ --image moth.jpg "What does this moth feed on?" -k 3
    """
    if not text.strip() and not image:
        raise ValueError("No question came. Name words, or a picture with --image.")
    name = model or _own_model(index)
    opened = Index.open(index, model_name=name, revision=fingerprint(name))
    pictures = [{"type": "image", "image": path} for path in image or ()]
    query = to_content([*pictures, *([text] if text else [])])
    vectors = load_encoder(name).encode_queries([query])
    hits = opened.search(vectors, k, dim, exact)[0]
    if as_json:
        for hit in hits:
            line = {"id": hit.id, "score": hit.score, "source": hit.source, "text": text_of(hit.content)}
            typer.echo(json.dumps(line, ensure_ascii=False))
    else:
        Console().print(_table(hits))


def _own_model(index: Path) -> str:
    """Return the name of the index's model; a folder must still be where it was, seen from here."""
    manifest = read_manifest(index)
    # A repository's revision is its name.
    if manifest.revision not in ("", manifest.model) and not Path(manifest.model).is_dir():
        raise ValueError(
            f"{index} was made with the model folder {manifest.model!r}, which isn't there. Name it with --model."
        )
    return manifest.model


def _table(hits: list[Hit]) -> Table:
    table = Table("", "Score", "Source", "Text", "Pictures")
    for rank, hit in enumerate(hits, 1):
        pictures = sum(item["type"] == "image" for item in hit.content)
        words = _plain(text_of(hit.content))
        table.add_row(str(rank), f"{hit.score:.3f}", _plain(hit.source or ""), words, str(pictures))
    return table


def _plain(words: str) -> Text:
    """Show a page's words as they are: neither as markup nor as a terminal's commands."""
    return Text("".join(character if character.isprintable() else " " for character in words[:300]))
