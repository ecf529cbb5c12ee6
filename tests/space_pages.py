"""What the tests of the page share: a few pages, and files as visitors bring them."""

from pathlib import Path
from typing import Any

from PIL import Image

from library import Library, Retriever
from nyx.index import Index
from nyx.records import Chunk
from tests.conftest import colored, picture, text

SPACE = Path(__file__).parents[1] / "space"

EVIL = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> ![x](http://attacker.invalid/?q=1) "
    "[y](javascript:alert(1)) "
    "<svg onload=alert(1)> ${alert(1)} {{constructor.constructor('alert(1)')()}} </span></article>"
)


def few_chunks() -> list[Chunk]:
    contents = [
        [text("First this:"), picture(60, 50, 1), text("then that:"), picture(40, 70, 2), text("and an end.")],
        [text("The moth Vela mirabilis lives by the salt marsh.")],
        [text(EVIL), picture(56, 56, 3)],
    ]
    return [Chunk(str(index), "d", f"{index}.md", content) for index, content in enumerate(contents)]


def library_of(model: Any, chunks: list[Chunk]) -> Library:
    vectors = model.encode_documents([chunk.content for chunk in chunks])
    return Library(Retriever(model, "tiny"), Index.of(chunks, vectors, model_name="tiny"))


def write_pages(folder: Path) -> list[Path]:
    """Write two pages with a picture, and a file that is none."""
    folder.mkdir()
    colored(60, 60, 7).save(folder / "wing.png")
    (folder / "notes.md").write_text("# Notes\n\nIt flies in May. ![](wing.png) ![](http://attacker.invalid/a.png)\n")
    (folder / "page.html").write_text("<p>It lives by the lagoon.<script>alert(1)</script></p>")
    (folder / "tool.png").write_bytes(b"MZ" + bytes(100))
    return sorted(folder.iterdir())


def bomb(path: Path, side: int) -> Path:
    """Write a small file of a large picture."""
    Image.new("1", (side, side)).save(path)
    assert path.stat().st_size < 100_000
    return path
