"""The `nyx` command."""

import sys
from collections.abc import Sequence

import typer

from nyx_cli.convert import convert_command
from nyx_cli.index import index_command
from nyx_cli.ingest import ingest_command
from nyx_cli.mine import mine_command
from nyx_cli.search import search_command

app = typer.Typer(
    name="nyx",
    help="Retrieval over pages that mix text and pictures: ingest → index → search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("convert")(convert_command)
app.command("ingest")(ingest_command)
app.command("index")(index_command)
app.command("mine")(mine_command)
app.command("search")(search_command)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; what the user can put right is one line on stderr and exit status 1."""
    try:
        app(args=argv)
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)
