"""The last block at each sequence's last token only, in closed form: all that scoring needs of it.

Unrolled, the recurrence of :mod:`hmamba.model.scan` says what the last token reads:

    y_T = C_T . sum over t of exp(sum over t < i <= T of dt_i A) dt_t x_t B_t^T + D x_T

so no other output is computed: one weight a token and head, then one product a sequence. Gate, C and the feed-forward
network are needed at the last token alone. The same sum without C is the state that the sequence leaves. Where the
stream that enters the block depends on the item alone (a model of one block), its projections are made once an item
instead of once a token, and the convolution is a sum of table rows.

Shape suffixes as in :mod:`hmamba.model.scan`; V rows of the table, L the longest sequence, M = E + N channels of x and
B, K taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hmamba.model.block import Block, BlockState


class Sums(NamedTuple):
    """The terms of the sum that a sequence's last token reads.

    Attributes:
        windows: (B, L, K) rows of the table that the convolution meets at each token, the oldest first.
        x: (B, L, E) what each token adds to the state, and
        b: (B, L, N) where.
        kept: (B, L, H) how much of it is left after the last token, times its step size.
    """

    windows: Tensor
    x: Tensor
    b: Tensor
    kept: Tensor


@dataclass(frozen=True)
class LastToken:
    """A block's view of the tokens that a set of sequences is made of; row 0 is padding.

    Attributes:
        block: the last one.
        stream: (V, d) what enters the block.
        tapped_x: (V K, E) inputs of the convolution for x, each times one of its taps, the oldest token's first; the
            bias is in the current token's.
        tapped_b: (V K, N) the same for B.
        inputs: (V, M + N) inputs of the convolution, for x, B and C.
        gate: (V, E) what the gate is made of.
        steps: (V, 2 H) step sizes, 0 for padding, and their logarithmic decay, dt A.
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
        """Project tokens.

        Args:
            block: the last one.
            stream_Vd: what enters it; a row for padding is put before.
            curvature: |k| = 1/K.
        """
        mixer = block.mixer
        stream_Vd = F.pad(stream_Vd, (0, 0, 1, 0))
        gate_VE, input_VM, dt_VH = block.project(stream_Vd, curvature)
        dt_VH = F.softplus(dt_VH + mixer.dt_bias)
        dt_VH[0] = 0
        input_VM[0] = 0

        def tapped(of: slice) -> Tensor:
            # Of one item together: they are read one after another, and lie in the cache then.
            tapped_VKM = mixer.conv_weight[of].T.contiguous() * input_VM[:, None, of]
            tapped_VKM[1:, -1] += mixer.conv_bias[of]
            return tapped_VKM.flatten(0, 1)

        x, B = tapped(slice(mixer.inner)), tapped(slice(mixer.inner, mixer.inner + mixer.size))
        steps = torch.cat([dt_VH, dt_VH * mixer.decay(curvature)], dim=1)
        return cls(block, stream_Vd, x, B, input_VM, gate_VE, steps)

    def sums(self, row_BL: Tensor) -> Sums:
        """What :meth:`output` and :meth:`state` are made of.

        Args:
            row_BL: rows of the table, from 1, aligned to the right; 0 before a shorter sequence's first token.
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
        # What is forgotten after a token: summed from the end, where the weights are largest, so that these are exact.
        later_BLH = F.pad(decay_BLH[:, 1:].flip(1).cumsum(1).flip(1), (0, 0, 0, 1))
        return Sums(window_BLK, x_BLE, B_BLN, later_BLH.exp() * dt_BLH)

    def output(self, sums: Sums) -> Tensor:
        """The block's output (B, d) at the last token of each sequence."""
        mixer, (window_BLK, x_BLE, B_BLN, kept_BLH) = self.block.mixer, sums
        end_BK, x_and_B = window_BLK[:, -1], mixer.inner + mixer.size
        last_B = end_BK[:, -1]
        read_BKN = self.inputs[:, x_and_B:][end_BK] * mixer.conv_weight[x_and_B:].T
        C_BN = F.silu(read_BKN.sum(1) + mixer.conv_bias[x_and_B:])
        weight_BLH = kept_BLH * (B_BLN @ C_BN[..., None])
        # Every head's weights with every head's channels, in one product; what does not belong together is dropped.
        y_BHHP = (weight_BLH.transpose(1, 2) @ x_BLE).unflatten(-1, (mixer.heads, mixer.head_dim))
        y_BHP = y_BHHP.diagonal(dim1=1, dim2=2).transpose(1, 2)
        y_BHP = y_BHP + mixer.skip[:, None] * x_BLE[:, -1].view_as(y_BHP)
        return self.block.close(self.stream[last_B], mixer.close(y_BHP.flatten(1), self.gate[last_B]))

    def state(self, sums: Sums) -> BlockState:
        """What the block has to know to go on after the last token of each sequence."""
        mixer, (window_BLK, x_BLE, B_BLN, kept_BLH) = self.block.mixer, sums
        added_BLHP = x_BLE.unflatten(-1, (mixer.heads, mixer.head_dim)) * kept_BLH[..., None]
        ssm_BEN = added_BLHP.flatten(2).transpose(1, 2) @ B_BLN
        # Row 0 of the inputs is zero, as the convolution has it before a sequence began.
        return BlockState(self.inputs[window_BLK[:, -1, 1:]], ssm_BEN.unflatten(1, (mixer.heads, mixer.head_dim)))
