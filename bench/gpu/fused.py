"""mamba_ssm's fused kernels: against the recurrence, and inside the model against the chunked scan."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch

from bench.gpu.context import Context
from bench.gpu.scans import KINDS, PRODUCT, TINY, TOLERANCE, Oracle, compare, relative_error
from hmamba.errors import ConfigError
from hmamba.model import kernels
from hmamba.model.block import SelectiveStateSpace
from hmamba.model.hmamba import HMamba
from hmamba.training.fit import batch_loss

_TRAINED = 20.0  # factor on the item weights: untrained items lie so near the origin that the scan hardly matters
_MODEL_TOLERANCE = {"loss": 1e-5, "hidden states": 2e-4, "gradients": 2e-4}
"""Relative errors of the untrained model with fused kernels (TF32) against the chunked scan (float32). Emulated on a
CPU, TF32 in the scan cost up to 8e-6; a scan that lets users see one another cost 2e-3 of the hidden states."""


def interpreting() -> bool:
    """Whether Triton was asked to interpret its kernels on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1" and not torch.cuda.is_available()


def why_not(context: Context) -> str | None:
    """Why the fused kernels cannot run here; None if they can."""
    if interpreting():
        if np.lib.NumpyVersion(np.__version__) >= "2.4.0":
            return f"Triton's interpreter needs NumPy under 2.4, and this is {np.__version__}"
    elif context.device.type != "cuda":
        return "Triton's kernels need CUDA; TRITON_INTERPRET=1 interprets them on the CPU"
    try:
        if interpreting():
            kernels._combined()
        else:
            kernels.choose("fused", context.device)
    except (ConfigError, ImportError) as error:
        return f"{error} A folder or wheel that holds mamba_ssm can be named with --site."
    return None


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Let mamba_ssm's host code, which asks for the current device and for the card, run without CUDA."""
    card = SimpleNamespace(multi_processor_count=4)
    with (
        patch.object(torch.cuda, "device", lambda _: contextlib.nullcontext()),
        patch.object(torch.cuda, "get_device_properties", lambda _: card),
    ):
        yield


def fused(context: Context) -> None:
    """The fused scan against the recurrence on the CPU.

    Triton compiles each kernel again for lengths of another divisibility, so there are few lengths here, and
    mamba_ssm's deterministic mode spares it the search for the fastest of a hundred variants.
    """
    os.environ["MAMBA_DETERMINISTIC"] = "1"  # read when mamba_ssm is imported
    reason = why_not(context)
    if reason is not None:
        context.record.skip("fused scan", reason)
        return
    oracle = Oracle(TINY, (1, 17, 40)) if context.tiny else Oracle(PRODUCT, (65, 1, 1000, 4000))
    if interpreting():
        # Interpreted products are exact float32.
        with interpreted():
            compare(context, kernels.fused_scan, "fused scan, interpreted", oracle, "float32", KINDS)
        return
    compare(context, kernels.fused_scan, "fused scan", oracle, "tf32", KINDS)
    compare(context, kernels.fused_scan, "fused scan", oracle, "bfloat16", KINDS[:1])


def tuned(context: Context) -> None:
    """The model as the night runs it with the fused kernels, variants searched, against the chunked scan."""
    reason = why_not(context)
    if reason is None and interpreting():
        reason = "Triton's interpreter would take hours over a whole batch"
    if reason is not None:
        context.record.skip("model with fused kernels", reason)
        return
    shop = context.shop
    ready = shop.ready(shop.yesterday, "tuned")
    model = ready.model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        model.tangents.weight.mul_(_TRAINED)
    other = with_fused_kernels(model, context.device)
    batch = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
    eligible_V = torch.from_numpy(ready.plan.candidate_items.eligible).to(context.device)
    losses, gradients, hidden = [], [], []
    for each in (model, other):
        loss = batch_loss(each, batch, eligible_V, bf16=False)
        wanted = [p for p in each.parameters() if p.requires_grad]
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, wanted)]))
        losses.append(loss.detach())
        with torch.inference_mode():
            items, segments = (torch.from_numpy(a).to(context.device)[None] for a in (batch.items, batch.segments))
            hidden.append(each.encode(items, segments))
    for name, (right, actual) in (("loss", losses), ("hidden states", hidden), ("gradients", gradients)):
        error = float((actual - right).norm() / right.norm())
        limit = _MODEL_TOLERANCE[name]
        context.record.check(f"model with fused kernels, {name}", error <= limit, relative_error=error, tolerance=limit)
    loss = batch_loss(other, batch, eligible_V)  # under autocast, as in training
    error = relative_error(loss.detach().double().cpu(), losses[0].double().cpu())
    limit = TOLERANCE["bfloat16"]
    context.record.check("fused kernels under autocast, loss", error <= limit, relative_error=error, tolerance=limit)


def with_fused_kernels(model: HMamba, device: torch.device) -> HMamba:
    """The same model with the fused scan in every block."""
    other = copy.deepcopy(model)
    scan = kernels.choose("fused", device)
    for module in other.modules():
        if isinstance(module, SelectiveStateSpace):
            module.scan = scan
    return other
