"""Attention within segments equals attention on each segment alone."""

import pytest
import torch
import torch.nn.functional as F

from modeling_nyx.attention_nyx import nyx_attention


class Module(torch.nn.Module):
    num_key_value_groups = 2

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.is_causal = causal


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [[3, 3, 3], [5, 2, 5, 1], [1], [2, 7, 2, 7, 4]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_segments_equal_loops(causal, lengths, dtype, device):
    torch.manual_seed(0)
    total = sum(lengths)
    query = torch.randn(1, 4, total, 8).to(device, dtype).requires_grad_()
    key, value = (torch.randn(1, 2, total, 8).to(device, dtype) for _ in range(2))
    ends = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    segments = {"cu_seq_lens_q": ends, "max_length_q": max(lengths)}
    ours, _ = nyx_attention(Module(causal), query, key, value, None, scaling=0.3, **segments)
    parts = []
    for start, end in zip(ends[:-1], ends[1:], strict=True):
        q, k, v = (states[:, :, start:end] for states in (query, key, value))
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        parts.append(F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.3).transpose(1, 2))
    expected = torch.cat(parts, dim=1)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)
    gradients = [torch.autograd.grad(each.float().square().sum(), query)[0] for each in (ours, expected)]
    torch.testing.assert_close(*gradients, atol=10 * tolerance, rtol=10 * tolerance)


def test_a_segment_never_sees_another():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 4, 9, 8) for _ in range(3))
    module = Module(True)
    module.num_key_value_groups = 1
    ends = torch.tensor([0, 4, 9])
    before, _ = nyx_attention(module, query, key, value, None, cu_seq_lens_q=ends)
    key[:, :, 4:], value[:, :, 4:] = 7.0, 7.0
    after, _ = nyx_attention(module, query, key, value, None, cu_seq_lens_q=ends)
    assert torch.equal(before[:, :4], after[:, :4]) and not torch.equal(before[:, 4:], after[:, 4:])
