"""bfloat16 against float32: the same batches, the same start, what becomes of loss, gradients and ranking."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from bench.gpu.context import Context
from hmamba.model import lorentz
from hmamba.model.scores import Score
from hmamba.training.fit import Fit, batch_loss

_LOSS, _GRADIENT, _EPOCH_LOSS, _NDCG = 5e-3, 0.99, 1e-2, 0.01
"""Limits: relative difference of the first loss, cosine of its gradients, relative difference of the mean loss of all
steps, difference of validation NDCG@10."""


@contextlib.contextmanager
def geometry_types() -> Iterator[set[torch.dtype]]:
    """Collect the types of all tensors that the geometry and the scores are given."""
    seen: set[torch.dtype] = set()

    def watched(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: Any, **named: Any) -> Tensor:
            seen.update(value.dtype for value in (*arguments, *named.values()) if isinstance(value, Tensor))
            return original(*arguments, **named)

        return call

    with contextlib.ExitStack() as stack:
        for owner, names in (
            (lorentz, ("exp0", "lift", "bound", "distance_from_gap")),
            (Score, ("queries", "items", "logits")),
        ):
            for name in names:
                stack.enter_context(patch.object(owner, name, watched(getattr(owner, name))))
        yield seen


def precision(context: Context) -> None:
    """Train some steps in bfloat16 autocast and in float32 from the same weights, without dropout."""
    shop, record = context.shop, context.record
    shop.config.model.dropout = 0.0  # its random masks would differ between the types
    ready = shop.ready(shop.yesterday, "precision")
    batches = ready.plan.batches
    rows = 2 if context.tiny else 60
    chosen = np.zeros(len(batches.window_end), dtype=bool)
    chosen[np.concatenate(batches.epoch(0)[:rows])] = True
    start = copy.deepcopy(ready.model)
    eligible_V = torch.from_numpy(ready.plan.candidate_items.eligible).to(context.device)

    batch = batches.load(batches.epoch(0)[0])
    losses, gradients = [], []
    for bf16 in (False, True):
        with geometry_types() as types:
            loss = batch_loss(start, batch, eligible_V, bf16=bf16)
        wanted = [p for p in start.parameters() if p.requires_grad]
        gradients.append(torch.autograd.grad(loss, wanted))
        losses.append(float(loss.detach()))
    record.check(
        "geometry stays float32 under autocast",
        types == {torch.float32},
        types=", ".join(sorted(map(str, types))),
    )
    gap = abs(losses[1] - losses[0]) / abs(losses[0])
    record.check("loss of the first batch", gap <= _LOSS, relative_difference=gap, tolerance=_LOSS)
    flat = [torch.cat([g.flatten() for g in part]).double() for part in gradients]
    cosine = float(torch.nn.functional.cosine_similarity(flat[0], flat[1], dim=0))
    finite = bool(torch.isfinite(flat[1]).all())
    record.check("gradients of the first batch", finite and cosine >= _GRADIENT, cosine=cosine, least=_GRADIENT)

    told = {}
    for bf16 in (False, True):
        name = "bfloat16" if bf16 else "float32"
        again = shop.ready(shop.yesterday, name, windows=chosen, bf16=bf16)
        again.model.load_state_dict(start.state_dict())
        told[name] = Fit(again.model, again.plan).run()[-1]
    loss32, loss16 = (float(told[name]["loss"]) for name in ("float32", "bfloat16"))
    gap = abs(loss16 - loss32) / loss32
    steps = len(batches.epoch(0, chosen))
    record.check(
        "mean loss of all steps",
        gap <= _EPOCH_LOSS,
        steps=steps,
        float32=loss32,
        bfloat16=loss16,
        relative_difference=gap,
        tolerance=_EPOCH_LOSS,
    )
    if told["float32"]["ndcg@10"] is None:
        record.skip("validation NDCG@10", "nobody can be asked on the validation day")
        return
    ndcg32, ndcg16 = (float(told[name]["ndcg@10"]) for name in ("float32", "bfloat16"))
    record.check(
        "validation NDCG@10",
        abs(ndcg16 - ndcg32) <= _NDCG,
        float32=ndcg32,
        bfloat16=ndcg16,
        tolerance=_NDCG,
    )
    record.measure("seconds of training", **{name: float(facts["seconds"]) for name, facts in told.items()})
