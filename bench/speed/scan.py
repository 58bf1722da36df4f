"""The chunked scan against the minimal listing of the Mamba-2 paper, and against the peak of a matrix product.

The listing (arXiv 2405.21060, listing 1) is written here from the paper's equations: pairwise decays as masked segment
sums, outputs inside chunks, states of chunks, states between chunks by the same masked sums, outputs from states. It
takes B and C for each head (all equal here), and uses its fastest chunk size in ``_CHUNKS``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.speed.rounds import Figure, check, in_turns
from hmamba.model.scan import chunk_for, chunked_scan

OURS, PEER, PEAK = "chunked scan", "the paper's listing", "a square matrix product of as many FLOP"
LENGTHS = (200, 1_000, 4_000)
TARGETS = {"forward": 4.0, "forward and backward": 2.0}
_SHARE = 0.45
_HEADS, _CHANNELS, _STATE = 2, 64, 32
_CHUNKS = (25, 40, 50, 100)  # divisors of all lengths: the listing does not pad
_SQUARE = 1_024
_PACKED = 100  # tokens of a sequence in a packed row

Scan = Callable[..., tuple[Tensor, Tensor]]
Leaves = tuple[Tensor, ...]


def _sums(log: Tensor) -> Tensor:
    """(.., i, j): the sum of ``log`` over j < k <= i, minus infinity for j > i, without differences of large sums."""
    size = log.shape[-1]
    below = torch.ones(size, size, dtype=torch.bool).tril(-1)
    summed = log[..., :, None].expand(*log.shape, size).masked_fill(~below, 0.0).cumsum(-2)
    return summed.masked_fill(below.T, float("-inf"))


def listing(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, chunk: int) -> tuple[Tensor, Tensor]:
    """Outputs and last state of the listing, with the skip connection that the layer adds."""
    heads = x.shape[2]
    step, reads, writes = (
        part.unflatten(1, (-1, chunk))
        for part in (x * dt[..., None], *(part.unsqueeze(2).expand(-1, -1, heads, -1) for part in (C, B)))
    )
    log = (dt * A).unflatten(1, (-1, chunk)).permute(0, 3, 1, 2)  # row, head, chunk, token
    summed = log.cumsum(-1)
    inside = torch.einsum("rcihn,rcjhn,rhcij,rcjhp->rcihp", reads, writes, _sums(log).exp(), step)
    to_end = (summed[..., -1:] - summed).exp()
    states = torch.einsum("rcjhn,rhcj,rcjhp->rchpn", writes, to_end, step)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)
    between = _sums(F.pad(summed[..., -1], (1, 0))).exp()
    states = torch.einsum("rhbc,rchpn->rbhpn", between, states)
    passed = torch.einsum("rcihn,rchpn,rhci->rcihp", reads, states[:, :-1], summed.exp())
    return (inside + passed).flatten(1, 2) + D[:, None] * x, states[:, -1]


def flop(length: int) -> int:
    """FLOP per token of the matrix products of the forward scan at its own chunk size; backward counts twice that.

    Counts C.B^T and its product with x over whole chunks, not only over the causal half, and writing and reading the
    states. Passing states between chunks and elementwise operations are not counted.
    """
    width = _HEADS * _CHANNELS
    return 2 * chunk_for(length) * (_STATE + width) + 4 * _STATE * width


def _leaves(rows: int, length: int, dtype: torch.dtype) -> Leaves:
    """The scan's inputs: x, B and C in one tensor, as the layer's convolution returns them, then dt, A and D."""
    random = torch.Generator().manual_seed(0)
    mixed = torch.randn(rows, length, _HEADS * _CHANNELS + 2 * _STATE, generator=random)
    dt = 0.1 * torch.rand(rows, length, _HEADS, generator=random)
    A = -torch.linspace(1.0, 16.0, _HEADS)
    return tuple(part.to(dtype).requires_grad_() for part in (mixed, dt, A, torch.ones(_HEADS)))


def _run(scan: Scan, leaves: Leaves) -> tuple[Tensor, Tensor]:
    mixed, dt, A, D = leaves
    x, B, C = mixed.split([_HEADS * _CHANNELS, _STATE, _STATE], dim=-1)
    return scan(x.unflatten(-1, (_HEADS, _CHANNELS)), dt, A, B, C, D)


def _forward(scan: Scan, leaves: Leaves) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return _run(scan, leaves)


def _both(scan: Scan, leaves: Leaves, upstream: Tensor) -> Leaves:
    return torch.autograd.grad(_run(scan, leaves)[0], leaves, upstream)


def _close(value: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool((value - expected).abs().max() <= tolerance * expected.abs().max())


def _check(rows: int, length: int) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 5e-5)):
        leaves = _leaves(rows, length, dtype)
        upstream = torch.randn(rows, length, _HEADS, _CHANNELS).to(dtype)
        ways = chunked_scan, partial(listing, chunk=_CHUNKS[0])
        (value, last), (expected, expected_last) = (_forward(way, leaves) for way in ways)
        same = _close(value, expected, tolerance) and _close(last, expected_last, tolerance)
        check(same, f"the scans of {length} tokens differ in {dtype}")
        for one, other in zip(*(_both(way, leaves, upstream) for way in ways), strict=True):
            check(_close(one, other, 10 * tolerance), f"the gradients over {length} tokens differ in {dtype}")


def _seconds(way: Callable[[], object]) -> float:
    way()
    started = time.perf_counter()
    for _ in range(3):
        way()
    return time.perf_counter() - started


def threads() -> Iterator[int]:
    """Set one thread, then two if there are two cores; restore the number afterwards."""
    before = torch.get_num_threads()
    try:
        for count in range(1, min(2, len(os.sched_getaffinity(0))) + 1):
            torch.set_num_threads(count)
            yield count
    finally:
        torch.set_num_threads(before)


def figures(*, quick: bool) -> Iterator[Figure]:
    """For each number of threads and length, forward alone and with backward: against the listing and the peak."""
    tokens, rounds = (4_000, 5) if quick else (16_000, 11)
    square = torch.randn(_SQUARE, _SQUARE)
    for count in threads():
        for length in LENGTHS:
            rows = tokens // length
            _check(min(rows, 2), length)
            leaves = _leaves(rows, length, torch.float32)
            upstream = torch.randn(rows, length, _HEADS, _CHANNELS)
            chunk = min(_CHUNKS, key=lambda size: _seconds(partial(_forward, partial(listing, chunk=size), leaves)))
            peer, packed = partial(listing, chunk=chunk), _packed(rows, length)
            for what, times in (("forward", 1), ("forward and backward", 3)):
                run = (
                    partial(_forward, leaves=leaves) if times == 1 else partial(_both, leaves=leaves, upstream=upstream)
                )
                ways = {
                    OURS: partial(run, chunked_scan),
                    PEER: partial(run, peer),
                    PEAK: partial(torch.mm, square, square),
                }
                ways |= {f"{OURS}, packed by {_PACKED}": partial(run, packed)}
                seconds, spread = in_turns(ways, rounds)
                where = f"{length:,} tokens a row, {what}, {count} thread{'s' * (count > 1)}"
                reached = times * flop(length) * rows * length
                seconds[PEAK] *= reached / (2 * _SQUARE**3)
                units = rows * length, "tokens"
                scans = {name: value for name, value in seconds.items() if name != PEAK}
                yield Figure(f"scan, {where}", OURS, PEER, units, scans, spread, TARGETS[what], ways[OURS])
                share = {OURS: seconds[OURS], PEAK: seconds[PEAK]}
                target = _SHARE if times == 1 else None
                yield Figure(f"share of the peak, {where}", OURS, PEAK, units, share, spread, target)


def _packed(rows: int, length: int) -> Scan:
    segment = (torch.arange(length) // _PACKED).expand(rows, -1)
    return partial(chunked_scan, segment_BT=segment)
