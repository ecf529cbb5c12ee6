"""Adapters alone (LoRA, DoRA): kept apart from the weights they were trained on, and merged into them again."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers.utils import cached_file

from nyx.models import whole_weights


def save_adapter(model: Any, folder: str | Path) -> None:
    """Save a PEFT model's adapter, and the processor it was trained with, into a folder of their own."""
    model.save_pretrained(folder)
    model.get_base_model().processor.save_pretrained(folder)


def apply_adapter(encoder: Any, name: str | Path) -> Any:
    """Merge an adapter (a folder or a repository) into the encoder it was trained on, and take over its processor.

    Raises `ValueError` when its weights are not exactly those that its configuration asks of this encoder: PEFT
    would go on with an adapter that does nothing. Pickled adapters are refused.
    """
    try:
        from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    except ImportError as error:
        raise ImportError("Adapters need peft: pip install 'nyx-retriever[train]'") from error
    with whole_weights(name):
        weights = load_file(cached_file(str(name), "adapter_model.safetensors"))
    processor = encoder.processor_class.from_pretrained(name)
    model = get_peft_model(encoder, PeftConfig.from_pretrained(str(name)))
    expected = get_peft_model_state_dict(model)
    missing, unexpected = sorted(expected.keys() - weights), sorted(weights.keys() - expected)
    odd = [key for key in expected.keys() & weights if expected[key].shape != weights[key].shape]
    if missing or unexpected or odd:
        raise ValueError(
            f"The adapter {name} doesn't fit {type(encoder).__name__}: {len(missing)} keys missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}, {len(odd)} of another shape {odd[:3]}. "
            "Apply it to the model it was trained on."
        )
    set_peft_model_state_dict(model, weights)
    merged = model.merge_and_unload()
    merged.processor = processor
    return merged
