"""The backbone's layers, computed in fewer passes: the same parameters and results, on a GPU but for rounding."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionPatchEmbed,
    Qwen2_5_VLMLP,
    Qwen2_5_VLRMSNorm,
)
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRMSNorm

# On a GPU products of matrices whose rows begin at other multiples of values are far slower.
ALIGNED = 64


class _PatchEmbed(Qwen2_5_VisionPatchEmbed):
    """The same embedding of patches as one product: a convolution that doesn't overlap takes four times as long."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if type(self.proj) is not nn.Conv3d:  # an adapter's, which has more than a weight
            return super().forward(hidden_states)
        weight = self.proj.weight.flatten(1)
        return F.linear(hidden_states.to(weight.dtype), weight)


class _MLP(Qwen2_5_VLMLP):
    """The vision tower's, 3420 wide in Qwen2.5-VL: filled up with zeros where a GPU encodes."""

    def forward(self, hidden_state: Tensor) -> Tensor:
        parts = (self.gate_proj, self.up_proj, self.down_proj)
        plain = all(type(part) is nn.Linear and part.weight.is_cuda for part in parts)
        if hidden_state.is_cuda and plain and not self.training and self.intermediate_size % ALIGNED:
            return filled_up(self, hidden_state)
        return super().forward(hidden_state)


def filled_up(mlp: Qwen2_5_VLMLP, hidden_state: Tensor) -> Tensor:
    """Compute an MLP as if it had some more hidden values, all zero."""
    missing = -mlp.intermediate_size % ALIGNED
    gate, up = (
        F.linear(
            hidden_state,
            F.pad(part.weight, (0, 0, 0, missing)),
            None if part.bias is None else F.pad(part.bias, (0, missing)),
        )
        for part in (mlp.gate_proj, mlp.up_proj)
    )
    return F.linear(mlp.act_fn(gate) * up, F.pad(mlp.down_proj.weight, (0, missing)), mlp.down_proj.bias)


class _OnePass:
    """The same by torch's own kernel on a GPU: one pass over memory instead of several."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        if hidden_states.is_cuda and hidden_states.dtype == self.weight.dtype:
            return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)
        return super().forward(hidden_states)  # type: ignore[misc]


# transformers initialises what has RMSNorm in its class's name.
class _RMSNorm(_OnePass, Qwen2_5_VLRMSNorm): ...


class _Qwen3RMSNorm(_OnePass, Qwen3VLTextRMSNorm): ...


FAST = {
    Qwen2_5_VisionPatchEmbed: _PatchEmbed,
    Qwen2_5_VLMLP: _MLP,
    Qwen2_5_VLRMSNorm: _RMSNorm,
    Qwen3VLTextRMSNorm: _Qwen3RMSNorm,
}


def use_fast_layers(model: Any) -> None:
    """Let a model's layers compute in fewer passes."""
    for module in model.modules():
        module.__class__ = FAST.get(type(module), type(module))
