"""How fast, and how far from what the card can do: measured ceilings first, then the work against them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bench.gpu.context import Context
from bench.gpu.fused import interpreting, why_not, with_fused_kernels
from hmamba.candidates.retrieve import retrieve
from hmamba.evaluation.ranking import rank_all
from hmamba.index.index import build
from hmamba.index.matmul import MatmulSearcher
from hmamba.inference.encode import encode_users
from hmamba.model.kernels import Scan, fused_scan
from hmamba.model.scan import chunked_scan
from hmamba.model.scores import Score
from hmamba.models.files import StoredModel
from hmamba.recipe import Recipe
from hmamba.training.batches import Batch
from hmamba.training.checkpoint import Place
from hmamba.training.fit import Fit
from hmamba.training.loss import blocked_cross_entropy

TERA, GIGA = 1e12, 1e9

Ceilings = dict[str, float]
"""Copy in bytes a second; matrix products of each type in FLOP a second."""


def speed(context: Context) -> None:
    """Measure; nothing here can fail, but not to finish."""
    ceilings = measure_ceilings(context)
    stored = context.shop.champion()
    measure_training(context)
    measure_scoring(context, stored)
    measure_loss(context, stored, ceilings)
    measure_search(context, stored, ceilings)
    for chunk in (64,) if context.tiny else (64, 128, 256):
        measure_scan(context, "chunked scan", chunked_scan, chunk, ceilings)
    reason = "Triton interprets" if interpreting() else why_not(context)
    if reason is not None:
        context.record.skip("fused scan", reason)
        return
    # At one chunk only: Triton searches a hundred variants anew for each.
    measure_scan(context, "fused scan", fused_scan, 64, ceilings)
    _training(context, "training with fused kernels", fused=True)
    fused = with_fused_kernels(stored.model, context.device)
    past = context.shop.histories
    seconds = context.seconds(lambda: encode_users(fused, past), warm_up=1, least_times=1)
    context.record.measure("encoding with fused kernels", **_rates(seconds, users=len(past), events=past.events))


def _rates(seconds: float, **counts: int) -> dict[str, float]:
    return {f"{name}_a_second": count / seconds for name, count in counts.items()}


def measure_ceilings(context: Context) -> Ceilings:
    """Copy bandwidth, and the rate of large square matrix products of random numbers."""
    device, ceilings = context.device, {}
    count = 1 << (16 if context.tiny else 29)
    ceilings["copy"] = 2 * 4 * count / _copy_seconds(context, count)
    edge = 64 if context.tiny else 8192
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("tf32", torch.float32, True),
        ("fp32", torch.float32, False),
    ):
        a, b = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
        ceilings[name] = 2 * edge**3 / _with_tf32(tf32, context, partial(torch.matmul, a, b))
    context.record.measure(
        "ceilings",
        copy_GB_a_second=ceilings["copy"] / GIGA,
        **{f"{name}_TFLOP_a_second": ceilings[name] / TERA for name in ("bf16", "tf32", "fp32")},
    )
    return ceilings


def _copy_seconds(context: Context, count: int) -> float:
    source, target = torch.ones(count, device=context.device), torch.empty(count, device=context.device)
    return context.seconds(lambda: target.copy_(source))


def _with_tf32(wanted: bool, context: Context, work: Callable[[], object]) -> float:
    """Seconds of ``work`` with float32 products in TF32 or not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    try:
        return context.seconds(work)
    finally:
        torch.set_float32_matmul_precision(before)


def measure_training(context: Context) -> None:
    """Training at the night's batch, and at larger ones."""
    settings = context.shop.config.train
    set_to = settings.tokens
    usual = Recipe.for_histories(context.shop.config, context.shop.yesterday).tokens
    for tokens in (usual,) if context.tiny else (usual, 4 * usual, 16 * usual):
        settings.tokens = tokens
        _training(context, f"training, {tokens:,} events a step")
    settings.tokens = set_to


def _training(context: Context, name: str, *, fused: bool = False) -> None:
    """Events and rows a second: preparing batches on the CPU and the steps on the device, one after the other."""
    shop = context.shop
    ready = shop.ready(shop.yesterday, "speed")
    model = with_fused_kernels(ready.model, context.device) if fused else ready.model
    fit, batches, place = Fit(model, ready.plan), ready.plan.batches, Place("speed")
    started = time.perf_counter()
    loaded: list[Batch] = []
    for windows in batches.epoch(0):
        loaded.append(batches.load(windows, len(loaded)))
        if len(loaded) == 24 or (len(loaded) > 3 and time.perf_counter() - started > 4):
            break
    load = (time.perf_counter() - started) / len(loaded)
    model.train()
    for batch in loaded[:3]:
        fit._step(place, batch)  # the loop's own step, without its checkpoints and its log
    context.synchronize()
    context.peak_bytes()
    started = time.perf_counter()
    for batch in loaded:
        fit._step(place, batch)
    context.synchronize()
    step = (time.perf_counter() - started) / len(loaded)
    events = np.mean([len(batch.items) for batch in loaded])
    rows = np.mean([len(batch.positions) for batch in loaded])
    context.record.measure(
        name,
        events_a_second=float(events / (load + step)),
        rows_a_second=float(rows / (load + step)),
        ms_of_a_step=1e3 * step,
        ms_to_prepare_its_batch_on_the_CPU=1e3 * load,
        peak_GB=context.peak_bytes() / GIGA,
    )


