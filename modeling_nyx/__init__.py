"""The encoder; the files named `*_nyx.py` travel with a checkpoint."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from modeling_nyx.content_nyx import to_content
from modeling_nyx.images_nyx import BadImage, load_image

if TYPE_CHECKING:
    from modeling_nyx.configuration_nyx import NyxConfig, NyxQwen3VLConfig
    from modeling_nyx.modeling_nyx import NyxModel, NyxQwen3VLModel
    from modeling_nyx.processing_nyx import NyxProcessor, NyxQwen3VLProcessor

__all__ = [
    "BadImage",
    "NyxConfig",
    "NyxModel",
    "NyxProcessor",
    "NyxQwen3VLConfig",
    "NyxQwen3VLModel",
    "NyxQwen3VLProcessor",
    "load_image",
    "to_content",
]
# Where what takes seconds to import lies; reading pages has no use for it.
LATER = {
    "NyxConfig": "configuration_nyx",
    "NyxModel": "modeling_nyx",
    "NyxProcessor": "processing_nyx",
    "NyxQwen3VLConfig": "configuration_nyx",
    "NyxQwen3VLModel": "modeling_nyx",
    "NyxQwen3VLProcessor": "processing_nyx",
}


def __getattr__(name: str) -> Any:
    """Import the model, its configuration or its processor when it is first asked for."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
