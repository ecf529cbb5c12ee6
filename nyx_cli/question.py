"""What `nyx search` and `nyx ask` begin with: a question from the command line, and the index it is put to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modeling_nyx import to_content
from modeling_nyx.content_nyx import Content
from nyx.index import Index
from nyx.manifest import read_manifest
from nyx.models import fingerprint, load_encoder

Folder = Annotated[Path, typer.Argument(help="what `nyx index` wrote")]
Words = Annotated[str, typer.Argument(help="the question's words")]
Images = Annotated[list[Path] | None, typer.Option("--image", "-i", help="picture, before the words; repeat")]
Model = Annotated[str, typer.Option("--model", "-m", help="encoder; the index's own unless named")]
Dim = Annotated[int | None, typer.Option(min=1, help="search by the first values of the embeddings only")]


def read_question(text: str, images: Sequence[Path] | None) -> Content:
    """Return the question's content. Raises `ValueError` if there is nothing in it."""
    if not text.strip() and not images:
        raise ValueError("No question came. Name words, or a picture with --image.")
    pictures = [{"type": "image", "image": path} for path in images or ()]
    return to_content([*pictures, *([text] if text else [])])


def open_index(index: Path, model: str) -> tuple[Any, Index]:
    """Return the encoder, the index's own unless named, and the index."""
    name = model or _own_model(index)
    opened = Index.open(index, model_name=name, revision=fingerprint(name))
    return load_encoder(name), opened


def _own_model(index: Path) -> str:
    """Return the name of the index's model; a folder must still be where it was, seen from here."""
    manifest = read_manifest(index)
    # A repository's revision is its name.
    if manifest.revision not in ("", manifest.model) and not Path(manifest.model).is_dir():
        raise ValueError(
            f"{index} was made with the model folder {manifest.model!r}, which isn't there. Name it with --model."
        )
    return manifest.model
