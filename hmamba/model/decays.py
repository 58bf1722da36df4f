"""Decay factors of the chunked scan (:mod:`hmamba.model.scan`), whose shape suffixes apply."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_EXPONENT = -80.0
"""Lower limit of exponents: exp(-80) is negligible in a float32 sum, and exp is many times slower on underflow."""


def _exp(exponent: Tensor) -> Tensor:
    """Exponential in place. Exponents above 0 are masked later; they are clamped because inf * 0 is not 0."""
    return exponent.clamp_(_LEAST_EXPONENT, 0.0).exp_()


class Decays(NamedTuple):
    """Decay factors between tokens and chunk boundaries; they depend on step sizes and sequences only.

    Attributes:
        dt: (B, H, C, Q) step sizes.
        log: (B, H, C, Q) logarithm of the decay from the chunk's start to each token.
        from_start: (B, H, C, Q) decay from the chunk's start to each token; 0 across a sequence boundary.
        to_end: (B, H, C, Q) decay from each token to the chunk's end; 0 across a sequence boundary.
        carry: (B, H, C) decay across the whole chunk; 0 if a sequence starts in it.
        ordinal: (B, 1, C, Q) number of each token's sequence in its row; None if each row is one sequence.
        entered: (B, 1, C) number of the sequence whose state enters the chunk, or None.
    """

    dt: Tensor
    log: Tensor
    from_start: Tensor
    to_end: Tensor
    carry: Tensor
    ordinal: Tensor | None
    entered: Tensor | None

    @classmethod
    def of(cls, dt_BTH: Tensor, A_H: Tensor, segment_BT: Tensor | None, chunk: int) -> Decays:
        """Compute the decays of rows whose length is a multiple of ``chunk``."""
        dt = dt_BTH.transpose(1, 2).contiguous().unflatten(-1, (-1, chunk))
        log = (dt * A_H[:, None, None]).cumsum(-1)
        from_start = _exp(log.clone())
        to_end = _exp(log[..., -1:] - log)
        carry = from_start[..., -1].clone()
        if segment_BT is None:
            return cls(dt, log, from_start, to_end, carry, None, None)
        changes_BT = (segment_BT[:, 1:] != segment_BT[:, :-1]).cumsum(1)
        # float32 counts exactly up to 16 million, and its comparisons are several times faster than those of integers.
        ordinal = F.pad(changes_BT, (1, 0)).float().view(len(segment_BT), 1, -1, chunk)
        last = ordinal[..., -1]
        entered = F.pad(last[..., :-1], (1, 0))
        from_start.mul_(ordinal == entered[..., None])
        to_end.mul_(ordinal == last[..., None])
        carry.mul_(last == entered)
        return cls(dt, log, from_start, to_end, carry, ordinal, entered)

    def inside(self) -> tuple[Tensor, Tensor]:
        """Decays (B, H, C, Q, Q) from token j to token i, 1 for j > i; and the mask, 1 where i reads j, else 0."""
        left_BHCQQ = _exp(self.log[..., :, None] - self.log[..., None, :])
        seen_QQ = self.log.new_ones(left_BHCQQ.shape[-2:]).tril_()
        if self.ordinal is None:
            return left_BHCQQ, seen_QQ
        return left_BHCQQ, torch.sub(self.ordinal[..., :, None], self.ordinal[..., None, :]).eq_(0).mul_(seen_QQ)

    def between(self) -> Tensor:
        """Decays (B, H, C, C) from the end of chunk b to the start of chunk c, 0 for b >= c."""
        total_BHC = self.log[..., -1]
        end_BHC = total_BHC.cumsum(-1)
        left_BHCC = _exp((end_BHC - total_BHC)[..., :, None] - end_BHC[..., None, :]).tril_(-1)
        if self.ordinal is not None and self.entered is not None:
            left_BHCC.mul_(self.entered[..., :, None] == self.ordinal[..., None, :, -1])
        return left_BHCC

    def across(self) -> tuple[Tensor, Tensor, Tensor]:
        """Decays between the ends of the whole span and its chunks.

        Returns:
            The decays from the span's start to the start of each chunk (B, H, C), from the end of each chunk to the
            span's end (B, H, C), and from the span's start to its end (B, H).
        """
        total_BHC = self.log[..., -1]
        end_BHC = total_BHC.cumsum(-1)
        before_BHC, after_BHC = _exp(end_BHC - total_BHC), _exp(end_BHC[..., -1:] - end_BHC)
        whole_BH = _exp(end_BHC[..., -1].clone())
        if self.ordinal is not None and self.entered is not None:
            last = self.ordinal[..., -1]
            before_BHC.mul_(self.entered == self.entered[..., :1])
            after_BHC.mul_(last == last[..., -1:])
            whole_BH.mul_(last[..., -1] == self.entered[..., 0])
        return before_BHC, after_BHC, whole_BH
