"""The backbone's configuration with the fields that make it a retriever."""

from transformers import Qwen2_5_VLConfig, Qwen3VLConfig


class NyxConfig(Qwen2_5_VLConfig):
    """Qwen2.5-VL's configuration; `model_type` stays the backbone's, so that other engines can load the folder.

    `matryoshka_dimensions`: the sizes of embedding that training aimed at, largest first (None: the full size only).
    A folder without these fields is a plain backbone or one of the paper's checkpoints.
    """

    matryoshka_dimensions: list[int] | None = None


class NyxQwen3VLConfig(Qwen3VLConfig):
    """Qwen3-VL's configuration with Nyx's fields, see `NyxConfig`."""

    matryoshka_dimensions: list[int] | None = None


NyxConfig.register_for_auto_class("AutoConfig")
NyxQwen3VLConfig.register_for_auto_class("AutoConfig")
