"""The encoder; the files named `*_nyx.py` travel with a checkpoint."""

from modeling_nyx.configuration_nyx import NyxConfig, NyxQwen3VLConfig
from modeling_nyx.content_nyx import to_content
from modeling_nyx.images_nyx import BadImage, load_image
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
