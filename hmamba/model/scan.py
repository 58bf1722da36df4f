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

The chunked form computes groups of tokens that fit into the cache, several at once on the CPU
(:func:`hmamba.parallel.each`). The groups do not depend on the number of threads; therefore outputs, states and
gradients do not either, to the bit.

The gradient is written by hand and recomputes the intermediates of each group: autograd would keep those of all tokens
and read them from memory. With the masked decays L and s = dt x, the outputs of a chunk are y = (L (.) C B^T) s + D x
plus the part read from the state, and each gradient is a product of the same kind. L_ij is the product of the decays of
tokens j + 1 to i. The gradient in the logarithm of a token's decay is therefore the sum of dL (.) L over the pairs on
either side of the token, and likewise for the terms that cross the chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmamba.model.decays import Decays
from hmamba.model.groups import Across, Grads, Group
from hmamba.parallel import each

_CHUNKS = range(32, 65, 8)
"""Chunk sizes that are tried for the least padding, smallest first. Measured on the CPU: in smaller chunks, states cost
more than the products inside a chunk save; in larger ones, the causal mask discards too much of those products."""

_GROUP = {"cpu": 1 << 11, "cuda": 1 << 20}
"""Tokens per group. On the CPU a group is small enough that its intermediates stay in the cache, and large enough that
the overhead of calls does not matter. Half or twice as many take the same time within 6 %. A GPU needs fewer and larger
kernels; its value is not measured. Rows of several groups depend on the value in the last bits."""

_GROUP_CHUNKS = 32  # per row: the cost of passing states between the chunks of a group is quadratic in their number

_Found = TypeVar("_Found")


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


def _chunks(part_BTX: Tensor, chunk: int) -> Tensor:
    """View (B, T, H, P) or (B, T, N) as (B, H or 1, C, Q, P or N)."""
    apart: Tensor = part_BTX.unflatten(1, (-1, chunk))
    return apart.unsqueeze(1) if apart.dim() == 4 else apart.permute(0, 3, 1, 2, 4)


def _split(part: Tensor | None, rows: slice, width: int) -> Iterable[Any]:
    """Views of ``width`` chunks each, in one call: slicing them one by one takes a tenth of the scan's time."""
    return repeat(None) if part is None else part[rows].split(width, 2)


class _Place(NamedTuple):
    """A group, where it is, and its views of further tensors.

    Attributes:
        group: the group.
        rest: views of the further tensors.
        rows: its rows.
        first: whether it is the first group of its rows, in the order in which states are passed on.
        last: whether it is the last one.
    """

    group: Group
    rest: list[Tensor]
    rows: slice
    first: bool
    last: bool


def _places(parts: list[Tensor], decays: Decays, chunk: int, dtype: torch.dtype) -> list[_Place]:
    """Split into groups; ``parts`` are x, B, C and further tensors. Groups of the same rows follow each other."""
    rows, _, chunks = decays.carry.shape
    budget = max(1, _GROUP[decays.carry.device.type] // chunk)
    height, most = max(1, budget // chunks), min(budget, _GROUP_CHUNKS)
    number = -(-chunks // most)
    width = -(-chunks // number)  # of equal size, because threads wait for the largest one
    places = []
    for row in range(0, rows, height):
        some = slice(row, row + height)
        shares = list(zip(*(_split(part, some, width) for part in parts), strict=True))
        left = zip(*(_split(part, some, width) for part in decays), strict=False)
        for place, ((x, B, C, *rest), of) in enumerate(zip(shares, left, strict=False)):
            group = Group(x, B, C, Decays(*of), dtype)
            places.append(_Place(group, rest, some, place == 0, place == len(shares) - 1))
    return places


def _passed(
    places: list[_Place], found: Iterable[tuple[_Found, Across]], start_BHNP: Tensor, end_BHNP: Tensor
) -> Iterator[tuple[_Place, _Found, Tensor]]:
    """Pass states on from group to group.

    Args:
        places: the groups, in the order in which states are passed on.
        found: what is known of each group, and how a state crosses it.
        start_BHNP: states of the rows before their first groups.
        end_BHNP: states after their last groups, to write into.

    Yields:
        Each group, what is known of it, and the state before it.
    """
    state_BHNP = start_BHNP
    for place, (of_group, (added_BHNP, carry_BH)) in zip(places, found, strict=True):
        before_BHNP = start_BHNP[place.rows] if place.first else state_BHNP
        yield place, of_group, before_BHNP
        state_BHNP = torch.addcmul(added_BHNP, carry_BH[..., None, None], before_BHNP)
        if place.last:
            end_BHNP[place.rows] = state_BHNP


class _ChunkedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, D, state, segment, chunk, dtype = inputs
        y, last = (torch.empty_like(part, memory_format=torch.contiguous_format) for part in (x, state))
        parts = [_chunks(part, chunk) for part in (x, B, C, y)]
        places = _places(parts, Decays.of(dt, A, segment, chunk), chunk, dtype)

        def add(place: _Place) -> tuple[tuple[Tensor, Tensor], Across]:
            return place.group.add()

        def output(passed: tuple[_Place, tuple[Tensor, Tensor], Tensor]) -> Tensor:
            place, (step_BHCQP, added_BHCNP), state_BHNP = passed
            return place.group.output(D[:, None, None], step_BHCQP, added_BHCNP, state_BHNP, place.rest[0])

        passed = _passed(places, each(add, places, x.device), state, last)
        keep = any(ctx.needs_input_grad)
        ctx.kept = [states for states in each(output, passed, x.device) if keep]
        ctx.save_for_backward(x, dt, A, B, C, D, segment)
        ctx.chunk, ctx.dtype = chunk, dtype
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Any) -> Any:
        x, dt, A, B, C, D, segment = ctx.saved_tensors
        dy, dlast = outputs
        decays = Decays.of(dt, A, segment, ctx.chunk)
        dx, dB, dC, dstate = (
            torch.empty_like(part, memory_format=torch.contiguous_format) for part in (x, B, C, dlast)
        )
        ddt, ddecay = torch.empty_like(decays.dt), torch.empty_like(decays.dt)
        parts = [*(_chunks(part, ctx.chunk) for part in (x, B, C, dy, dx, dB, dC)), ddt, ddecay]
        forward = _places(parts, decays, ctx.chunk, ctx.dtype)
        places = [place._replace(first=place.last, last=place.first) for place in reversed(forward)]

        def read(place: _Place) -> tuple[tuple[Tensor, Tensor], Across]:
            return place.group.read(place.rest[0])

        def backward(passed: tuple[tuple[_Place, tuple[Tensor, Tensor], Tensor], Tensor]) -> tuple[Tensor, Tensor]:
            (place, (dy_BHCQP, read_BHCNP), dfinal_BHNP), states_BHCNP = passed
            grads = Grads(*place.rest[1:])
            return place.group.backward(D[:, None, None], dy_BHCQP, read_BHCNP, states_BHCNP, dfinal_BHNP, grads)

        dD, dA = torch.zeros_like(D), torch.zeros_like(A)
        with torch.autocast(x.device.type, enabled=False):
            passed = _passed(places, each(read, places, x.device), dlast, dstate)
            for of_D, of_A in each(backward, zip(passed, reversed(ctx.kept), strict=True), x.device):
                dD += of_D
                dA += of_A
        ddt_BTH = ddt.addcmul_(ddecay, A[:, None, None]).flatten(2).transpose(1, 2)
        return dx, ddt_BTH, dA, dB, dC, dD, dstate, None, None, None
