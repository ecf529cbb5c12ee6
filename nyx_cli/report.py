"""`nyx report`: what `nyx evaluate` left in a folder → one page of tables and plots."""

from pathlib import Path
from typing import Annotated

import typer

from evaluation.report import write_report
from nyx_cli.output import Json, tell


def report_command(
    folder: Annotated[Path, typer.Argument(help="folder that `nyx evaluate` wrote")] = Path("runs/evaluation"),
    as_json: Json = False,
) -> None:
    """Write report.md, report.html and results.md, the section for a model's card, from the records in a folder.

    Every figure is computed from the records; systems stand in the order in which they were evaluated, and are
    compared with the first.

        nyx report runs/evaluation

        nyx report runs/bm25 --json
    """
    paths = [str(path) for path in write_report(folder)]
    tell("\n".join(paths), {"written": paths}, as_json)
