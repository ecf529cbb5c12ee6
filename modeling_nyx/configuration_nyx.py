"""The backbone's configuration with the fields that make it a retriever."""

from collections.abc import Mapping
from typing import Any

from transformers import Qwen2_5_VLConfig, Qwen3VLConfig


class OwnBackboneOnly:
    """Refuses another backbone's configuration, from which transformers would build a model of the default size."""

    model_type: str

    @classmethod
    def from_dict(cls, config_dict: Any, **kwargs: Any) -> Any:
        """Make a configuration of a dictionary. Raises `ValueError` if it isn't the backbone's."""
        found = config_dict.get("model_type") if isinstance(config_dict, Mapping) else type(config_dict).__name__
        if found != cls.model_type:
            raise ValueError(f"config.json describes a {found}; {cls.__name__} expects a {cls.model_type}.")
        return super().from_dict(config_dict, **kwargs)  # type: ignore[misc]


class NyxConfig(OwnBackboneOnly, Qwen2_5_VLConfig):
    """Qwen2.5-VL's configuration; `model_type` stays the backbone's, so that other engines can load the folder.

    `matryoshka_dimensions`: the sizes of embedding that training aimed at, largest first (None: the full size only).
    A folder without these fields is a plain backbone or one of the paper's checkpoints.
    """

    matryoshka_dimensions: list[int] | None = None


class NyxQwen3VLConfig(OwnBackboneOnly, Qwen3VLConfig):
    """Qwen3-VL's configuration with Nyx's fields, see `NyxConfig`."""

    matryoshka_dimensions: list[int] | None = None


NyxConfig.register_for_auto_class("AutoConfig")
NyxQwen3VLConfig.register_for_auto_class("AutoConfig")
