"""`nyx publish`: a folder → a repository on the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from nyx_cli.output import Json, tell
from train_scripts.publish import publish
from train_scripts.upload import Kind


def publish_command(
    kind: Annotated[Kind, typer.Argument(help="what the folder is")],
    folder: Annotated[Path, typer.Argument(help="a checkpoint, a dataset folder, or the folder of the demo")],
    name: Annotated[str, typer.Argument(help="repository, as org/name")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="build, check, print the card; upload nothing")] = False,
    private: Annotated[bool, typer.Option("--private", help="create the repository as a private one")] = False,
    revision: Annotated[str | None, typer.Option(help="branch to upload to; created empty if it isn't there")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what the repository holds")] = False,
    as_json: Json = False,
) -> None:
    """Put a model, a dataset or the demo on the Hub, with a card of what really ran.

    It is loaded back in a process of its own first. Run it again to go on after an interruption.

        nyx publish model runs/demo/stage2 org/nyx

        nyx publish dataset runs/demo/nyxqa org/nyxqa --private

        nyx publish space space org/nyx-demo
    """
    lines = publish(kind, folder, name, dry_run=dry_run, private=private, revision=revision, overwrite=overwrite)
    tell("\n".join(lines), {"address": None if dry_run else lines[-1]}, as_json)
