"""Layers computed in fewer passes give what the backbone's own give."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionPatchEmbed,
    Qwen2_5_VLMLP,
    Qwen2_5_VLRMSNorm,
)

from modeling_nyx import NyxQwen3VLModel
from modeling_nyx.layers_nyx import FAST, filled_up, use_fast_layers


class Shape:
    hidden_size, intermediate_size, hidden_act = 32, 70, "silu"


def layers():
    torch.manual_seed(0)
    norm = Qwen2_5_VLRMSNorm(32)
    nn.init.normal_(norm.weight)
    return nn.ModuleList([Qwen2_5_VLMLP(Shape, bias=True), Qwen2_5_VLMLP(Shape), norm])


@pytest.mark.parametrize("bias", [True, False])
def test_zeros_change_nothing(bias):
    mlp = layers()[0 if bias else 1]
    states = torch.randn(5, 32)
    torch.testing.assert_close(filled_up(mlp, states), mlp(states), atol=1e-6, rtol=0)


def test_every_layer_is_replaced(model, qwen3_folder):
    both = model, NyxQwen3VLModel.from_pretrained(qwen3_folder)
    left = {type(module) for each in both for module in each.modules()}
    assert not left & FAST.keys() and left >= set(FAST.values())


def test_a_cpu_computes_the_same_to_the_bit():
    stock, fast = layers(), layers()
    use_fast_layers(fast)
    assert fast.state_dict().keys() == stock.state_dict().keys()
    states = torch.randn(5, 32)
    assert all(torch.equal(one(states), two(states)) for one, two in zip(stock, fast, strict=True))


def test_an_adapter_of_the_patch_embedding_counts():
    torch.manual_seed(0)
    fast = nn.ModuleList([Qwen2_5_VisionPatchEmbed(14, 2, 3, 16)])
    use_fast_layers(fast)
    patches = torch.randn(6, 3 * 2 * 14 * 14)
    before = fast[0](patches)
    inject_adapter_in_model(LoraConfig(target_modules=["proj"], r=2, init_lora_weights=False), fast)
    adapted = fast[0](patches)
    (adapter,) = (module for module in fast.modules() if isinstance(module, BaseTunerLayer))
    adapted.sum().backward()
    assert adapter.lora_B["default"].weight.grad.abs().sum() > 0
    adapter.merge()
    torch.testing.assert_close(fast[0](patches), adapted, atol=1e-5, rtol=0)
    assert (adapted - before).abs().max() > 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_a_gpu_computes_the_same(dtype, tolerance, training):
    stock = layers().to("cuda", dtype).train(training)
    fast = copy.deepcopy(stock)
    use_fast_layers(fast)
    for one, two in zip(stock, fast, strict=True):
        states = torch.randn(64, 32, device="cuda", dtype=dtype, requires_grad=True)
        outputs = one(states), two(states)
        torch.testing.assert_close(*outputs, atol=tolerance, rtol=tolerance)
        gradients = [torch.autograd.grad(each.float().square().sum(), states)[0] for each in outputs]
        torch.testing.assert_close(*gradients, atol=10 * tolerance, rtol=10 * tolerance)
