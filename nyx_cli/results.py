"""Show search results in a terminal, which shows no pictures: their thumbnails' paths stand in for them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from modeling_nyx import load_image
from modeling_nyx.images_nyx import image_key
from nyx.index import Hit

SIDE = 256  # pixels
LONGEST = 600  # characters


def show(hits: Sequence[Hit], console: Console) -> None:
    """Print each result: its rank, score and source; its texts, pictures as numbers in place; the pictures' paths."""
    for rank, hit in enumerate(hits, 1):
        pictures = thumbnails(hit)
        console.print(Text(f"{rank:>2}  Score {hit.score:.3f}  ", "bold") + plain(hit.source or ""))
        console.print(Padding(plain(in_order(hit)[:LONGEST]), (0, 0, 0, 4)))
        for number, path in enumerate(pictures, 1):
            console.print(f"    [{number}] {path}", markup=False, highlight=False, soft_wrap=True)
        console.print()


def in_order(hit: Hit) -> str:
    """Return a result's texts, with a number in brackets where each picture stands."""
    parts, number = [], 0
    for item in hit.content:
        number += item["type"] == "image"
        parts.append(item["text"].strip() if item["type"] == "text" else f"[{number}]")
    return " ".join(parts)


def thumbnails(hit: Hit) -> list[Path]:
    """Write a result's pictures, small, into the user's cache, each once; returns their paths in order."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nyx" / "thumbnails"
    paths = []
    for item in hit.content:
        if item["type"] == "image":
            paths.append(folder / f"{image_key(item['image'])[:24]}.jpg")
            if not paths[-1].exists():
                _write(item["image"], paths[-1])
    return paths


def _write(image: Any, path: Path) -> None:
    small = load_image(image).copy()
    small.thumbnail((SIDE, SIDE))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    small.save(aside, format="JPEG")
    os.replace(aside, path)


def record(hit: Hit) -> dict[str, Any]:
    """Return a result as JSON has it."""
    pictures = [str(path) for path in thumbnails(hit)]
    return {"id": hit.id, "score": hit.score, "source": hit.source, "text": in_order(hit), "pictures": pictures}


def plain(words: str) -> Text:
    """Show a page's words as they are: neither as markup nor as a terminal's commands."""
    return Text("".join(character if character.isprintable() else " " for character in words))
