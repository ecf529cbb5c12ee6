"""How commands print what they came to: as a line for people, or as JSON for programs."""

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="print the result as JSON, for programs")]


def tell(words: str, result: Any, as_json: bool) -> None:
    """Print one of the two on stdout."""
    typer.echo(json.dumps(result, ensure_ascii=False) if as_json else words)
