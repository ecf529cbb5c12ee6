"""Load an encoder by name, and tell whether two runs used the same one."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from modeling_nyx import NyxModel, NyxQwen3VLModel
from modeling_nyx.encode_nyx import cpu_has_bfloat16

ENCODERS = {"qwen2_5_vl": NyxModel, "qwen3_vl": NyxQwen3VLModel}


def load_encoder(
    name: str | Path, revision: str | None = None, *, dtype: torch.dtype | None = None, device: str | None = None
) -> Any:
    """Load an encoder from a folder or a repository, by default in `native_dtype()` and on the GPU if there is one.

    Raises `ValueError` for a backbone that isn't Qwen's.
    """
    config = AutoConfig.from_pretrained(name, revision=revision)
    if config.model_type not in ENCODERS:
        raise ValueError(f"{name} is a {config.model_type}; expected one of {', '.join(ENCODERS)}.")
    with whole_weights(name):
        model = ENCODERS[config.model_type].from_pretrained(name, revision=revision, dtype=dtype or native_dtype())
    return model.to(device or default_device())


def default_device() -> str:
    """Return where models run unless told otherwise."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def whole_weights(name: str | Path) -> Iterator[None]:
    """Load a model's weights in the block. Raises `ValueError`, naming the file, for weights that are damaged."""
    try:
        yield
    except SafetensorError as error:
        files = sorted(Path(name).glob("*.safetensors"))
        damaged = next((path for path in files if not _is_whole(path)), f"A file of {name}'s weights")
        raise ValueError(f"{damaged} is damaged or cut short ({error}). Download or save it again.") from error


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, framework="numpy"):
            return True
    except SafetensorError:
        return False


def native_dtype() -> torch.dtype:
    """Return bfloat16 where this machine computes it by itself, several times as fast as float32; else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32


def fingerprint(name: str | Path) -> str:
    """Hash a local model's weights and settings; a repository's name stands for itself."""
    folder = Path(name)
    if not folder.is_dir():
        return str(name)
    patterns = ("*.safetensors", "*config.json", "*.jinja")
    return hash_files(folder, [path for pattern in patterns for path in sorted(folder.glob(pattern))])


def hash_files(folder: Path, paths: Iterable[Path]) -> str:
    """Hash files of a folder, in their order, by where they lie in it and what they hold."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(path.relative_to(folder).as_posix().encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def shown(name: str | Path) -> str:
    """Name a folder or repository without saying where on this machine it lies."""
    return Path(name).name if Path(name).is_absolute() else str(name)
