"""JSON lines, written as they come."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Any], None]]:
    """Give a function that writes a line; the file appears whole when the block ends well, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("w") as file:
            yield lambda value: print(json.dumps(value, ensure_ascii=False), file=file)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
