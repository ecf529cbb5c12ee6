"""The encoder: a vision-language backbone whose last token's state is the embedding."""

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from transformers import Qwen2_5_VLModel, Qwen3VLModel, __version__
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from .attention_nyx import use_nyx_attention
from .configuration_nyx import NyxConfig, NyxQwen3VLConfig
from .encode_nyx import encode_rows
from .folder_nyx import TRANSFORMERS, write_json, write_sentence_transformers
from .layers_nyx import use_fast_layers
from .processing_nyx import NyxProcessor, NyxQwen3VLProcessor, Role
from .rows_nyx import group_by_tokens, uneven
from .template_nyx import chat_template

if "mm_encoder_outputs" not in inspect.signature(Qwen2_5_VLModel.forward).parameters:
    # Swallowed among other arguments, it would leave the pictures out in silence.
    raise ImportError(
        f"Nyx needs transformers {TRANSFORMERS} or newer, not {__version__}: pip install -U transformers"
    )

# What an instruct checkpoint has and an encoder has no use for.
UNUSED_KEYS = {"lm_head.weight"}
# Arguments of `from_pretrained` that say where a folder or repository is found.
FOUND_BY = ("subfolder", "token", "cache_dir", "local_files_only")
# As many of the vision tower's states as a processor's caches hold.
PATCHES_ON_CPU = 1024


