"""`nyx ask`: a question → the reader's answer, and the documents it was given."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from nyx.reader import Prompt, Reader
from nyx_cli.output import Json, tell
from nyx_cli.question import Dim, Folder, Images, Model, Words, open_index, read_question
from nyx_cli.results import plain, record, show


def ask_command(
    index: Folder,
    text: Words = "",
    reader: Annotated[
        str, typer.Option("--reader", "-r", help="vision-language model: a folder or name, or URL#MODEL of a server")
    ] = ...,  # type: ignore[assignment]
    image: Images = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many documents the reader is given")] = 3,
    model: Model = "",
    dim: Dim = None,
    as_json: Json = False,
) -> None:
    """Find documents, and let a reader answer from them.

    They are given to it as data, not as instructions. A server's key comes from NYX_API_KEY or OPENAI_API_KEY.

        nyx ask runs/demo/index "Where does the moth Vela mirabilis live?" --reader dataset_builders/almanac_vlm

        nyx ask runs/demo/index --image moth.jpg "What is this moth called?" --reader http://localhost:8000/v1 -k 1
    """
    question, answering = read_question(text, image), Reader.open(reader)
    encoder, opened = open_index(index, model)
    hits = opened.search(encoder.encode_queries([question]), k, dim)[0]
    (answer,) = answering.answer([Prompt([hit.content for hit in hits], question, fenced=True)])
    if as_json:
        tell("", {"answer": answer, "documents": [record(hit) for hit in hits]}, as_json)
        return
    console = Console()
    console.print(Text("Answer: ", "bold") + plain(answer), "", sep="\n")
    show(hits, console)
