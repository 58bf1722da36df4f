"""The convolution over packed sequences against one over each sequence."""

from __future__ import annotations

import pytest
import torch

from hmamba.model import conv
from hmamba.model.conv import causal_conv

LENGTHS = [5, 2, 1, 9, 3]


def inputs(dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    shapes = [(2, sum(LENGTHS), 6), (6, 4), (6,)]
    segment = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS)).expand(2, -1)
    return [torch.randn(s, generator=random, dtype=dtype).requires_grad_() for s in shapes], segment


@pytest.mark.parametrize("block", [1, 2, 7, 512])
def test_packed_equals_one_by_one_with_its_gradients(monkeypatch, block):
    monkeypatch.setitem(conv._BLOCK, "cpu", block)
    (x, weight, bias), segment = inputs()
    packed = causal_conv(x, weight, bias, segment)
    alone = torch.cat([causal_conv(part, weight, bias, None) for part in x.split(LENGTHS, dim=1)], dim=1)
    torch.testing.assert_close(packed, alone)
    upstream = torch.randn_like(packed)
    found, expected = (torch.autograd.grad(out, [x, weight, bias], upstream) for out in (packed, alone))
    torch.testing.assert_close(found, expected)


def test_gradients_in_float64():
    tensors, segment = inputs()
    assert torch.autograd.gradcheck(lambda *given: causal_conv(*given, segment), tensors)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_rows_shorter_than_the_filter(tokens):
    (x, weight, bias), segment = inputs()
    packed = causal_conv(x[:, :tokens], weight, bias, torch.zeros_like(segment[:, :tokens]))
    torch.testing.assert_close(packed, causal_conv(x[:, :tokens], weight, bias, None))


def test_inputs_of_lower_precision_keep_their_dtype_in_the_gradient():
    (x, weight, bias), segment = inputs(torch.float32)
    low = x.detach().bfloat16().requires_grad_()
    out = causal_conv(low, weight, bias, segment)
    out.sum().backward()
    assert (out.dtype, low.grad.dtype) == (torch.float32, torch.bfloat16)
