"""What training tells, in words: what stopped it, what co-occurrence adds, and what the serving model knows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hmamba.contracts.models import CooccurrenceFit, EpochMetrics
from hmamba.report.gather import Night
from hmamba.report.judged import relative
from hmamba.report.text import counted

VALIDATION = {"ndcg": "validation NDCG@10", "log_likelihood": "validation log-likelihood"}
"""What is measured after each epoch; the more, the better."""


def finite(value: object) -> bool:
    """Whether a figure is a number that can be shown."""
    return isinstance(value, int | float) and math.isfinite(value)


def early_stopping(epochs: Sequence[EpochMetrics]) -> str:
    """By what early stopping judged, and which epoch is kept: the log-likelihood decides where it was measured."""
    likelihoods = {epoch.epoch: epoch.log_likelihood for epoch in epochs if finite(epoch.log_likelihood)}
    measured = likelihoods or {epoch.epoch: epoch.ndcg for epoch in epochs if finite(epoch.ndcg)}
    if not measured:
        return "Nobody could be asked on the validation events, so nothing stopped the training early."
    best = max(measured, key=lambda epoch: measured[epoch] or 0.0)
    kept = f"Epoch {best} is kept" if best else "Epoch 0, the champion before fine-tuning, is kept"
    if not likelihoods:
        return f"Early stopping judged by NDCG@10 on the validation events. {kept}."
    return (
        "Early stopping judged by the mean log-likelihood of the validation answers, because fewer than gate.min_users "
        f"users could be asked: the NDCG@10 of so few is mostly luck. {kept}."
    )


def cooccurrence(fit: CooccurrenceFit) -> str:
    """What the co-occurrence of a model is worth, from the metrics of its training."""
    what = "What followed a user's items in other histories (co-occurrence)"
    weight = f"strength {fit.strength:g} at scale {fit.scale:g}"
    if fit.ndcg is None or fit.ndcg_without is None:
        return f"{what} raises scores with {weight}, untried: nobody could be asked on the validation events."
    asked, without = counted(fit.users, "user"), fit.ndcg_without
    if not fit.strength:
        return f"{what} is left out: no help on the validation events (NDCG@10 {without:.4f} without it, {asked})."
    with_it = fit.ndcg
    change = relative(with_it, without)
    return (
        f"{what} raises scores with {weight}: validation NDCG@10 {with_it:.4f} with it, {without:.4f} without"
        f" ({change + ', ' if change else ''}{asked})."
    )


def what_serves_knows(night: Night) -> str:
    """Up to when the model that serves has counted and learnt; empty where a baseline serves, or nothing is known."""
    gate = night.steps.gate
    if gate is None or night.verdict is None or night.verdict.serving is None or night.baseline is not None:
        return ""
    counts = (
        "The model that serves counts popularity, repeat purchases and co-occurrence up to the end of "
        f"{night.day}; for the verdict they ended where the held-out events begin."
    )
    refit = gate.refit
    if refit is None:
        skipped = f" No refit: {gate.refit_skipped_reason}." if gate.refit_skipped_reason else ""
        return f"{counts}{skipped} Its weights are those that were judged."
    loss = f"loss {refit.loss:.4f}, " if finite(refit.loss) else ""
    return (
        f"{counts} After the verdict it was fine-tuned for one more epoch on the validation and held-out events "
        f"({loss}{refit.seconds:.1f} s)."
    )
