"""`nyx serve`: the search page, as the Space shows it."""

import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from nyx.errors import extra


def serve_command(
    index: Annotated[str, typer.Argument(help="what `nyx index` wrote; the demo's unless named")] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="encoder; the index's own unless named")] = "",
    dataset: Annotated[str, typer.Option(help="embed this dataset's corpus, instead of an index")] = "",
    reader: Annotated[str, typer.Option("--reader", "-r", help="what answers: a folder or name, or URL#MODEL")] = "",
    compare: Annotated[str, typer.Option(help="a second encoder, to compare with")] = "",
    port: Annotated[int, typer.Option(min=0, help="port to listen on")] = 7860,
    host: Annotated[str, typer.Option(help="0.0.0.0: for other machines too")] = "127.0.0.1",
) -> None:
    """Search and ask in a browser; upload pages of your own.

    Without arguments it shows what `nyx demo` left. Endpoints for programs are listed on the page.

        nyx serve runs/demo/index --reader dataset_builders/almanac_vlm --port 7870
    """
    with extra("space"):
        import gradio  # noqa: F401
    space = Path(list(find_spec("nyx_space").submodule_search_locations or [])[0])  # type: ignore[union-attr]
    named = {"index": index, "model": model, "dataset": dataset, "reader": reader, "compare": compare}
    os.environ.update(GRADIO_SERVER_PORT=str(port), GRADIO_SERVER_NAME=host)
    # A Space's modules lie beside its script, and are found there.
    sys.path.insert(0, str(space))
    main = runpy.run_path(str(space / "app.py"))["main"]
    main([part for name, value in named.items() if value for part in (f"--{name}", value)])
