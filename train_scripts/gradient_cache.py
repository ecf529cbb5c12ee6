"""The gradient of a loss over more embeddings than one forward pass can hold (GradCache, arXiv 2101.06983).

Embed micro-batch by micro-batch; take the loss's gradient on the embeddings; send each micro-batch's share of that
gradient back through its graph. As many graphs as fit are kept in between, the others made by embedding again. Nothing
else is done twice: what occurs several times in a batch, documents and pictures, and a vision tower that is frozen.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature

from modeling_nyx.modeling_nyx import NyxMixin, last_token_embeddings
from modeling_nyx.rows_nyx import filler
from train_scripts.batching import MicroBatch, Picture

# Of bfloat16's products on a CPU, code is compiled and kept for every number of tokens: hundreds of megabytes, unless
# these are multiples of a number.
MULTIPLE = 256

# From the embeddings of this process's contents: the loss, and its gradient on them.
LossAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]


class RandomState:
    """The random state at one moment, to draw the same dropout masks again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @contextmanager
    def replayed(self) -> Iterator[None]:
        with torch.random.fork_rng([self.device] if self.cuda is not None else []):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, self.device)
            yield


def vision_is_frozen(encoder: NyxMixin) -> bool:
    return not any(parameter.requires_grad for parameter in encoder.visual.parameters())  # type: ignore[attr-defined]


class Embedder:
    """Embeds micro-batches of one contrastive batch, with or without a graph.

    `model` is called (it may be wrapped for distributed training); `encoder` is the Nyx model inside it, whose vision
    tower runs under `autocast()`. The features of pictures that several micro-batches need, and of all pictures if the
    tower is frozen, are computed once and kept: as leaves, whose gradient `backward` takes on into the tower.
    """

    def __init__(
        self,
        model: Any,
        encoder: Any,
        micros: Sequence[MicroBatch],
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self.model, self.encoder, self.autocast = model, encoder, autocast
        self.trained = not vision_is_frozen(encoder)
        with autocast():
            bfloat16 = encoder.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        self.rounded = bfloat16 and encoder.device.type == "cpu"
        times = Counter(key for micro in micros for key in micro.pictures)
        self.features: dict[str, Tensor] = {}
        self.kept: list[tuple[dict[str, Picture], RandomState]] = []
        for micro in micros:
            wanted = {key for key in micro.pictures if not self.trained or times[key] > 1} - self.features.keys()
            if wanted:
                pictures = {key: picture for key, picture in micro.pictures.items() if key in wanted}
                self.kept.append((pictures, RandomState(encoder.device)))
                with torch.no_grad():
                    self.features |= self._features(pictures)
        if self.trained:  # in float32, so that the gradients of many occurrences add up without rounding
            self.features = {key: feature.float().requires_grad_() for key, feature in self.features.items()}

    def __call__(self, micro: MicroBatch) -> Tensor:
        known = {key: self.features[key] for key in micro.pictures if key in self.features}
        rows = [filler(micro.rows, MULTIPLE), *micro.rows] if self.rounded else micro.rows
        inputs = dict(self.encoder.processor.pack_rows(rows, known).to(self.encoder.device))
        if "image_index" in inputs:
            inputs["image_features"] = [*self._encode(inputs), *known.values()]
        return last_token_embeddings(self.model(**inputs).last_hidden_state, inputs)[-len(micro.rows) :]

    def backward(self, backward: Callable[[Tensor], None]) -> None:
        """Once all micro-batches have sent their gradients back, send the kept pictures' on, each picture's once."""
        for pictures, state in self.kept if self.trained else []:
            with state.replayed():
                features = self._features(pictures)
            shares = [(feature * self.features[key].grad).sum() for key, feature in features.items()]  # type: ignore[operator]
            backward(torch.stack(shares).sum())

    def _features(self, pictures: dict[str, Picture]) -> dict[str, Tensor]:
        pixels = BatchFeature(self.encoder.processor.pixels(list(pictures.values())))
        return dict(zip(pictures, self._encode(dict(pixels.to(self.encoder.device))), strict=True))

    def _encode(self, inputs: dict[str, Tensor]) -> Sequence[Tensor]:
        """Take the pixels, if there are any, out of `inputs` and through the vision tower."""
        if "pixel_values" not in inputs:
            return ()
        with self.autocast():
            return self.encoder.encode_images(inputs.pop("pixel_values"), inputs.pop("image_grid_thw"))


def cached_backward(
    embed: Embedder,
    micros: Sequence[MicroBatch],
    loss_and_gradient: LossAndGradient,
    backward: Callable[[Tensor], None],
    graph_tokens: int,
) -> Tensor:
    """Accumulate the loss's gradient on the parameters and return the loss.

    `backward` gets scalars whose gradients add up to the loss's. `graph_tokens`: as many tokens of the last
    micro-batches keep their graphs from the first time, and aren't embedded again.
    """
    lengths = [sum(len(row.ids) for row in micro.rows) for micro in micros]
    first_kept = sum(sum(lengths[number:]) > graph_tokens for number in range(len(micros)))
    states, parts = [], []
    for number, micro in enumerate(micros):
        states.append(RandomState(embed.encoder.device))
        with torch.set_grad_enabled(number >= first_kept):
            parts.append(embed(micro))
    loss, gradient = loss_and_gradient(_in_order(micros, parts))
    shares = [(part * gradient[micro.indices]).sum() for micro, part in zip(micros, parts, strict=True)]
    if first_kept < len(micros):
        backward(torch.stack(shares[first_kept:]).sum())
    for micro, state in zip(micros[:first_kept], states, strict=False):
        with state.replayed():
            backward((embed(micro) * gradient[micro.indices]).sum())
    embed.backward(backward)
    return loss


def _in_order(micros: Sequence[MicroBatch], parts: Sequence[Tensor]) -> Tensor:
    """Put embeddings back into the batch's order, cut from any graph."""
    result = parts[0].new_empty(sum(len(part) for part in parts), parts[0].shape[1])
    for micro, part in zip(micros, parts, strict=True):
        result[micro.indices] = part.detach()
    return result
