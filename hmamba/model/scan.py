"""The selective scan of Mamba-2 (state-space duality), one contract and three implementations.

    h_t = exp(dt_t A_h) h_(t-1) + dt_t x_t B_t^T        y_t = h_t C_t + D_h x_t

Shape suffixes: B rows, T tokens, H heads, P channels of a head, N state size, C chunks, Q tokens of a chunk.

==============  ==========================================================================================
``x_BTHP``      input of the state space
``dt_BTH``      step sizes, >= 0; a step of 0 leaves the state as it is, so padding is harmless
``A_H``         one negative scalar a head
``B_BTN``       input projection, shared by all heads
``C_BTN``       output projection, shared by all heads
``D_H``         skip connection
``segment_BT``  optional: which sequence a token belongs to; the state starts from zero where it changes, so
                sequences of any length lie end to end in one row
``state_BHPN``  optional state before the first token (of a row's first sequence)
==============  ==========================================================================================

All return ``y_BTHP`` and the state after the last token of each row, ``(B, H, P, N)``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
    """Take the recurrence literally, a token at a time. The other implementations are tested against it."""
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
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Compute the scan in time linear in T with matrix products (Mamba-2, arXiv 2405.21060, section 6).

    Inside a chunk the recurrence is a masked product; between chunks only the states are passed on. C.B^T is shared by
    the heads, and the products with the state carry all heads in their columns. Every exponent is <= 0.
    """
    rows, tokens, heads, channels = x_BTHP.shape
    size = B_BTN.shape[-1]
    chunk = min(chunk, tokens)
    short = -tokens % chunk
    skip_BTHP = D_H[:, None] * x_BTHP
    step_BTHP = dt_BTH[..., None] * x_BTHP
    decay_BTH = dt_BTH * A_H
    if short:
        step_BTHP = F.pad(step_BTHP, (0, 0, 0, 0, 0, short))
        decay_BTH = F.pad(decay_BTH, (0, 0, 0, short))
        B_BTN, C_BTN = F.pad(B_BTN, (0, 0, 0, short)), F.pad(C_BTN, (0, 0, 0, short))
        if segment_BT is not None:
            segment_BT = torch.cat([segment_BT, segment_BT[:, -1:].expand(-1, short)], dim=1)
    chunks = (tokens + short) // chunk
    step_BCQHP = step_BTHP.reshape(rows, chunks, chunk, heads, channels)
    B_BCQN, C_BCQN = B_BTN.reshape(rows, chunks, chunk, size), C_BTN.reshape(rows, chunks, chunk, size)
    log_BCHQ = decay_BTH.reshape(rows, chunks, chunk, heads).transpose(2, 3).cumsum(-1)
    total_BCH = log_BCHQ[..., -1]

    # Within chunks: L[i, j] = exp(log_i - log_j) for j <= i, of one sequence.
    visible = torch.ones(chunk, chunk, dtype=torch.bool, device=x_BTHP.device).tril()
    to_end_BCHQ = (total_BCH[..., None] - log_BCHQ).exp()
    from_start_BCHQ = log_BCHQ.exp()
    carry_BCH = total_BCH.exp()
    if segment_BT is not None:
        segment_BCQ = segment_BT.reshape(rows, chunks, chunk)
        last_BC = segment_BCQ[..., -1]
        before_BC = torch.cat([segment_BCQ[:, :1, 0], last_BC[:, :-1]], dim=1)
        visible = (visible & (segment_BCQ[..., :, None] == segment_BCQ[..., None, :]))[:, :, None]
        to_end_BCHQ = to_end_BCHQ * (segment_BCQ == last_BC[..., None])[:, :, None]
        from_start_BCHQ = from_start_BCHQ * (segment_BCQ == before_BC[..., None])[:, :, None]
        carry_BCH = carry_BCH * (last_BC == before_BC)[..., None]
    gap_BCHQQ = log_BCHQ[..., :, None] - log_BCHQ[..., None, :]
    # Masked before the exponential: above the diagonal it would overflow, and inf * 0 is not 0 in the gradient.
    weight_BCHQQ = gap_BCHQQ.masked_fill(~visible, float("-inf")).exp()
    weight_BCHQQ = weight_BCHQQ * (C_BCQN @ B_BCQN.transpose(-1, -2))[:, :, None]
    inside_BCHQP = weight_BCHQQ @ step_BCQHP.transpose(2, 3)

    # Between chunks: what each adds to the state, then a recurrence over chunks only.
    weighted_BCQHP = step_BCQHP * to_end_BCHQ.transpose(2, 3)[..., None]
    added_BCNX = B_BCQN.transpose(-1, -2) @ weighted_BCQHP.reshape(rows, chunks, chunk, heads * channels)
    if state_BHPN is None:
        state_BNX = x_BTHP.new_zeros(rows, size, heads * channels)
    else:
        state_BNX = state_BHPN.permute(0, 3, 1, 2).reshape(rows, size, heads * channels)
    carry_BCX = carry_BCH.repeat_interleave(channels, dim=-1)
    entering = []
    # unbind: indexing inside the loop would allocate a whole gradient a step.
    for added_BNX, carry_BX in zip(added_BCNX.unbind(1), carry_BCX.unbind(1), strict=True):
        entering.append(state_BNX)
        state_BNX = carry_BX[:, None] * state_BNX + added_BNX
    passed_BCQHP = (C_BCQN @ torch.stack(entering, dim=1)).reshape(rows, chunks, chunk, heads, channels)

    y_BCQHP = inside_BCHQP.transpose(2, 3) + passed_BCQHP * from_start_BCHQ.transpose(2, 3)[..., None]
    y_BTHP = y_BCQHP.reshape(rows, chunks * chunk, heads, channels)[:, :tokens] + skip_BTHP
    return y_BTHP, state_BNX.reshape(rows, size, heads, channels).permute(0, 2, 3, 1)
