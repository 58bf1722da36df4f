"""The selective scan of Mamba-2 (state-space duality): the recurrence and the chunked form.

    h_t = exp(dt_t A_h) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D_h x_t

Shape suffixes: B rows, T tokens, H heads, P channels per head, N state size, C chunks, Q tokens per chunk.

==============  ==========================================================================================
``x_BTHP``      input of the state space
``dt_BTH``      step sizes, >= 0; a step size of 0 keeps the state, so padding has no effect
``A_H``         one negative scalar per head
``B_BTN``       input projection, shared by all heads
``C_BTN``       output projection, shared by all heads
``D_H``         skip connection
``segment_BT``  optional: sequence of each token; the state is zero where a new sequence starts, so sequences
                of any length can be packed end to end in one row
``state_BHPN``  optional: initial state of each row's first sequence
==============  ==========================================================================================

Every implementation returns ``y_BTHP`` and the state after the last token of each row, ``(B, H, P, N)``. The third one,
mamba_ssm's fused kernels, is in :mod:`hmamba.model.kernels`.

The chunked form computes groups of tokens that fit into the cache. Its gradient is written by hand and recomputes the
intermediates of each group: autograd would keep those of all tokens and read them from memory. With the masked decays L
and s = dt x, the outputs of a chunk are y = (L (.) C B^T) s + D x plus the part read from the state, and each gradient
is a product of the same kind. L_ij is the product of the decays of tokens j + 1 to i. The gradient in the logarithm of
a token's decay is therefore the sum of dL (.) L over the pairs on either side of the token, and likewise for the terms
that cross the chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNKS = range(32, 65, 8)
"""Chunk sizes that are tried for the least padding, smallest first. Measured on the CPU: in smaller chunks, states cost
more than the products inside a chunk save; in larger ones, the causal mask discards too much of those products."""

_GROUP = {"cpu": 1 << 11, "cuda": 1 << 20}
"""Tokens per group. On the CPU (one thread) a group is small enough that its intermediates stay in the cache, and large
enough that the overhead of calls does not matter. A GPU needs fewer and larger kernels; its value is not measured."""

_SHARED = 2  # with several threads, group size per thread is this many times larger: threads wait after each operation

_GROUP_CHUNKS = 32  # per row: the cost of passing states between the chunks of a group is quadratic in their number

_LEAST_EXPONENT = -80.0
"""Lower limit of exponents: exp(-80) is negligible in a float32 sum, and exp is many times slower on underflow."""


def reference_scan(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    D_H: Tensor,
    *,
    segment_BT: Tensor | None = None,
    state_BHPN: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the recurrence one token at a time. The other implementations are tested against it."""
    rows, tokens, heads, channels = x_BTHP.shape
    state = x_BTHP.new_zeros(rows, heads, channels, B_BTN.shape[-1]) if state_BHPN is None else state_BHPN
    outputs = []
    for t in range(tokens):
        if segment_BT is not None and t > 0:
            same = segment_BT[:, t] == segment_BT[:, t - 1]
            state = state * same[:, None, None, None]
        decay_BH = torch.exp(dt_BTH[:, t] * A_H)
        step_BHP = dt_BTH[:, t, :, None] * x_BTHP[:, t]
        state = decay_BH[..., None, None] * state + step_BHP[..., None] * B_BTN[:, t, None, None, :]
        outputs.append(torch.einsum("bhpn,bn->bhp", state, C_BTN[:, t]) + D_H[:, None] * x_BTHP[:, t])
    return torch.stack(outputs, dim=1), state


