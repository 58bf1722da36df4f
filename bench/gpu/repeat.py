"""Whether the same seed gives the same weights on this device, and what it would cost to make it so."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bench.gpu.context import Context
from hmamba.training.fit import Fit

_DRIFT = 1e-2
"""Largest relative difference of the mean losses of two trainings of the same seed."""


def repeat(context: Context) -> None:
    """Train some steps twice as the night does, and twice with PyTorch's deterministic algorithms."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # deterministic algorithms ask for it, before CUDA starts
    steps = 2 if context.tiny else 40
    shop = context.shop
    plan = shop.ready(shop.yesterday, "plan").plan
    windows = np.zeros(len(plan.batches.window_end), dtype=bool)
    windows[np.concatenate(plan.batches.epoch(0)[:steps])] = True
    # Nobody to ask on the validation days: what is compared and timed is training alone.
    nobody = np.zeros(0, dtype=np.int64)
    evaluation_set = replace(
        plan.evaluation_set, past=plan.evaluation_set.past.select(nobody), rows=nobody, items=nobody
    )

    def train(name: str) -> tuple[float, dict[str, Tensor], float]:
        """Seconds, weights and mean loss after the steps from nothing."""
        ready = shop.ready(shop.yesterday, name, windows=windows, evaluation_set=evaluation_set)
        facts = Fit(ready.model, ready.plan).run()[-1]
        weights = {key: value.cpu() for key, value in ready.model.state_dict().items()}
        return float(facts["seconds"]), weights, float(facts["loss"])

    train("warm up")
    usual = [train(f"usual {number}") for number in range(2)]
    (_, first, loss), (_, second, again) = usual
    gap, where = _difference(first, second)
    drift = abs(loss - again) / abs(loss)
    context.record.check(
        "two trainings of the same seed",
        drift <= _DRIFT,
        steps=steps,
        equal_bit_for_bit="yes" if gap == 0 else "no",
        largest_difference=gap,
        of=where,
        relative_difference_of_the_loss=drift,
        tolerance=_DRIFT,
    )
    torch.use_deterministic_algorithms(True)
    try:
        forced = [train(f"deterministic {number}") for number in range(2)]
    except RuntimeError as error:
        context.record.skip("deterministic algorithms", str(error).splitlines()[0])
        return
    finally:
        torch.use_deterministic_algorithms(False)
    gap, where = _difference(forced[0][1], forced[1][1])
    context.record.check(
        "two trainings of the same seed with deterministic algorithms",
        gap == 0,
        equal_bit_for_bit="yes" if gap == 0 else "no",
        largest_difference=gap,
        of=where,
    )
    context.record.measure(
        f"seconds of {steps} steps",
        usual=min(seconds for seconds, *_ in usual),
        deterministic=min(seconds for seconds, *_ in forced),
    )


def _difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> tuple[float, str]:
    """The largest difference of any weight, and whose."""
    return max((float((first[name] - second[name]).abs().max()), name) for name in first)