def last_token_embeddings(last_hidden_state: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Take the last token's state of every content, L2-normalised in float32: (contents, hidden).

    `batch` is what the model was called with: packed (`cu_seqlens`), or padded on either side (`attention_mask`).
    """
    if batch.get("cu_seqlens") is not None:
        states = last_hidden_state[0, batch["cu_seqlens"][1:].long() - 1]
    else:
        mask = batch["attention_mask"]
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)
        states = last_hidden_state[torch.arange(len(mask), device=mask.device), last]
    return F.normalize(states.float(), dim=-1)


def truncate(embeddings: np.ndarray, dim: int | None) -> np.ndarray:
    """Cut embeddings to their first `dim` values, and normalise again (Matryoshka, paper section 3.2)."""
    if dim is None or dim == embeddings.shape[1]:
        return embeddings
    if not isinstance(dim, int) or not 0 < dim < embeddings.shape[1]:
        raise ValueError(f"truncate_dim {dim!r}: expected 1 to {embeddings.shape[1]}, the size of the embedding.")
    cut = embeddings[:, :dim]
    return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)


class NyxMixin:
    """What turns a backbone into an encoder. Parameters, and so state dictionaries, stay the backbone's."""

    config: Any
    stock_class: type
    processor_class: type[NyxProcessor] = NyxProcessor

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        asked = getattr(config, "_attn_implementation_internal", None)
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        if asked is None:
            use_nyx_attention(self)
        use_fast_layers(self)

    @classmethod
    def from_pretrained(cls, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a folder or a repository; also one of the backbone's own, with or without a language-model head.

        Raises `ValueError` if weights are missing or left over: they would silently be random, or unused. Pickled
        weights are refused.
        """
        kwargs["use_safetensors"] = True
        wants_info = kwargs.pop("output_loading_info", False)
        try:
            model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)  # type: ignore[misc]
        except OSError as error:
            if "model.safetensors" in str(error):
                hint = "Nyx reads safetensors only: loading pickled weights (pytorch_model.bin) can run code."
                raise OSError(f"{error} {hint} Save them as safetensors first.") from error
            raise
        missing = sorted(info["missing_keys"])
        unexpected = sorted(set(info["unexpected_keys"]) - UNUSED_KEYS)
        if missing or unexpected:
            raise ValueError(
                f"The weights of {name} don't fit {cls.__name__}: {len(missing)} missing {missing[:5]}, "
                f"{len(unexpected)} unexpected {unexpected[:5]}. Expected those of {cls.stock_class.__name__} "
                "(merge an adapter into them first)."
            )
        # Where the processor, loaded later, is found too.
        model.__dict__["_found_by"] = {name: kwargs[name] for name in FOUND_BY if name in kwargs}
        return (model, info) if wants_info else model

    @property
    def processor(self) -> NyxProcessor:
        """The processor saved with the model, loaded at its first use; assign another one to replace it."""
        if "_processor" not in self.__dict__:
            revision = getattr(self.config, "_commit_hash", None)
            extra = self.__dict__.get("_found_by", {}) | ({"revision": revision} if revision else {})
            self.__dict__["_processor"] = self.processor_class.from_pretrained(self.config._name_or_path, **extra)
        return self.__dict__["_processor"]

    @processor.setter
    def processor(self, processor: NyxProcessor) -> None:
        self.__dict__["_processor"] = processor

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, **kwargs: Any) -> None:
        """Save a folder that is complete for transformers, with remote code and without, sentence-transformers, vLLM.

        Raises `ValueError` for `push_to_hub=True`, which would upload before the folder is complete.
        """
        if kwargs.get("push_to_hub"):
            raise ValueError("push_to_hub=True came. Save the folder first, or call the model's method push_to_hub.")
        super().save_pretrained(save_directory, is_main_process, **kwargs)  # type: ignore[misc]
        if not is_main_process:
            return
        folder, processor = Path(save_directory), self.processor
        processor.chat_template = chat_template(processor.special_tokens, processor.append_eos)
        processor.save_pretrained(folder)
        # Other engines look for the backbone's class, not for this one.
        config = json.loads((folder / "config.json").read_text()) | {"architectures": [self.stock_class.__name__]}
        write_json(folder / "config.json", config)
        prompts = {"query": processor.query_instruction, "document": processor.document_instruction}
        write_sentence_transformers(folder, self.config.text_config.hidden_size, prompts)

    def encode_images(self, pixel_values: Tensor, image_grid_thw: Tensor) -> tuple[Tensor, ...]:
        """Run the vision tower: one tensor a picture, (tokens, hidden × (1 + levels injected into later layers)).

        On a CPU a few pictures go through it at a time. Features don't depend on the pictures they are made with.
        """
        if pixel_values.device.type != "cpu":
            return self._encode_images(pixel_values, image_grid_thw)
        sizes, merge = image_grid_thw.prod(1).tolist(), self.config.vision_config.spatial_merge_size
        features: list[Tensor] = []
        start = 0
        for group in group_by_tokens(sizes, PATCHES_ON_CPU, shortest_first=False):
            stop = start + sum(sizes[index] for index in group)
            # A picture of nothing makes the number of rows even.
            missing = uneven((stop - start) // merge**2) * merge
            blank = image_grid_thw.new_tensor([[1, merge, missing]] if missing else []).view(-1, 3)
            pixels = pixel_values.new_zeros(stop - start + missing * merge, pixel_values.shape[1], dtype=self.dtype)  # type: ignore[attr-defined]
            pixels[: stop - start] = pixel_values[start:stop]
            features += self._encode_images(pixels, torch.cat((image_grid_thw[group], blank)))[: len(group)]
            start = stop
        return tuple(features)

    def _encode_images(self, pixel_values: Tensor, image_grid_thw: Tensor) -> tuple[Tensor, ...]:
        output = self.get_image_features(pixel_values, image_grid_thw, return_dict=True)  # type: ignore[attr-defined]
        levels = getattr(output, "deepstack_features", None) or []
        return tuple(torch.cat(parts, dim=-1) for parts in zip(output.pooler_output, *levels, strict=True))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        cu_seqlens: Tensor | None = None,
        image_index: Tensor | None = None,
        image_features: Sequence[Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the backbone on padded input, exactly as it would itself, or on `NyxProcessor.pack`'s row.

        `image_features`, from `encode_images`, replace running the vision tower.
        """
        kwargs |= {"input_ids": input_ids, "attention_mask": attention_mask}
        if cu_seqlens is None and image_features is None:
            return super().forward(**kwargs)  # type: ignore[misc]
        pixels, grid = kwargs.pop("pixel_values", None), kwargs.pop("image_grid_thw", None)
        if image_features is None and pixels is not None:
            image_features = self.encode_images(pixels, grid)
        if image_features is not None:
            chosen = range(len(image_features)) if image_index is None else image_index.tolist()
            kwargs["mm_encoder_outputs"] = {"image": self._image_output([image_features[index] for index in chosen])}
        if cu_seqlens is not None:
            # Sent with pictures already encoded, so that they reach the language model alone.
            longest = int((cu_seqlens[1:] - cu_seqlens[:-1]).max())
            kwargs |= {"cu_seq_lens_q": cu_seqlens, "cu_seq_lens_k": cu_seqlens}
            kwargs |= {"max_length_q": longest, "max_length_k": longest}
        else:
            kwargs["image_grid_thw"] = grid
        return super().forward(use_cache=False, **kwargs)  # type: ignore[misc]

    def _image_output(self, features: list[Tensor]) -> BaseModelOutputWithDeepstackFeatures:
        """Give features back the form in which the backbone expects its vision tower's."""
        size = self.config.text_config.hidden_size
        parts = [feature.split(size, dim=-1) for feature in features]
        pooled, *levels = (list(level) for level in zip(*parts, strict=True))
        return BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=levels)

    def embed(self, batch: Mapping[str, Any], known: Mapping[str, Tensor]) -> Tensor:
        """Embed what `NyxProcessor.pack_rows` made: (contents, hidden), L2-normalised in float32.

        `known` are the features of the pictures of whose keys it was told.
        """
        inputs = dict(batch)
        if "image_index" in inputs:
            fresh = "pixel_values" in inputs
            found = self.encode_images(inputs.pop("pixel_values"), inputs.pop("image_grid_thw")) if fresh else ()
            inputs["image_features"] = [*found, *known.values()]
        return last_token_embeddings(self(**inputs).last_hidden_state, inputs)  # type: ignore[operator]

    def encode_queries(
        self,
        contents: Iterable[Any],
        *,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
        workers: int | None = None,
        errors: dict[int, ValueError] | None = None,
        show_progress: bool = False,
    ) -> np.ndarray:
        """Embed queries, in any spelling of content: float32 (contents, dim), unit norm, in the order given.

        A vector doesn't depend on the other contents: on a CPU, in torch's default precision of products, it is the
        same to the bit. A picture that occurs in several is encoded once. `batch_tokens`: how many tokens go together,
        by default as suits the device. `workers`: on a CPU threads that encode, one core each, by default as many as
        torch has; else processes that decode pictures, 0 for none.

        Raises `ValueError` (`BadImage` for pictures) naming the item that cannot be read, before any is encoded
        unless it is a picture that is broken behind its header. Given `errors`, such items are put there by index
        instead, and their vectors are NaN.
        """
        return self._encode(contents, "query", truncate_dim, batch_tokens, workers, errors, show_progress)

    def encode_documents(
        self,
        contents: Iterable[Any],
        *,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
        workers: int | None = None,
        errors: dict[int, ValueError] | None = None,
        show_progress: bool = False,
    ) -> np.ndarray:
        """Embed documents, see `encode_queries`."""
        return self._encode(contents, "document", truncate_dim, batch_tokens, workers, errors, show_progress)

    def _encode(
        self,
        contents: Iterable[Any],
        role: Role,
        truncate_dim: int | None,
        batch_tokens: int | None,
        workers: int | None,
        errors: dict[int, ValueError] | None,
        show_progress: bool,
    ) -> np.ndarray:
        for name, value, least in (("batch_tokens", batch_tokens, 1), ("workers", workers, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; expected at least {least}.")
        rows = self.processor.rows(contents, role, errors)
        readable = {index: row for index, row in enumerate(rows) if row.ids}
        embeddings = np.full((len(rows), self.config.text_config.hidden_size), np.nan, dtype=np.float32)
        truncate(embeddings[:0], truncate_dim)  # raises before the work rather than after it
        many = "queries" if role == "query" else "documents"
        with _evaluating(self), tqdm(total=len(readable), desc=f"encode {many}", disable=not show_progress) as bar:
            for group, vectors, failed in encode_rows(self, readable, batch_tokens, workers):
                if errors is not None:
                    errors |= failed
                for index, error in failed.items() if errors is None else ():
                    raise type(error)(f"Item {index}: {error}") from error
                embeddings[group] = vectors
                bar.update(len(group) + len(failed))
        return truncate(embeddings, truncate_dim)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off, and back on as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class NyxModel(NyxMixin, Qwen2_5_VLModel):
    """Nyx on Qwen2.5-VL."""

    config_class = NyxConfig
    stock_class = Qwen2_5_VLModel


class NyxQwen3VLModel(NyxMixin, Qwen3VLModel):
    """Nyx on Qwen3-VL."""

    config_class = NyxQwen3VLConfig
    stock_class = Qwen3VLModel
    processor_class = NyxQwen3VLProcessor


for _model in (NyxModel, NyxQwen3VLModel):
    # Without this a folder in the older layout would silently give random language-model weights.
    _mapping = get_checkpoint_conversion_mapping(_model.stock_class.__name__)
    if _mapping is not None:
        register_checkpoint_conversion_mapping(_model.__name__, _mapping, overwrite=True)
    _model.register_for_auto_class("AutoModel")
