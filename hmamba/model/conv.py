"""The depthwise causal convolution before the state space, for single and packed sequences.

Shape suffixes: B rows, T tokens, E channels, K taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = {"cpu": 512, "cuda": 1 << 20}
"""Tokens per block; all taps are applied to a block before the next one is read. On the CPU a block fits the cache."""


def causal_conv(
    x_BTE: Tensor, weight_EK: Tensor, bias_E: Tensor, segment_BT: Tensor | None, before_BKE: Tensor | None = None
) -> Tensor:
    """Depthwise causal convolution that does not cross the boundaries of packed sequences.

    Args:
        x_BTE: input.
        weight_EK: one filter of K taps per channel; the last tap multiplies the current token.
        bias_E: one bias per channel.
        segment_BT: sequence of each token; None if each row is one sequence.
        before_BKE: the K - 1 inputs before the first token, without ``segment_BT`` only; None for zeros.
    """
    taps = weight_EK.shape[-1]
    if segment_BT is None:
        before_BKE = x_BTE.new_zeros(len(x_BTE), taps - 1, x_BTE.shape[-1]) if before_BKE is None else before_BKE
        whole_BET = torch.cat([before_BKE, x_BTE], dim=1).transpose(1, 2)
        return F.conv1d(whole_BET, weight_EK[:, None], bias_E, groups=weight_EK.shape[0]).transpose(1, 2)
    out_BTE: Tensor = _PackedConv.apply(x_BTE, weight_EK, bias_E, segment_BT)  # type: ignore[no-untyped-call]
    return out_BTE


def _same(segment_BT: Tensor, taps: int, dtype: torch.dtype) -> list[Tensor]:
    """For each distance from 1 to K - 1: (B, T - distance, 1), 1 where both tokens are of one sequence, else 0."""
    distances = range(1, min(taps, segment_BT.shape[1]))
    return [(segment_BT[:, back:] == segment_BT[:, :-back]).unsqueeze(-1).to(dtype) for back in distances]


def _blocks(x_BTE: Tensor) -> Iterator[tuple[int, int]]:
    size = _BLOCK.get(x_BTE.device.type, _BLOCK["cuda"])
    for start in range(0, x_BTE.shape[1], size):
        yield start, min(start + size, x_BTE.shape[1])


class _PackedConv(torch.autograd.Function):
    """A sum of shifted products, one block of tokens at a time.

    The gradient is written by hand: autograd would read all tokens from memory once for each tap.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        x, weight, bias, segment = inputs
        ctx.save_for_backward(x, weight, segment)
        tap_KE, same = weight.T.contiguous(), _same(segment, weight.shape[1], weight.dtype)
        out = weight.new_empty(x.shape)
        for start, end in _blocks(x):
            torch.addcmul(bias, x[:, start:end], tap_KE[-1], out=out[:, start:end])
            for back, same_BT1 in enumerate(same, 1):
                first = min(max(start, back), end)
                seen_BTE = x[:, first - back : end - back] * same_BT1[:, first - back : end - back]
                out[:, first:end].addcmul_(seen_BTE, tap_KE[-1 - back])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight, segment), (dout,) = ctx.saved_tensors, outputs
        tap_KE, same = weight.T.contiguous(), _same(segment, weight.shape[1], weight.dtype)
        dx, dtap_KE, dbias = weight.new_empty(x.shape), torch.zeros_like(tap_KE), torch.zeros_like(tap_KE[0])
        for start, end in _blocks(x):
            torch.mul(dout[:, start:end], tap_KE[-1], out=dx[:, start:end])
            dtap_KE[-1] += (dout[:, start:end] * x[:, start:end]).sum((0, 1))
            dbias += dout[:, start:end].sum((0, 1))
            for back, same_BT1 in enumerate(same, 1):
                last = max(start, min(end, x.shape[1] - back))
                seen_BTE = dout[:, start + back : last + back] * same_BT1[:, start:last]
                dx[:, start:last].addcmul_(seen_BTE, tap_KE[-1 - back])
                dtap_KE[-1 - back] += seen_BTE.mul_(x[:, start:last]).sum((0, 1))
        return dx, dtap_KE.T, dbias, None
