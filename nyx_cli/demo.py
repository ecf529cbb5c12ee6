"""`nyx demo`: the whole recipe on the Almanac."""

from pathlib import Path
from typing import Annotated

import typer

from nyx.errors import extra


def demo_command(
    folder: Annotated[Path, typer.Option(help="where everything is written")] = Path("runs/demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="train every stage for so many steps")] = None,
) -> None:
    """Generate the Almanac, train both stages, index, ask, and print one table: minutes on two cores.

    Run it again to go on after an interruption. The figures are in FOLDER/report.json too; `nyx serve` then shows it
    all in a browser.

        nyx demo

        nyx demo --folder runs/other --steps 20
    """
    with extra("train"):
        from train_scripts import demo
    demo.main(["--folder", str(folder), *(["--steps", str(steps)] if steps else [])])
