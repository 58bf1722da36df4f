"""The output of a block at the last token of each sequence, in closed form. Scoring needs no other output.

The recurrence of :mod:`hmamba.model.scan`, unrolled, gives the output at the last token T:

    y_T = C_T . sum over t of exp(sum over t < i <= T of dt_i A) dt_t x_t B_t^T + D x_T

This takes one weight per token and head, then one product per sequence. Gate, C and the feed-forward network are
computed at the last token only. The same sum without C is the state after the sequence. In a model of one block, the
input of the block depends on the item only; its projections are then computed once per item instead of once per token,
and the convolution is a sum of table rows.

Shape suffixes as in :mod:`hmamba.model.scan`; V rows of the table, L length of the longest sequence, M = E + N channels
of x and B, K taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hmamba.model.block import Block, BlockState


class Sums(NamedTuple):
    """The factors of the sum over a sequence's tokens.

    Attributes:
        windows: (B, L, K) rows of the table that the convolution reads at each token, oldest first.
        x: (B, L, E) inputs of the state space.
        b: (B, L, N) their input projections B.
        kept: (B, L, H) step size of each token times the decay from it to the last token.
    """

    windows: Tensor
    x: Tensor
    b: Tensor
    kept: Tensor


@dataclass(frozen=True)
class LastToken:
    """Tables of a block's projections, one row per distinct token; row 0 is padding.

    Attributes:
        block: the block.
        stream: (V, d) inputs of the block.
        tapped_x: (V K, E) convolution inputs of x times each tap, the oldest token's tap first; the current token's
            product includes the bias.
        tapped_b: (V K, N) the same for B.
        inputs: (V, M + N) convolution inputs of x, B and C.
        gate: (V, E) gates before their activation.
        steps: (V, 2 H) step sizes dt, 0 for padding, and log decays dt A.
    """

    block: Block
    stream: Tensor
    tapped_x: Tensor
    tapped_b: Tensor
    inputs: Tensor
    gate: Tensor
    steps: Tensor

    @classmethod
    def of(cls, block: Block, stream_Vd: Tensor, curvature: Tensor) -> LastToken:
        """Compute the tables of a block.

        Args:
            block: the block.
            stream_Vd: its inputs; a row for padding is prepended.
            curvature: |k| = 1/K.
        """
        mixer = block.mixer
        stream_Vd = F.pad(stream_Vd, (0, 0, 1, 0))
        gate_VE, input_VM, dt_VH = block.project(stream_Vd, curvature)
        dt_VH = F.softplus(dt_VH + mixer.dt_bias)
        dt_VH[0] = 0
        input_VM[0] = 0

        def tapped(of: slice) -> Tensor:
            # The taps of a row lie together in memory because they are read together.
            tapped_VKM = mixer.conv_weight[of].T.contiguous() * input_VM[:, None, of]
            tapped_VKM[1:, -1] += mixer.conv_bias[of]
            return tapped_VKM.flatten(0, 1)

        x, B = tapped(slice(mixer.inner)), tapped(slice(mixer.inner, mixer.inner + mixer.size))
        steps = torch.cat([dt_VH, dt_VH * mixer.decay(curvature)], dim=1)
        return cls(block, stream_Vd, x, B, input_VM, gate_VE, steps)

    def sums(self, row_BL: Tensor) -> Sums:
        """Compute the factors for :meth:`output` and :meth:`state`.

        Args:
            row_BL: rows of the table, from 1, aligned to the right; 0 is left padding.
        """
        mixer, (rows, longest) = self.block.mixer, row_BL.shape
        taps = mixer.conv_weight.shape[1]
        window_BLK = F.pad(row_BL, (taps - 1, 0)).unfold(1, taps, 1)
        bag_BLK = window_BLK * taps + torch.arange(taps, device=row_BL.device)
        bags = bag_BLK.flatten(0, 1)
        x_BLE, B_BLN = (
            F.silu(F.embedding_bag(bags, table, mode="sum"), inplace=True).view(rows, longest, -1)
            for table in (self.tapped_x, self.tapped_b)
        )

        dt_BLH, decay_BLH = self.steps[row_BL].chunk(2, dim=-1)
        # Log decay after each token. Summed from the end: the latest tokens weigh most and get the smallest error.
        later_BLH = F.pad(decay_BLH[:, 1:].flip(1).cumsum(1).flip(1), (0, 0, 0, 1))
        return Sums(window_BLK, x_BLE, B_BLN, later_BLH.exp() * dt_BLH)

    def output(self, sums: Sums) -> Tensor:
        """Outputs (B, d) of the block at the last token of each sequence."""
        mixer, (window_BLK, x_BLE, B_BLN, kept_BLH) = self.block.mixer, sums
        end_BK, x_and_B = window_BLK[:, -1], mixer.inner + mixer.size
        last_B = end_BK[:, -1]
        read_BKN = self.inputs[:, x_and_B:][end_BK] * mixer.conv_weight[x_and_B:].T
        C_BN = F.silu(read_BKN.sum(1) + mixer.conv_bias[x_and_B:])
        weight_BLH = kept_BLH * (B_BLN @ C_BN[..., None])
        # One product of the weights of all heads with the channels of all heads; only the diagonal is used.
        y_BHHP = (weight_BLH.transpose(1, 2) @ x_BLE).unflatten(-1, (mixer.heads, mixer.head_dim))
        y_BHP = y_BHHP.diagonal(dim1=1, dim2=2).transpose(1, 2)
        y_BHP = y_BHP + mixer.skip[:, None] * x_BLE[:, -1].view_as(y_BHP)
        return self.block.close(self.stream[last_B], mixer.close(y_BHP.flatten(1), self.gate[last_B]))

    def state(self, sums: Sums) -> BlockState:
        """State of the block after the last token of each sequence."""
        mixer, (window_BLK, x_BLE, B_BLN, kept_BLH) = self.block.mixer, sums
        added_BLHP = x_BLE.unflatten(-1, (mixer.heads, mixer.head_dim)) * kept_BLH[..., None]
        ssm_BEN = added_BLHP.flatten(2).transpose(1, 2) @ B_BLN
        # Row 0 of the inputs is zero, like the convolution's inputs before the first token.
        return BlockState(self.inputs[window_BLK[:, -1, 1:]], ssm_BEN.unflatten(1, (mixer.heads, mixer.head_dim)))
