"""What an index' folder says of itself: the model, the files and their checksums, and how it is searched."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from nyx.funnel import Plan

MANIFEST = "manifest.json"
FORMAT = 1
FILES = {"vectors", "documents"}


@dataclass(frozen=True)
class Manifest:
    """What the folder holds, made by which model, and how it is searched (None: exactly, or not yet measured)."""

    model: str
    revision: str
    dim: int
    count: int
    generation: int
    files: dict[str, str]
    checksums: dict[str, str]
    format: int = FORMAT
    search: Plan | None = None


KINDS = {"model": str, "revision": str, "dim": int, "count": int, "generation": int, "files": dict, "checksums": dict}


def read_manifest(folder: Path) -> Manifest:
    """Read what an index says of itself. Raises `ValueError` if there is none, or not of this version."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} holds no index: there is no {MANIFEST}. Make one with `nyx index`.")
    try:
        values = json.loads(path.read_text())
        version = values["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no index's manifest ({error!r}). Index the chunks again.") from error
    if version != FORMAT:
        raise ValueError(f"{path} has format {version}; this version reads {FORMAT}. Update nyx-retriever.")
    try:
        manifest = Manifest(**values)
        manifest = replace(manifest, search=Plan.read(manifest.search, manifest.dim))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}). Index the chunks again.") from error
    if odd := sorted(name for name, kind in KINDS.items() if not isinstance(values[name], kind)):
        raise ValueError(f"{path} is damaged ({', '.join(odd)}). Index the chunks again.")
    for name in ("files", "checksums"):
        if values[name].keys() != FILES or not all(isinstance(each, str) for each in values[name].values()):
            raise ValueError(f"{path} is damaged ({name}). Index the chunks again.")
    return manifest
