"""The scans against the recurrence in float64: values, gradients, boundaries, states, ragged lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.gpu.context import Context
from hmamba.model.kernels import Scan
from hmamba.model.scan import chunked_scan, reference_scan
from hmamba.progress import track

TOLERANCE = {"float32": 1e-5, "tf32": 3e-3, "bfloat16": 2e-2}
"""Largest relative error. Emulated on a CPU, with the operands of products rounded to each precision and lengths up to
4,000 (bfloat16: 1,000), the errors were up to 1.2e-6, 7.4e-4 and 6.8e-3; the order of summation differs on a GPU, so
some room is left. A boundary or a state that is lost costs 0.1 and more."""

_NAMES = ("y", "state", "dx", "ddt", "dA", "dB", "dC", "dD", "dstate")


@dataclass(frozen=True)
class Case:
    """Inputs of a scan, in float64 on the CPU."""

    inputs: tuple[Tensor, ...]
    segment: Tensor | None
    state: Tensor | None


@dataclass(frozen=True)
class Sizes:
    """Rows, heads, channels of a head, state and chunk."""

    rows: int = 2
    heads: int = 2
    channels: int = 64
    state: int = 32
    chunk: int = 64


PRODUCT = Sizes()
TINY = Sizes(channels=16, state=16, chunk=16)


def make_case(tokens: int, sizes: Sizes, *, packed: bool, with_state: bool, seed: int = 0) -> Case:
    """Random inputs in Mamba-2's range: A in [-16, -1], one head slowed as K(k) does, steps up to 0.1."""
    random = torch.Generator().manual_seed(seed * 100_003 + tokens)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    B, H, P, N = sizes.rows, sizes.heads, sizes.channels, sizes.state
    A_H = -1 - 15 * uniform(H)
    A_H[0] /= 8
    inputs = (normal(B, tokens, H, P), 1e-3 + 0.1 * uniform(B, tokens, H), A_H, normal(B, tokens, N))
    segment_BT = None
    if packed:
        # Sequences of some hundred tokens; the first row's numbers start elsewhere than at 0, as they may.
        cut = torch.rand(B, tokens, generator=random) < max(1 / 300, 3 / tokens)
        segment_BT = cut.long().cumsum(1) + torch.arange(B, 0, -1)[:, None]
    state = normal(B, H, P, N) if with_state else None
    return Case((*inputs, normal(B, tokens, N), 1 + uniform(H)), segment_BT, state)


def outputs(
    scan: Callable[..., tuple[Tensor, Tensor]],
    case: Case,
    device: torch.device,
    dtype: torch.dtype,
    upstream: Sequence[Tensor] | None = None,
    **options: int,
) -> list[Tensor]:
    """Both outputs and the gradients of all inputs. In bfloat16 x, B and C are rounded and products run in autocast.

    Args:
        scan: one of the implementations.
        case: its inputs.
        device: where it runs.
        dtype: in which it computes.
        upstream: gradients that reach the two outputs. None: the outputs themselves, which is the gradient of half
            their squared norm. A and D then gather terms of one sign; with random gradients those sums would cancel
            and leave nothing to compare but rounding.
        options: of the scan.
    """
    half = dtype == torch.bfloat16
    given = [*case.inputs, *([] if case.state is None else [case.state])]
    leaves = []
    for place, value in enumerate(given):
        wanted = dtype if not half or place in (0, 3, 4) else torch.float32
        leaves.append(value.to(device, wanted).requires_grad_())
    segment_BT = None if case.segment is None else case.segment.to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        y, state = scan(
            *leaves[:6], segment_BT=segment_BT, state_BHPN=leaves[6] if len(leaves) > 6 else None, **options
        )
    reaching = [
        part.detach().to(device, out.dtype)
        for part, out in zip((y, state) if upstream is None else upstream, (y, state), strict=True)
    ]
    gradients = torch.autograd.grad([y, state], leaves, reaching)
    return [part.detach().double().cpu() for part in (y, state, *gradients)]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over that of the expected value, or over that of as many ones if that is larger."""
    return float((actual - expected).norm() / max(float(expected.norm()), expected.numel() ** 0.5))


def worst(actual: list[Tensor], expected: list[Tensor]) -> tuple[float, str]:
    """The largest relative error of any output or gradient, and which; not a number if any is not finite."""
    if not all(bool(torch.isfinite(part).all()) for part in actual):
        return float("nan"), next(n for n, part in zip(_NAMES, actual, strict=False) if not torch.isfinite(part).all())
    errors = [relative_error(a, e) for a, e in zip(actual, expected, strict=True)]
    return max(zip(errors, _NAMES, strict=False))


@dataclass(frozen=True)
class Kind:
    """What a scan is given beside its tokens."""

    name: str
    packed: bool = False
    with_state: bool = False


KINDS = (
    Kind("packed, initial state", packed=True, with_state=True),
    Kind("packed", packed=True),
    Kind("initial state", with_state=True),
    Kind("one sequence a row"),
)


class Oracle:
    """Cases with what the recurrence makes of them in float64, each computed once."""

    def __init__(self, sizes: Sizes, lengths: Sequence[int]) -> None:
        self.sizes, self.lengths = sizes, lengths
        self._known: dict[tuple[Kind, int], tuple[Case, list[Tensor]]] = {}

    def __call__(self, kind: Kind, tokens: int) -> tuple[Case, list[Tensor]]:
        """The case and the right outputs and gradients."""
        if (kind, tokens) not in self._known:
            case = make_case(tokens, self.sizes, packed=kind.packed, with_state=kind.with_state)
            self._known[kind, tokens] = case, outputs(reference_scan, case, torch.device("cpu"), torch.float64)
        return self._known[kind, tokens]


def compare(context: Context, scan: Scan, label: str, oracle: Oracle, precision: str, kinds: Sequence[Kind]) -> None:
    """Check a scan in one precision, kind by kind, over the oracle's lengths."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    for kind in kinds:
        what, found = f"{label}, {precision}, {kind.name}", []
        for tokens in track(oracle.lengths, what, len(oracle.lengths), "lengths"):
            case, right = oracle(kind, tokens)
            error, where = worst(outputs(scan, case, context.device, dtype, right[:2], chunk=oracle.sizes.chunk), right)
            found.append((error, where, tokens))
        # A figure that is not a number would get lost in a comparison.
        error, where, tokens = next((f for f in found if math.isnan(f[0])), max(found))
        context.record.check(
            what,
            error <= TOLERANCE[precision],
            lengths=", ".join(map(str, oracle.lengths)),
            largest_relative_error=error,
            of=where,
            at_length=tokens,
            tolerance=TOLERANCE[precision],
        )


def chunked(context: Context) -> None:
    """The chunked scan on this device against the recurrence on the CPU."""
    lengths = (1, 17, 40) if context.tiny else (1, 2, 63, 64, 65, 200, 1000, 2047, 4000)
    oracle = Oracle(TINY if context.tiny else PRODUCT, lengths)
    for precision in ("float32", "bfloat16"):
        compare(context, chunked_scan, "chunked scan", oracle, precision, KINDS)
