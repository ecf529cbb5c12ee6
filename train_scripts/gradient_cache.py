"""The gradient of a loss over more embeddings than one forward pass can hold (GradCache, arXiv 2101.06983).

Embed without a graph, micro-batch by micro-batch; take the loss's gradient on the embeddings; embed again with a
graph and send each micro-batch's share of that gradient back. What fits one pass a side is embedded only once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from modeling_nyx.modeling_nyx import NyxMixin, last_token_embeddings
from train_scripts.batching import MicroBatch

# From local embeddings of queries and documents: the loss, and its gradient on either.
LossAndGradients = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


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

    `model` is called (it may be wrapped for distributed training); `encoder` is the Nyx model inside it. The pictures'
    features are computed once if the vision tower is frozen.
    """

    def __init__(self, model: Any, encoder: Any) -> None:
        self.model, self.encoder = model, encoder
        self.keep_features = vision_is_frozen(encoder)
        self.features: dict[int, Any] = {}

    def __call__(self, micro: MicroBatch) -> Tensor:
        inputs = dict(self.encoder.processor.pack_rows(micro.rows).to(self.encoder.device))
        if self.keep_features and "pixel_values" in inputs:
            pixels = inputs.pop("pixel_values")
            if id(micro) not in self.features:
                with torch.no_grad():
                    self.features[id(micro)] = self.encoder.encode_images(pixels, inputs["image_grid_thw"])
            inputs["image_features"] = self.features[id(micro)]
        return last_token_embeddings(self.model(**inputs).last_hidden_state, inputs)


def cached_backward(
    embed: Callable[[MicroBatch], Tensor],
    micros: Sequence[MicroBatch],
    loss_and_gradients: LossAndGradients,
    backward: Callable[[Tensor], None],
    device: torch.device,
) -> Tensor:
    """Accumulate the loss's gradient on the parameters and return the loss.

    `backward` gets one scalar a micro-batch, whose gradient is that micro-batch's share.
    """
    once = all(sum(micro.role == role for micro in micros) <= 1 for role in ("query", "document"))
    states, parts = [], []
    for micro in micros:
        states.append(RandomState(device))
        with torch.set_grad_enabled(once):
            parts.append(embed(micro))
    local = {role: _in_order(micros, parts, role) for role in ("query", "document")}
    loss, *gradients = loss_and_gradients(local["query"], local["document"])
    gradient = dict(zip(("query", "document"), gradients, strict=True))
    if once:
        shares = [
            (part * gradient[micro.role][micro.indices]).sum() for micro, part in zip(micros, parts, strict=True)
        ]
        backward(torch.stack(shares).sum())
        return loss
    for micro, state in zip(micros, states, strict=True):
        with state.replayed():
            backward((embed(micro) * gradient[micro.role][micro.indices]).sum())
    return loss


def _in_order(micros: Sequence[MicroBatch], parts: Sequence[Tensor], role: str) -> Tensor:
    """Put the embeddings of one role back into the batch's order, cut from any graph."""
    mine = [(micro.indices, part.detach()) for micro, part in zip(micros, parts, strict=True) if micro.role == role]
    result = mine[0][1].new_empty(sum(len(indices) for indices, _ in mine), mine[0][1].shape[1])
    for indices, part in mine:
        result[indices] = part
    return result