def measure_scoring(context: Context, stored: StoredModel) -> None:
    """Encoding, exact ranking, and candidates by index and repeat consumption, of all users."""
    shop, model = context.shop, stored.model
    past, settings = shop.histories, shop.config.candidates
    context.peak_bytes()
    encoding = context.seconds(lambda: encode_users(model, past), warm_up=1, least_times=1)
    context.record.measure("encoding", **_rates(encoding, users=len(past), events=past.events))
    hidden_Ud, index = encode_users(model, past), build(stored, stored.candidate_items, MatmulSearcher.name)
    named = {"k": settings.k, "exclude_seen": settings.exclude_seen}
    started = time.perf_counter()
    retrieve(stored, index, past, hidden_Ud, **named)
    retrieval = time.perf_counter() - started
    started = time.perf_counter()
    rank_all(model, past, stored.candidate_items, **named)
    dense = time.perf_counter() - started - encoding
    context.record.measure(
        "scoring: encoding, search, repeat consumption",
        **_rates(encoding + retrieval, users=len(past), events=past.events),
    )
    context.record.measure("search with repeat consumption, without encoding", **_rates(retrieval, users=len(past)))
    context.record.measure("dense ranking, without encoding", **_rates(max(dense, 1e-9), users=len(past)))
    context.record.measure("scoring: memory", peak_GB=context.peak_bytes() / GIGA)


def measure_loss(context: Context, stored: StoredModel, ceilings: Ceilings) -> None:
    """Full softmax, forward and backward: three matrix products of float32, 6 R V X FLOP."""
    rows, model = (64 if context.tiny else 4096), stored.model
    device, dim, items = context.device, model.config.dim + 2, len(stored.candidate_items)
    queries = torch.randn(rows, dim, device=device, requires_grad=True)
    vectors = torch.randn(items, dim, device=device, requires_grad=True)
    scale = torch.ones((), device=device, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.long, device=device)
    targets = torch.arange(rows, device=device), torch.randint(0, items, (rows,), device=device)

    def work() -> None:
        score = Score("squared", torch.full((), 64.0, device=device), scale)
        empty = torch.zeros(0, device=device)
        entries = (nothing, nothing)
        loss = blocked_cross_entropy(queries, vectors, score, entries=entries, rate_E=empty, targets=targets)
        torch.autograd.grad(loss, [queries, vectors, scale])

    context.peak_bytes()
    seconds = context.seconds(work)
    rate = 6 * rows * items * dim / seconds
    context.record.measure(
        "loss, forward and backward",
        rows_a_second=rows / seconds,
        TFLOP_a_second=rate / TERA,
        share_of_the_fp32_ceiling=rate / ceilings["fp32"],
        peak_GB=context.peak_bytes() / GIGA,
    )


def measure_search(context: Context, stored: StoredModel, ceilings: Ceilings) -> None:
    """The product of queries and items alone, and with top-k: 2 U V X FLOP."""
    users, k = (64 if context.tiny else 4096), min(context.shop.config.candidates.k, len(stored.candidate_items))
    with torch.inference_mode():
        items = stored.model.item_vectors(torch.from_numpy(stored.candidate_items.eligible).to(context.device))
        queries = torch.randn(users, items.shape[1], device=context.device)
        for name, work in (
            ("matrix product of the search", lambda: queries @ items.T),
            (f"search with top {k}", lambda: torch.topk(queries @ items.T, k, dim=1)),
        ):
            seconds = context.seconds(work)
            rate = 2 * users * items.shape[0] * items.shape[1] / seconds
            context.record.measure(
                name,
                queries_a_second=users / seconds,
                TFLOP_a_second=rate / TERA,
                share_of_the_fp32_ceiling=rate / ceilings["fp32"],
            )


def measure_scan(context: Context, name: str, scan: Scan, chunk: int, ceilings: Ceilings) -> None:
    """The scan alone at the model's sizes, packed, under autocast as in training.

    FLOP a token: 2 Q N for C.B^T, 2 Q HP inside chunks, 4 N HP for what enters and leaves the state; bytes a token:
    those of its inputs and its output once. Backward counts as twice the forward.
    """
    device, model = context.device, context.shop.config.model
    heads, channels, state = model.dim * model.expand // model.head_dim, model.head_dim, model.d_state
    width, tokens = heads * channels, 128 if context.tiny else 131_072
    x = torch.randn(1, tokens, heads, channels, device=device)
    dt = 0.1 * torch.rand(1, tokens, heads, device=device)
    B, C = (torch.randn(1, tokens, state, device=device) for _ in range(2))
    leaves = [value.requires_grad_() for value in (x, dt, -torch.ones(heads, device=device), B, C)]
    leaves.append(torch.ones(heads, device=device, requires_grad=True))
    segments = (torch.arange(tokens, device=device) // 500)[None]
    upstream = torch.randn_like(x)

    def forward() -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            return scan(*leaves, segment_BT=segments, chunk=chunk)[0]

    def both() -> None:
        y = forward()
        torch.autograd.grad(y, leaves, upstream.to(y.dtype))

    flop = tokens * (2 * chunk * (state + width) + 4 * state * width)
    size = tokens * 4 * (2 * width + 2 * state + heads)
    context.peak_bytes()
    with torch.no_grad():
        alone = context.seconds(forward)
    for what, seconds, times in (("forward", alone, 1), ("forward and backward", context.seconds(both), 3)):
        context.record.measure(
            f"{name}, chunk {chunk}, {what}",
            tokens_a_second=tokens / seconds,
            TFLOP_a_second=times * flop / seconds / TERA,
            share_of_the_bf16_ceiling=times * flop / seconds / ceilings["bf16"],
            GB_a_second=times * size / seconds / GIGA,
            share_of_the_copy_ceiling=times * size / seconds / ceilings["copy"],
        )
    context.record.measure(f"{name}, chunk {chunk}: memory", peak_GB=context.peak_bytes() / GIGA)