def chunked_scan(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    D_H: Tensor,
    *,
    segment_BT: Tensor | None = None,
    state_BHPN: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the scan in time linear in T with matrix products (Mamba-2, arXiv 2405.21060, section 6).

    Inside a chunk the recurrence is a masked product; between chunks only states are passed on. All heads share C B^T.
    Every exponent is <= 0. Differentiable once. ``chunk`` is the number of tokens per chunk; None: :func:`chunk_for`.
    """
    rows, tokens, heads, channels = x_BTHP.shape
    device = x_BTHP.device.type
    chunk = min(chunk or chunk_for(tokens), tokens)
    short = -tokens % chunk
    if short:
        x_BTHP = F.pad(x_BTHP, (0, 0, 0, 0, 0, short))
        dt_BTH, B_BTN, C_BTN = (F.pad(part_BTX, (0, 0, 0, short)) for part_BTX in (dt_BTH, B_BTN, C_BTN))
        if segment_BT is not None:
            segment_BT = torch.cat([segment_BT, segment_BT[:, -1:].expand(-1, short)], dim=1)
    if state_BHPN is None:
        state_BHPN = x_BTHP.new_zeros(rows, heads, channels, B_BTN.shape[-1])
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_BTHP.dtype
    dt_BTH, A_H = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (dt_BTH, A_H))
    with torch.autocast(device, enabled=False):
        y_BTHP, last_BHNP = _ChunkedScan.apply(  # type: ignore[no-untyped-call]
            x_BTHP, dt_BTH, A_H, B_BTN, C_BTN, D_H, state_BHPN.transpose(-1, -2), segment_BT, chunk, dtype
        )
    return y_BTHP[:, :tokens] if short else y_BTHP, last_BHNP.transpose(-1, -2)


def chunk_for(tokens: int) -> int:
    """The default chunk size for rows of ``tokens`` tokens: the one with the least padding."""
    if tokens <= _CHUNKS[-1]:
        return tokens
    return min(_CHUNKS, key=lambda chunk: -tokens % chunk)


def _exp(exponent: Tensor) -> Tensor:
    """Exponential in place. Exponents above 0 are masked later; they are clamped because inf * 0 is not 0."""
    return exponent.clamp_(_LEAST_EXPONENT, 0.0).exp_()


def _chunks(part_BTX: Tensor, chunk: int) -> Tensor:
    """View (B, T, H, P) or (B, T, N) as (B, H or 1, C, Q, P or N)."""
    apart: Tensor = part_BTX.unflatten(1, (-1, chunk))
    return apart.unsqueeze(1) if apart.dim() == 4 else apart.permute(0, 3, 1, 2, 4)


def _product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrix product with all dimensions before the last two as one batch."""
    product = torch.bmm(left.to(dtype).flatten(0, -3), right.to(dtype).flatten(0, -3))
    return product.view(*left.shape[:-1], right.shape[-1])


def _add_product(onto: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add the matrix product to ``onto`` in place."""
    onto.flatten(0, -3).baddbmm_(left.to(onto.dtype).flatten(0, -3), right.to(onto.dtype).flatten(0, -3))
    return onto


class _Decays(NamedTuple):
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
    def of(cls, dt_BTH: Tensor, A_H: Tensor, segment_BT: Tensor | None, chunk: int) -> _Decays:
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


class _Group(NamedTuple):
    """Chunks that are computed at once: some of one row, or all of several rows.

    Attributes:
        x: (B, H, C, Q, P) input of the state space.
        B: (B, 1, C, Q, N) input projection.
        C: (B, 1, C, Q, N) output projection.
        decays: decays of these chunks.
        dtype: type of the matrix products.
    """

    x: Tensor
    B: Tensor
    C: Tensor
    decays: _Decays
    dtype: torch.dtype

    def step(self) -> Tensor:
        """The inputs dt x, contiguous by head whatever the layout of x."""
        return torch.mul(self.x, self.decays.dt[..., None], out=self.x.new_empty(self.x.shape))

    def shared(self, seen: Tensor) -> Tensor:
        """C B^T times the mask ``seen``: (B, 1, C, Q, Q), shared by all heads."""
        return _product(self.C, self.B.transpose(-1, -2), self.dtype).mul_(seen)

    def forward(self, D_H11: Tensor, state_BHNP: Tensor, y_BHCQP: Tensor) -> tuple[Tensor, Tensor]:
        """Write y; return the states that enter the chunks (B, H, C, N, P), and the state after the last chunk."""
        decays, step_BHCQP = self.decays, self.step()
        carry_BHC11 = decays.carry[..., None, None]
        added_BHCNP = _product((self.B * decays.to_end[..., None]).transpose(-1, -2), step_BHCQP, self.dtype)
        added_BHCNP[:, :, 0].addcmul_(carry_BHC11[:, :, 0], state_BHNP)
        if added_BHCNP.shape[2] == 1:
            states_BHCNP, final_BHNP = state_BHNP[:, :, None], added_BHCNP[:, :, 0]
        else:
            states_BHCNP = _product(decays.between(), added_BHCNP.flatten(-2), self.dtype).view_as(added_BHCNP)
            states_BHCNP[:, :, 0] = state_BHNP
            final_BHNP = torch.addcmul(added_BHCNP[:, :, -1], carry_BHC11[:, :, -1], states_BHCNP[:, :, -1])
        left_BHCQQ, seen = decays.inside()
        weight_BHCQQ = left_BHCQQ.mul_(self.shared(seen))
        passed_BHCQP = _product(self.C * decays.from_start[..., None], states_BHCNP, self.dtype)
        torch.addcmul(_add_product(passed_BHCQP, weight_BHCQQ, step_BHCQP), self.x, D_H11[..., None], out=y_BHCQP)
        return states_BHCNP, final_BHNP

    def backward(
        self,
        D_H11: Tensor,
        dy_BHCQP: Tensor,
        states_BHCNP: Tensor,
        dfinal_BHNP: Tensor,
        grads: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Write the gradients of x, B and C.

        Args:
            D_H11: skip connection.
            dy_BHCQP: gradient of y.
            states_BHCNP: states that :meth:`forward` returned.
            dfinal_BHNP: gradient of the state after the last chunk.
            grads: gradients of x, B and C, to write into.

        Returns:
            The gradients of dt as a factor of x (B, H, C, Q), of the log decays (B, H, C, Q), of D (H,), and of the
            state before the first chunk.
        """
        decays, dtype, carry_BHC11 = self.decays, self.dtype, self.decays.carry[..., None, None]
        from_start_BHCQ1, to_end_BHCQ1 = decays.from_start[..., None], decays.to_end[..., None]
        step_BHCQP, dy_BHCQP = self.step(), dy_BHCQP.contiguous()

        # Gradients of the states: first through the outputs of this group, then through all chunks that follow.
        read_BHCNP = _product((self.C * from_start_BHCQ1).transpose(-1, -2), dy_BHCQP, dtype)
        if read_BHCNP.shape[2] == 1:
            dleft_BHCNP = dfinal_BHNP[:, :, None]
        else:
            read_BHCNP[:, :, -1].addcmul_(carry_BHC11[:, :, -1], dfinal_BHNP)
            dleft_BHCX = _product(decays.between().transpose(-1, -2), read_BHCNP.flatten(-2), dtype)
            dleft_BHCNP = dleft_BHCX.view_as(read_BHCNP)
            dleft_BHCNP[:, :, -1] += dfinal_BHNP
        dstate_BHNP = torch.addcmul(read_BHCNP[:, :, 0], carry_BHC11[:, :, 0], dleft_BHCNP[:, :, 0])

        left_BHCQQ, seen = decays.inside()
        shared_B1CQQ = self.shared(seen)
        dstep_BHCQP = _product(self.B * to_end_BHCQ1, dleft_BHCNP, dtype)
        _add_product(dstep_BHCQP, (shared_B1CQQ * left_BHCQQ).transpose(-1, -2), dy_BHCQP)
        dpair_BHCQQ = _product(dy_BHCQP, step_BHCQP.transpose(-1, -2), dtype).mul_(left_BHCQQ)
        dshared_B1CQQ = dpair_BHCQQ.sum(1, keepdim=True).mul_(seen)
        dB_BHCQN = _product(step_BHCQP, dleft_BHCNP.transpose(-1, -2), dtype).mul_(to_end_BHCQ1)
        dC_BHCQN = _product(dy_BHCQP, states_BHCNP.transpose(-1, -2), dtype).mul_(from_start_BHCQ1)
        grads[1].copy_(_add_product(dB_BHCQN.sum(1, keepdim=True), dshared_B1CQQ.transpose(-1, -2), self.C))
        grads[2].copy_(_add_product(dC_BHCQN.sum(1, keepdim=True), dshared_B1CQQ, self.B))
        torch.mul(dstep_BHCQP, decays.dt[..., None], out=grads[0]).addcmul_(dy_BHCQP, D_H11[..., None])

        # Gradients of the decays: between pairs in the chunk, from its start, to its end, and across it.
        dpair_BHCQQ.mul_(shared_B1CQQ.tril(-1))
        dread_BHCQ = dpair_BHCQQ.sum(-1) - dpair_BHCQQ.sum(-2) + dC_BHCQN.mul_(self.C).sum(-1)
        dadded_BHCQ = dB_BHCQN.mul_(self.B).sum(-1)
        ddecay_BHCQ = dread_BHCQ.flip(-1).cumsum(-1).flip(-1)
        ddecay_BHCQ[..., 1:] += dadded_BHCQ.cumsum(-1)[..., :-1]
        ddecay_BHCQ += ((dleft_BHCNP * states_BHCNP).sum((-1, -2)) * decays.carry)[..., None]

        ddt_BHCQ = dstep_BHCQP.mul_(self.x).sum(-1)
        return ddt_BHCQ, ddecay_BHCQ, (dy_BHCQP * self.x).sum((0, 2, 3, 4)), dstate_BHNP


def _split(part: Tensor | None, rows: slice, width: int) -> Iterable[Any]:
    """Views of ``width`` chunks each, in one call: slicing them one by one takes a tenth of the scan's time."""
    return repeat(None) if part is None else part[rows].split(width, 2)


def _group_tokens(device: str) -> int:
    if device != "cpu":
        return _GROUP["cuda"]
    threads = torch.get_num_threads()
    return _GROUP["cpu"] * (threads * _SHARED if threads > 1 else 1)


def _groups(
    parts: list[Tensor], decays: _Decays, chunk: int, dtype: torch.dtype
) -> Iterator[tuple[slice, list[tuple[_Group, list[Tensor]]]]]:
    """Split into groups; ``parts`` are x, B, C and further tensors.

    Yields:
        Rows, and their groups in order, each with its views of the further tensors.
    """
    rows, _, chunks = decays.carry.shape
    budget = max(1, _group_tokens(decays.carry.device.type) // chunk)
    height, width = max(1, budget // chunks), min(budget, _GROUP_CHUNKS)
    for row in range(0, rows, height):
        some = slice(row, row + height)
        shares = zip(*(_split(part, some, width) for part in parts), strict=True)
        left = zip(*(_split(part, some, width) for part in decays), strict=False)
        yield (
            some,
            [(_Group(x, B, C, _Decays(*of), dtype), rest) for (x, B, C, *rest), of in zip(shares, left, strict=False)],
        )


class _ChunkedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, D, state, segment, chunk, dtype = inputs
        y, last = (torch.empty_like(part, memory_format=torch.contiguous_format) for part in (x, state))
        parts = [_chunks(part, chunk) for part in (x, B, C, y)]
        kept = []
        for rows, groups in _groups(parts, _Decays.of(dt, A, segment, chunk), chunk, dtype):
            state_BHNP = state[rows]
            for group, (y_BHCQP,) in groups:
                states_BHCNP, state_BHNP = group.forward(D[:, None, None], state_BHNP, y_BHCQP)
                if any(ctx.needs_input_grad):
                    kept.append(states_BHCNP)
            last[rows] = state_BHNP
        ctx.save_for_backward(x, dt, A, B, C, D, segment)
        ctx.kept, ctx.chunk, ctx.dtype = kept, chunk, dtype
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Any) -> Any:
        x, dt, A, B, C, D, segment = ctx.saved_tensors
        dy, dstate = outputs[0], outputs[1].clone(memory_format=torch.contiguous_format)
        decays = _Decays.of(dt, A, segment, ctx.chunk)
        grads = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in (x, B, C)]
        ddt, ddecay = torch.empty_like(decays.dt), torch.empty_like(decays.dt)
        dD = torch.zeros_like(D)
        parts = [*(_chunks(part, ctx.chunk) for part in (x, B, C, dy, *grads)), ddt, ddecay]
        kept = reversed(ctx.kept)
        with torch.autocast(x.device.type, enabled=False):
            for rows, groups in reversed(list(_groups(parts, decays, ctx.chunk, ctx.dtype))):
                for group, (dy_BHCQP, dx_BHCQP, dB_B1CQN, dC_B1CQN, ddt_BHCQ, ddecay_BHCQ) in reversed(groups):
                    of_x, of_log, of_D, dstate[rows] = group.backward(
                        D[:, None, None], dy_BHCQP, next(kept), dstate[rows], (dx_BHCQP, dB_B1CQN, dC_B1CQN)
                    )
                    ddt_BHCQ.copy_(of_x)
                    ddecay_BHCQ.copy_(of_log)
                    dD += of_D
        dA = (ddecay * decays.dt).sum((0, 2, 3))
        ddt_BTH = ddt.addcmul_(ddecay, A[:, None, None]).flatten(2).transpose(1, 2)
        return grads[0], ddt_BTH, dA, grads[1], grads[2], dD, dstate, None, None, None
